//! What a proxy adds to a client's wait when it is half busy.

use super::{Bench, LOAD_CORE, Load, PLAIN, PROXY_CORE, address, load::COOKIE, row::Row, table};
use crate::{median, say};
use anyhow::{Context, bail};
use std::{net::SocketAddr, process::Command};

/// Seconds for which each proxy shows how much it can do.
const CAPACITY_SECONDS: u32 = 2;

/// Turns of all proxies for each of the other rows' runs. A virtual machine's host takes its processors away now and then, for
/// longer than a 99th percentile here: one turn says nothing, the median of many does.
const TURNS_A_RUN: usize = 4;

impl Bench<'_> {
    /// The table of latencies: all proxies at the same rate, and the backend without a proxy.
    pub(super) fn latency(&self) -> anyhow::Result<()> {
        let contenders = self.contenders(Row::Latency)?;
        let rate = match self.arguments.rate {
            Some(rate) => rate,
            None => self.half_load(&contenders)?,
        };
        say(&format!("latency: {rate:.0} requests a second"));
        let mut direct = [Vec::new(), Vec::new()];
        let mut measured: Vec<[Vec<f64>; 2]> = vec![Default::default(); contenders.len()];
        let turns = self.arguments.runs * TURNS_A_RUN;
        for _ in 0..turns {
            push(&mut direct, self.open_loop(address(PLAIN[0]), rate)?);
            for (contender, columns) in contenders.iter().zip(&mut measured) {
                // Started for each turn, so that the first seconds of a process count.
                let _proxy = contender.start(self.folder, PROXY_CORE)?;
                push(columns, self.open_loop(contender.address, rate)?);
            }
        }
        say(&format!("medians of {turns} turns"));
        let lines =
            contenders.iter().zip(measured).map(|(contender, columns)| (contender.name, columns.map(median)));
        table::latency(direct.map(median), &lines.collect::<Vec<_>>());
        Ok(())
    }

    /// Half of the requests a second that the slowest proxy can do.
    fn half_load(&self, contenders: &[super::Contender]) -> anyhow::Result<f64> {
        let mut slowest = f64::INFINITY;
        for contender in contenders {
            let _proxy = contender.start(self.folder, PROXY_CORE)?;
            let answered = Load::Get("/").run(contender.address, CAPACITY_SECONDS, self.folder)?;
            slowest = slowest.min(answered / f64::from(CAPACITY_SECONDS));
        }
        if slowest.is_finite() { Ok(slowest / 2.0) } else { bail!("no proxy to measure") }
    }

    /// The 50th and 99th percentile, in microseconds.
    fn open_loop(&self, to: SocketAddr, rate: f64) -> anyhow::Result<[f64; 2]> {
        let output = Command::new("taskset")
            .args(["-c", &LOAD_CORE.to_string()])
            .arg(std::env::current_exe()?)
            .args(["open-loop", "--to", &to.to_string(), "--rate", &rate.to_string(), "--header", COOKIE])
            .args(["--seconds", &self.arguments.seconds.to_string()])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut numbers = text.split_whitespace().map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(p50)), Some(Ok(p99))) => Ok([p50, p99]),
            _ => Err(anyhow::anyhow!("{}", String::from_utf8_lossy(&output.stderr).trim().to_owned()))
                .with_context(|| format!("open loop at {to}")),
        }
    }
}

fn push(columns: &mut [Vec<f64>; 2], values: [f64; 2]) {
    columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
}
