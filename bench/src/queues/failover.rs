//! How long nothing is acknowledged when the hub's leader is killed.

use super::{
    Arguments, BYTES, DEADLINE,
    copal::{self, Copal, SERVERS},
};
use crate::median;
use anyhow::Context;
use bytes::Bytes;
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Leaders that are killed, one after the other.
const KILLS: usize = 5;

/// Between two: the one that was killed is back, and has all that it missed.
const CALM: Duration = Duration::from_secs(3);

/// Publishes one message after the other, and tells when the last one was acknowledged.
async fn publish(copal: Arc<Copal>, acknowledged: watch::Sender<Instant>) -> anyhow::Result<()> {
    let body = Bytes::from(vec![b'm'; BYTES]);
    loop {
        copal.publish_many("failover", &body, 1).await?;
        acknowledged.send_replace(Instant::now());
    }
}

/// Milliseconds from a kill to the next acknowledgement: the middle one.
pub(super) async fn measure(arguments: &Arguments, folder: &Path) -> anyhow::Result<(f64, String)> {
    let (copal, mut processes) = copal::start(arguments, folder).await?;
    let (sender, mut acknowledged) = watch::channel(Instant::now());
    let publisher = tokio::spawn(publish(copal.clone(), sender));
    let mut took = Vec::new();
    for _ in 0..KILLS {
        tokio::time::sleep(CALM).await;
        let leader = copal.leader().await?;
        let place = SERVERS.iter().position(|(id, _)| *id == leader.as_str()).context("who leads")?;
        let killed = Instant::now();
        let process = processes.remove(place);
        drop(process);
        let next = acknowledged.wait_for(|at| *at > killed + Duration::from_millis(20));
        let next = *tokio::time::timeout(DEADLINE, next).await.context("nobody leads")??;
        took.push((next - killed).as_secs_f64() * 1e3);
        processes.insert(place, copal::start_one(arguments, folder, place)?);
    }
    publisher.abort();
    let all = took.iter().map(|it| format!("{it:.0}")).collect::<Vec<_>>().join(", ");
    Ok((median(took), format!("ms from kill -9 of the leader to the next acknowledgement, of {all}")))
}
