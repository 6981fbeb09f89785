//! Memory of a proxy for each idle connection.

use super::{Bench, Contender, LOAD_CORE, PROXY_CORE, load::COOKIE, row::Row, table};
use crate::{median, process::Process, say};
use anyhow::bail;
use std::io::{BufRead, BufReader};

/// Files that a proxy and a client have open besides the connections.
const OTHER_FILES: u64 = 300;

impl Bench<'_> {
    /// The table of memory.
    pub(super) fn memory(&self) -> anyhow::Result<()> {
        let affordable = usize::try_from(self.open_files.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
        let count = self.arguments.connections.min(affordable);
        if count < self.arguments.connections {
            let limit = self.open_files;
            say(&format!("idle: {count} connections alone: a process may have {limit} files open here"));
        }
        let contenders = self.contenders(Row::Idle)?;
        let mut measured = vec![Vec::new(); contenders.len()];
        for _ in 0..self.arguments.runs {
            for (contender, bytes) in contenders.iter().zip(&mut measured) {
                bytes.push(self.bytes_each(contender, count)?);
            }
        }
        let lines = contenders.iter().zip(measured).map(|(contender, bytes)| (contender.name, median(bytes)));
        table::memory(count, &lines.collect::<Vec<_>>());
        Ok(())
    }

    /// How much a proxy grows by `count` connections that have asked once and then say nothing, for each of them.
    fn bytes_each(&self, contender: &Contender, count: usize) -> anyhow::Result<f64> {
        let proxy = contender.start(self.folder, PROXY_CORE)?;
        // What it allocates for its first clients is not theirs.
        super::Load::Get("/").run(contender.address, 1, self.folder)?;
        let before = proxy.resident_bytes()?;
        let this = std::env::current_exe()?;
        let (to, count_word) = (contender.address.to_string(), count.to_string());
        let words = ["idle", "--to", &to, "--count", &count_word, "--header", COOKIE];
        let (_clients, output) = Process::start_piped(&this, &words, LOAD_CORE)?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        if line.trim() != "open" {
            bail!("{}: {count} connections could not be opened", contender.name);
        }
        Ok((proxy.resident_bytes()? - before) / count as f64)
    }
}
