//! Proxied 100-byte answers over 64 keep-alive connections, the proxy on one core, the load and the backends on the other;
//! CPU time of the proxy a request, which is steadier than requests a second.

use crate::{median, process::Process, say};
use anyhow::{Context, bail};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// The proxy's core, and the one of everything else.
const PROXY_CORE: usize = 0;
const LOAD_CORE: usize = 1;

/// Every request belongs to a session at home on the first server.
const COOKIE: &str = "Cookie: JSESSIONID=aaBenchSession0123456789";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The binary `copal`
    #[arg(long)]
    copal: PathBuf,
    /// The folder of the peers' configurations
    #[arg(long, default_value = "bench/peers")]
    peers: PathBuf,
    /// Runs; the table shows their median
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds a run
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Measures these alone
    #[arg(long)]
    only: Vec<String>,
}

/// A proxy to measure.
struct Contender {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    address: SocketAddr,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let this = std::env::current_exe()?;
    let mut backend = Process::start(
        &this,
        &[
            "backend",
            "--plain",
            "127.0.0.1:18081",
            "--plain",
            "127.0.0.1:18082",
            "--cluster",
            "app-a=127.0.0.1:16800",
            "--cluster",
            "app-b=127.0.0.1:16801",
        ],
        Some(LOAD_CORE),
        &folder.path().join("backend.log"),
    )?;
    backend.listening(address(18081))?;
    backend.listening(address(16801))?;

    let contenders: Vec<_> = contenders(arguments, folder.path())?
        .into_iter()
        .filter(|it| arguments.only.is_empty() || arguments.only.iter().any(|name| name == it.name))
        .collect();
    let mut measured = vec![(Vec::new(), Vec::new()); contenders.len()];
    for _ in 0..arguments.runs {
        for (contender, (micros, rates)) in contenders.iter().zip(&mut measured) {
            let (cpu, rate) = measure(contender, arguments.seconds, folder.path())?;
            micros.push(cpu);
            rates.push(rate);
        }
    }
    print(&contenders, measured);
    Ok(())
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn contenders(arguments: &Arguments, folder: &Path) -> anyhow::Result<Vec<Contender>> {
    let peer = |file: &str| -> anyhow::Result<String> {
        let path =
            fs::canonicalize(arguments.peers.join(file)).with_context(|| format!("bench/peers/{file}"))?;
        Ok(path.to_string_lossy().into_owned())
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let data = folder.join("data").to_string_lossy().into_owned();
    let prefix = folder.to_string_lossy().into_owned();
    Ok(vec![
        Contender {
            name: "copal",
            program: arguments.copal.clone(),
            arguments: words(&[
                "start",
                "--server",
                "web-a",
                "--data-dir",
                &data,
                "--conf",
                &peer("copal.yaml")?,
            ]),
            address: address(18090),
        },
        Contender {
            name: "nginx",
            program: "nginx".into(),
            arguments: words(&["-p", &prefix, "-e", "stderr", "-c", &peer("nginx.conf")?]),
            address: address(18091),
        },
        Contender {
            name: "haproxy",
            program: "haproxy".into(),
            arguments: words(&["-f", &peer("haproxy.cfg")?]),
            address: address(18092),
        },
        Contender {
            name: "haproxy-tcp",
            program: "haproxy".into(),
            arguments: words(&["-f", &peer("haproxy-tcp.cfg")?]),
            address: address(18093),
        },
    ])
}

/// CPU microseconds a request, and requests a second.
fn measure(contender: &Contender, seconds: u32, folder: &Path) -> anyhow::Result<(f64, f64)> {
    let words: Vec<_> = contender.arguments.iter().map(String::as_str).collect();
    let log = folder.join(format!("{}.log", contender.name));
    let mut proxy = Process::start(&contender.program, &words, Some(PROXY_CORE), &log)?;
    proxy.listening(contender.address).with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
    wrk(contender.address, 1)?;
    let before = proxy.cpu_seconds()?;
    let requests = wrk(contender.address, seconds)?;
    let used = proxy.cpu_seconds()? - before;
    Ok((used / requests * 1e6, requests / f64::from(seconds)))
}

/// Answered requests in this time; any other answer than 2xx is an error.
fn wrk(address: SocketAddr, seconds: u32) -> anyhow::Result<f64> {
    let output = Command::new("taskset")
        .args(["-c", &LOAD_CORE.to_string(), "wrk", "-t1", "-c64", "-d", &format!("{seconds}s")])
        .args(["-H", COOKIE, &format!("http://{address}/")])
        .output()
        .context("wrk can't be started: is it installed?")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text.contains("Non-2xx") || text.contains("Socket errors") {
        bail!("wrk at {address}: {text}");
    }
    let line =
        text.lines().find(|line| line.contains(" requests in ")).context("wrk says how many requests")?;
    line.split_whitespace().next().and_then(|count| count.parse().ok()).context("wrk's count is a number")
}

fn print(contenders: &[Contender], measured: Vec<(Vec<f64>, Vec<f64>)>) {
    let rows: Vec<_> = measured.into_iter().map(|(micros, rates)| (median(micros), median(rates))).collect();
    let copal = rows.first().map_or(f64::NAN, |(micros, _)| *micros);
    say("| proxy | CPU µs a request | copal's, as a ratio | requests/s |");
    say("|---|---|---|---|");
    for (contender, (micros, rate)) in contenders.iter().zip(&rows) {
        say(&format!("| {} | {micros:.2} | {:.2} | {rate:.0} |", contender.name, copal / micros));
    }
}
