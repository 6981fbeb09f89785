//! Holds on to this server's leases: one command for all that are due.

use super::{BootTime, Held, Inner};
use proto::hub::v1::RenewLeases;
use std::{
    sync::{Arc, Weak},
    time::Duration,
};

/// How often a lease is renewed; a short one each fifth of its time.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// The least time between two looks: what is asked for meanwhile goes together.
const LOOK_MIN: Duration = Duration::from_millis(5);

/// The wait where there is nothing to hold on to: whoever brings something wakes.
const NOTHING: Duration = Duration::from_secs(60);

/// The wait after a failure.
const AGAIN: Duration = Duration::from_millis(50);

/// One call may take so long: the next one may find another leader.
const CALL_MAX: Duration = Duration::from_millis(1000);

/// The most leases of one call.
const CALL_LEASES: usize = 10_000;

/// Runs until the leases are gone.
pub(super) async fn run(leases: Weak<Inner>) {
    loop {
        let Some(inner) = leases.upgrade() else { return };
        let (due, next) = due(&inner);
        let wait = if due.is_empty() { next } else { round(&inner, &due).await };
        tokio::time::sleep(LOOK_MIN).await;
        let woken = tokio::time::timeout(wait, inner.wake.notified());
        // Whether someone calls or not: it is looked again.
        let _ = woken.await;
    }
}

/// What is due now, and else how long it is until something may be.
fn due(inner: &Inner) -> (Vec<Arc<Held>>, Duration) {
    let mut held = inner.lock();
    // What an app has let run out is nobody's any more.
    held.retain(|_, it| {
        let stays = it.is_by_server() || !it.is_past();
        if !stays {
            it.end();
        }
        stays
    });
    let due = held.values().filter(|it| it.is_due(EVERY)).take(CALL_LEASES).cloned().collect();
    let look = |it: &Arc<Held>| if it.is_by_server() { (it.ttl() / 10).min(EVERY / 5) } else { it.left() };
    (due, held.values().map(look).min().unwrap_or(NOTHING))
}

/// Asks the hub once; how long it is to be waited before the next time.
async fn round(inner: &Inner, due: &[Arc<Held>]) -> Duration {
    let (sent, asked) = (BootTime::now(), due.iter().map(|it| it.asked()).collect::<Vec<_>>());
    let renew = RenewLeases {
        server: inner.server.clone(),
        started_ms: inner.started_ms,
        tokens: due.iter().map(|it| it.token()).collect(),
    };
    match inner.hub.renew(renew, CALL_MAX).await {
        Ok(lost) => {
            for (held, asked) in due.iter().zip(asked) {
                if lost.contains(&held.token()) {
                    tracing::warn!(lease = %held.name().name, token = held.token(), "the lease is lost");
                    inner.lock().remove(&held.token());
                    held.end();
                } else {
                    held.renewed(sent, asked);
                }
            }
            Duration::ZERO
        }
        Err(cause) => {
            tracing::debug!(%cause, leases = due.len(), "leases could not be renewed");
            AGAIN
        }
    }
}
