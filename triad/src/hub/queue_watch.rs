//! What is due in queues by the clock: delayed messages are ready, times are over, deliveries that were not settled are others'. The leader's word.

use super::Hub;
use proto::hub::v1::{Command, ExpireQueues, command};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often it is looked: a delayed message is late by no more.
const TICK: Duration = Duration::from_millis(20);

/// Who has a message may have settled it while nobody led: a leader lets servers speak first.
const GRACE: Duration = Duration::from_secs(5);

/// What one command does, and the commands of one look.
const LIMIT: u32 = 1000;
const ROUNDS: usize = 20;

impl Hub {
    /// Does what is due, while this server leads; until stopped.
    pub(crate) async fn expire_queues(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut led: Option<(u64, Instant)> = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let position = self.node().position();
            if !position.is_leader {
                led = None;
                self.queue_rates.forget();
                continue;
            }
            let since = led.filter(|(term, _)| *term == position.term).map_or_else(|| self.now(), |it| it.1);
            led = Some((position.term, since));
            let state = self.node().view();
            self.queue_rates.look(self.now(), || state.read().state.queues().clone());
            let deliveries = self.now().saturating_duration_since(since) >= GRACE;
            for _ in 0..ROUNDS {
                let now_ms = self.time_ms();
                let (due, deadline) = self.node().view().read().state.queues().next_due_ms();
                let is_due = |at_ms: Option<u64>| at_ms.is_some_and(|it| it <= now_ms);
                let is_any = is_due(due) || deliveries && is_due(deadline);
                if !is_any || !self.vouches() {
                    break;
                }
                let expire = command::Command::ExpireQueues(ExpireQueues { limit: LIMIT, deliveries });
                if !self.try_propose(vec![Command { command: Some(expire) }]).await {
                    break;
                }
            }
        }
    }
}
