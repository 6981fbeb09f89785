//! Very many jobs that are due within a minute: how late they come.

use super::{
    Arguments,
    copal::{self, Copal},
};
use anyhow::{Context, bail};
use proto::hub::v1::{JobSpec, PutJob, QueueMessage, job_put, queue_outcome::Outcome, queue_write::Write};
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::mpsc, task::JoinSet};

/// In which time they are due.
const MINUTE_MS: u64 = 60_000;

/// Until the first one.
const AHEAD_MS: u64 = 10_000;

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

async fn put(copal: &Arc<Copal>, number: usize, at_ms: u64) -> anyhow::Result<()> {
    let message = QueueMessage { queue: "bench".into(), app: "bench".into(), ..QueueMessage::default() };
    let spec = JobSpec {
        name: format!("job-{number}"),
        app: "bench".into(),
        at_ms,
        message: Some(message),
        ..JobSpec::default()
    };
    let put = PutJob { spec: Some(spec), tag: "bench".into(), ..PutJob::default() };
    match copal.write(Write::PutJob(put)).await? {
        Outcome::JobPut(it) if matches!(it.outcome, Some(job_put::Outcome::Job(_))) => Ok(()),
        other => bail!("{other:?}"),
    }
}

/// Milliseconds from when a job is due until its handler is called: the 99th of 100, and the middle.
pub(super) async fn measure(arguments: &Arguments, folder: &Path) -> anyhow::Result<(f64, String)> {
    let count = arguments.jobs;
    let (copal, _processes) = copal::start(arguments, folder).await?;
    let (sender, mut handled) = mpsc::unbounded_channel();
    copal.consume_timed(sender);
    let first_ms = now_ms() + AHEAD_MS;
    let mut putting = JoinSet::new();
    for lane in 0..64 {
        let copal = copal.clone();
        putting.spawn(async move {
            for number in (lane..count).step_by(64) {
                let at_ms = first_ms + number as u64 * MINUTE_MS / count as u64;
                put(&copal, number, at_ms).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(put) = putting.join_next().await {
        put??;
    }
    if now_ms() >= first_ms {
        bail!("it took {} s to put {count} jobs: they are late from the begin", AHEAD_MS / 1000);
    }
    let mut late = Vec::with_capacity(count);
    while late.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(20), handled.recv()).await?;
        let (due_ms, came_ms) = next.context("its consumer has ended")?;
        late.push(came_ms.saturating_sub(due_ms));
    }
    late.sort_unstable();
    let at = |share: usize| late.get((late.len() * share / 100).min(late.len() - 1)).copied().unwrap_or(0);
    let text = format!(
        "ms late, the 99th of 100 of {count} jobs; the middle {} ms, the last {} ms",
        at(50),
        at(100)
    );
    Ok((at(99) as f64, text))
}

impl Copal {
    /// Consumes: for when each message was due, and when it came.
    fn consume_timed(self: &Arc<Self>, handled: mpsc::UnboundedSender<(u64, u64)>) {
        let begun = move |message: &QueueMessage| {
            let due = message.meta.iter().find(|it| it.name == "due").and_then(|it| it.value.parse().ok());
            let _over = handled.send((due.unwrap_or(0), now_ms()));
        };
        self.clone().consume_each(begun, drop);
    }
}
