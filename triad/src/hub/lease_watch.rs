//! Leases that were not renewed for their whole time are over: the leader's word, by its own monotonic clock. Every hub server looks on as
//! renewals are applied, so that who leads next need not grant everyone a whole time anew. What a server sees it sees later than the holder
//! has sent it, so no holder is believed to have had longer than it had.

use super::Hub;
use proto::hub::v1::{Command, ExpireLeases, Lease, OverdueLease, command};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often it is looked.
const TICK: Duration = Duration::from_millis(50);

/// When what was seen of each lease that is held.
#[derive(Debug, Default)]
pub(super) struct LeaseWatch(HashMap<u64, Seen>);

#[derive(Debug, Clone, Copy)]
struct Seen {
    renewals: u64,
    /// When that count was first seen.
    at: Instant,
    /// In which look it was last there.
    look: u64,
}

impl LeaseWatch {
    /// What is overdue at `now` of the leases that there are.
    fn look<'a>(
        &mut self,
        leases: impl Iterator<Item = &'a Lease>,
        now: Instant,
        look: u64,
    ) -> Vec<OverdueLease> {
        let mut overdue = Vec::new();
        for lease in leases {
            let (token, renewals) = (lease.token, lease.renewals);
            let seen = self.0.entry(token).or_insert(Seen { renewals, at: now, look });
            seen.look = look;
            if seen.renewals != renewals {
                (seen.renewals, seen.at) = (renewals, now);
            } else if now.saturating_duration_since(seen.at) >= Duration::from_millis(lease.ttl_ms) {
                overdue.push(OverdueLease { token, renewals });
            }
        }
        self.0.retain(|_, seen| seen.look == look);
        overdue
    }
}

impl Hub {
    /// Ends leases that are overdue, while this server leads; until stopped.
    pub(crate) async fn expire_leases(self: Arc<Self>, stop: CancellationToken) {
        let (mut watch, mut look) = (LeaseWatch::default(), 0);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            look += 1;
            let leases = self.node().view().read().state.leases().clone();
            let overdue = watch.look(leases.iter(), self.now(), look);
            if overdue.is_empty() || !self.node().position().is_leader {
                continue;
            }
            for lease in leases.iter().filter(|it| overdue.iter().any(|over| over.token == it.token)) {
                let name = lease.key.as_ref().map_or("", |it| &it.name);
                tracing::info!(
                    lease = name,
                    token = lease.token,
                    server = lease.server,
                    "not renewed: the lease is over"
                );
            }
            let expire = command::Command::ExpireLeases(ExpireLeases { overdue });
            // What was not written is overdue the next time as well.
            self.try_propose(vec![Command { command: Some(expire) }]).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_over_when_its_time_has_passed_since_its_last_renewal_was_seen() {
        let (mut watch, start) = (LeaseWatch::default(), Instant::now());
        let lease = |token, renewals, ttl_ms| Lease { token, renewals, ttl_ms, ..Lease::default() };
        let mut look = {
            let mut number = 0;
            move |leases: &[Lease], ms: u64| {
                number += 1;
                let overdue = watch.look(leases.iter(), start + Duration::from_millis(ms), number);
                (overdue.iter().map(|it| (it.token, it.renewals)).collect::<Vec<_>>(), watch.0.len())
            }
        };
        assert_eq!(look(&[lease(1, 0, 5000), lease(2, 7, 1000)], 0), (vec![], 2));
        assert_eq!(look(&[lease(1, 0, 5000), lease(2, 7, 1000)], 999), (vec![], 2));
        assert_eq!(look(&[lease(1, 0, 5000), lease(2, 7, 1000)], 1000), (vec![(2, 7)], 2));
        assert_eq!(look(&[lease(1, 1, 5000)], 4999), (vec![], 1));
        assert_eq!(look(&[lease(1, 1, 5000)], 9998), (vec![], 1));
        assert_eq!(look(&[lease(1, 1, 5000)], 9999), (vec![(1, 1)], 1));
        assert_eq!(look(&[], 9999), (vec![], 0));
        assert_eq!(look(&[lease(1, 1, 5000)], 10_000), (vec![], 1), "seen anew");
    }
}
