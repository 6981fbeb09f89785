//! Very many messages that wait: what they take in memory, and how long a hub takes to start with them.

use super::{
    Arguments, DEADLINE,
    copal::{self, Copal},
};
use crate::process::Process;
use std::{path::Path, sync::Arc, time::Instant};

const QUEUE: &str = "stock";

/// Of so many parts one is there before any is counted: what a server keeps of its log in memory, 64 MB, is full then.
const PARTS: usize = 3;

/// Messages of one call.
const BATCH: usize = 100;

fn resident(processes: &[Process]) -> anyhow::Result<f64> {
    let all = processes.iter().map(Process::resident_bytes).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(all.iter().sum::<f64>() / all.len() as f64)
}

async fn waits(copal: &Arc<Copal>, count: usize) -> anyhow::Result<()> {
    let all = async {
        while copal.described(QUEUE).await?.ready < count as u64 {}
        anyhow::Ok(())
    };
    tokio::time::timeout(6 * DEADLINE, all).await?
}

/// Seconds to start with them; and what one takes.
pub(super) async fn measure(arguments: &Arguments, folder: &Path) -> anyhow::Result<(f64, String)> {
    // What is published at once, a hundred, goes into it.
    let first = arguments.messages / PARTS / BATCH * BATCH;
    let count = arguments.messages - first;
    let (copal, processes) = copal::start(arguments, folder).await?;
    copal.fill(QUEUE, (first, BATCH), 16).await?;
    waits(&copal, first).await?;
    let before = resident(&processes)?;
    copal.fill(QUEUE, (count, BATCH), 16).await?;
    waits(&copal, arguments.messages).await?;
    let each = (resident(&processes)? - before) / count as f64;
    drop((copal, processes));
    let began = Instant::now();
    let (copal, processes) = copal::start(arguments, folder).await?;
    waits(&copal, arguments.messages).await?;
    let (took, after) = (began.elapsed().as_secs_f64(), resident(&processes)? / 1e6);
    let text = format!(
        "s to start with {} messages of 1 KB (killed; {after:.0} MB a server then); one takes {each:.0} B of a server's memory",
        arguments.messages
    );
    Ok((took, text))
}
