//! Leases that were not renewed for their whole time are over: the leader's word, by its own monotonic clock. Every hub server looks on as
//! renewals are applied, so that who leads next need not grant everyone a whole time anew. What a server sees it sees later than the holder
//! has sent it, so no holder is believed to have had longer than it had.

use super::Hub;
use proto::hub::v1::{Command, ExpireLeases, Lease, OverdueLease, command};
use std::{
    collections::{HashMap, HashSet},
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

/// A lease's time, by this clock: another one may run slower while its machine's time is being corrected. Daemons are killed at 95 %.
fn with_slack(ttl_ms: u64) -> Duration {
    Duration::from_millis(ttl_ms.saturating_add(ttl_ms / 20))
}

/// Leases that one command ends.
const OVERDUE_MAX: usize = 1_000;

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
            } else if now.saturating_duration_since(seen.at) >= with_slack(lease.ttl_ms) {
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
            let mut overdue = watch.look(leases.iter(), self.now(), look);
            overdue.truncate(OVERDUE_MAX);
            if overdue.is_empty() || !self.vouches() {
                continue;
            }
            let tokens: HashSet<u64> = overdue.iter().map(|it| it.token).collect();
            let expire = command::Command::ExpireLeases(ExpireLeases { overdue });
            // What was not written is overdue the next time as well.
            if !self.try_propose(vec![Command { command: Some(expire) }]).await {
                continue;
            }
            let left = self.node().view().read().state.leases().clone();
            let left: HashSet<u64> = left.iter().map(|it| it.token).collect();
            for lease in leases.iter().filter(|it| tokens.contains(&it.token) && !left.contains(&it.token)) {
                let name = lease.key.as_ref().map_or("", |it| &it.name);
                tracing::info!(
                    lease = name,
                    token = lease.token,
                    server = lease.server,
                    "not renewed: the lease is over"
                );
            }
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
        assert_eq!(look(&[lease(1, 0, 5000), lease(2, 7, 1000)], 1049), (vec![], 2));
        assert_eq!(look(&[lease(1, 0, 5000), lease(2, 7, 1000)], 1050), (vec![(2, 7)], 2));
        assert_eq!(look(&[lease(1, 1, 5000)], 4999), (vec![], 1));
        assert_eq!(look(&[lease(1, 1, 5000)], 10_248), (vec![], 1));
        assert_eq!(look(&[lease(1, 1, 5000)], 10_249), (vec![(1, 1)], 1));
        assert_eq!(look(&[], 10_249), (vec![], 0));
        assert_eq!(look(&[lease(1, 1, 5000)], 10_250), (vec![], 1), "seen anew");
    }
}
