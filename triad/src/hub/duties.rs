//! What a hub server does by itself, and most of it only while it leads: confirm itself to watchers, hear the others' clocks, expire,
//! mark versions and times in the log, and miss heartbeats.

use super::{CLOCKS, Hub};
use crate::{
    command::{EXPIRE_UNUSED, VERSION},
    probe,
    raft::silence::Deafness,
    state::MARK_MS,
};
use common::witness::TIMES;
use proto::hub::v1::{
    Command, ExpireCached, ExpireRollouts, ExpireSessions, ExpireTokens, ExpireUnused, MemberState, command,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often the leader looks after its duties.
const TICK: Duration = Duration::from_millis(200);
/// How often the leader gives a sign of life to watchers that do not ask for it.
const ALIVE: Duration = Duration::from_millis(100);
/// How often the leader tells its watchers of its members' CPU loads, if there is news.
const LOADS: Duration = Duration::from_secs(1);
/// Deadlines looked at in one batch.
const EXPIRE_LIMIT: u32 = 1000;
/// Batches of expiry in one tick, so that it never crowds saves out.
const EXPIRE_ROUNDS: usize = 20;

impl Hub {
    /// Runs until stopped.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut led_term = None;
        let mut known = None;
        let mut looked: Option<Instant> = None;
        let mut told: Option<Instant> = None;
        loop {
            tokio::select! {
                () = self.node.changed_role(TICK) => {}
                () = stop.cancelled() => break,
            }
            self.settling();
            let position = self.node.position();
            if position.leader.is_some() && known != Some((position.leader, position.term)) {
                known = Some((position.leader, position.term));
                let leader = position.leader.and_then(|it| self.name(it));
                tracing::info!(leader = %leader.map_or("unknown", |it| it.as_str()), term = position.term, "the hub has a leader");
            }
            let leads = position.is_leader.then_some(position.term);
            if leads != led_term {
                (led_term, looked) = (leads, None);
                self.feed.end_but_of(leads);
                if leads.is_some() {
                    self.heartbeats.restart(self.now());
                }
            }
            if leads.is_some() {
                let now = self.now();
                if looked.is_none_or(|it| now.saturating_duration_since(it) >= self.heartbeat_interval) {
                    looked = Some(now);
                    self.look_for_the_dead();
                }
                if told.is_none_or(|it| now.saturating_duration_since(it) >= LOADS) && self.vouches() {
                    told = Some(now);
                    self.feed.loads(self.heartbeats.take_loads());
                }
                self.lead().await;
            }
            self.node.tidy().await;
        }
        self.feed.end();
    }

    /// Dials the members whose watch would not tell of their end: all of them when a term begins.
    fn look_for_the_dead(self: &Arc<Self>) {
        let unwatched: Vec<String> = {
            let applied = self.node.view().read();
            let living = applied.state.members().iter().filter(|it| it.state() != MemberState::Down);
            living.map(|it| it.id.clone()).filter(|it| !self.feed.is_watching(it)).collect()
        };
        for id in &unwatched {
            probe::suspect(self, id);
        }
    }

    /// Tells watchers that never ask that this server leads, while a majority says so; apart from its other duties, which may wait for
    /// the disk. A leader that no majority answers falls silent to the other hub servers as well, after a while.
    pub(crate) async fn vouch(self: Arc<Self>, stop: CancellationToken) {
        let mut deafness = Deafness::default();
        let mut ticks = tokio::time::interval(ALIVE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            if self.vouches() {
                self.feed.alive();
            }
            self.node.listen(&mut deafness);
        }
    }

    /// Asks the other hub servers for their clocks, until stopped.
    pub(crate) async fn hear_clocks(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(CLOCKS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            self.ask_all(CLOCKS / 2).await;
        }
    }

    async fn lead(&self) {
        if !self.node.is_confirmed(TIMES.confirmed) {
            return;
        }
        let overdue = {
            let applied = self.node.view().read();
            self.heartbeats.overdue(applied.state.members().iter(), self.heartbeat_interval, self.now())
        };
        for set in &overdue {
            tracing::warn!(member = set.id, "no heartbeat: the member is down");
        }
        if !overdue.is_empty() {
            let down = |set| Command { command: Some(command::Command::SetMemberState(set)) };
            self.try_propose(overdue.into_iter().map(down).collect()).await;
        }
        self.mark_version().await;
        self.mark_time().await;
        self.expire().await;
        self.expire_unused().await;
        self.expire_rollouts().await;
        self.expire_tokens().await;
        self.expire_cached().await;
    }

    /// What is cached and over takes no memory any more, and all of it no more than it may.
    async fn expire_cached(&self) {
        let max_bytes = self.cache_memory_max();
        for _ in 0..EXPIRE_ROUNDS {
            let now_ms = self.now_ms();
            let is_due = {
                let applied = self.node.view().read();
                let caches = applied.state.caches();
                caches.next_deadline_ms().is_some_and(|at_ms| at_ms <= now_ms) || caches.bytes() > max_bytes
            };
            if !is_due {
                return;
            }
            let expire = command::Command::ExpireCached(ExpireCached { limit: EXPIRE_LIMIT, max_bytes });
            if !self.try_propose(vec![Command { command: Some(expire) }]).await {
                return;
            }
        }
    }

    async fn expire(&self) {
        for _ in 0..EXPIRE_ROUNDS {
            let now_ms = self.now_ms();
            let due = self.node.view().read().state.next_deadline_ms();
            if due.is_none_or(|at_ms| at_ms > now_ms) {
                break;
            }
            let expire = command::Command::ExpireSessions(ExpireSessions { limit: EXPIRE_LIMIT });
            if !self.try_propose(vec![Command { command: Some(expire) }]).await {
                break;
            }
        }
    }

    /// Rollouts that have taken too long have failed.
    async fn expire_rollouts(&self) {
        let now_ms = self.now_ms();
        let due = self.node.view().read().state.apps().next_deadline_ms();
        if due.is_some_and(|at_ms| at_ms <= now_ms) {
            let expire = command::Command::ExpireRollouts(ExpireRollouts {});
            self.try_propose(vec![Command { command: Some(expire) }]).await;
        }
    }

    /// Tokens whose time is over let nobody in any more.
    async fn expire_tokens(&self) {
        let now_ms = self.now_ms();
        let due = self.node.view().read().state.tokens().next_deadline_ms();
        if due.is_some_and(|at_ms| at_ms <= now_ms) {
            let expire = command::Command::ExpireTokens(ExpireTokens {});
            self.try_propose(vec![Command { command: Some(expire) }]).await;
        }
    }

    /// When memory is scarce, ends sessions that nobody has used since they were made, those of the app that takes the most first.
    async fn expire_unused(&self) {
        for _ in 0..EXPIRE_ROUNDS {
            let (commands, taken) = {
                let applied = self.node.view().read();
                (applied.state.commands(), applied.state.memory().bytes())
            };
            let Some(first) = self.admission.first_timeout(taken).filter(|_| commands >= EXPIRE_UNUSED)
            else {
                return;
            };
            let now_ms = self.now_ms();
            let unused_ms = u64::try_from(first.as_millis()).unwrap_or(u64::MAX);
            let app = {
                let applied = self.node.view().read();
                applied.state.largest_unused(now_ms, unused_ms).map(str::to_owned)
            };
            let Some(app) = app else { return };
            let expire = ExpireUnused { app, unused_ms, limit: EXPIRE_LIMIT };
            let expire = command::Command::ExpireUnused(expire);
            if !self.try_propose(vec![Command { command: Some(expire) }]).await {
                return;
            }
        }
    }

    /// Once all hub servers read the newest commands, the log says so: from then on they may be written while a server is away.
    async fn mark_version(&self) {
        let marked = self.node.view().read().state.commands();
        if marked < VERSION && self.versions.lacking(VERSION).is_none() {
            let written = tokio::time::timeout(TICK, self.proposer.mark(VERSION)).await;
            if let Ok(Ok(())) = written {
                tracing::info!(version = VERSION, "all hub servers read the newest kinds of commands");
            }
        }
    }

    /// Says in the log that the hub is there, if nothing else has: whoever leads next knows how long nobody did.
    async fn mark_time(&self) {
        let unmarked_ms = {
            let now_ms = self.now_ms();
            self.node.view().read().state.unmarked_ms(now_ms)
        };
        if unmarked_ms.is_some_and(|ms| ms >= MARK_MS) {
            self.try_propose(Vec::new()).await;
        }
    }

    /// The hub's time, in the term in which this server leads.
    fn now_ms(&self) -> u64 {
        let state_ms = self.node.view().read().state.time_ms();
        self.time.now_ms(self.node.position().term, state_ms)
    }

    /// Replicates what can as well be done at the next tick; waits not longer than a tick.
    pub(super) async fn try_propose(&self, commands: Vec<Command>) -> bool {
        let bytes = 64 * commands.len();
        match tokio::time::timeout(TICK, self.proposer.propose(commands, bytes)).await {
            Ok(Ok(_)) => true,
            Ok(Err(cause)) => {
                tracing::debug!(%cause, "the leader's own command must wait");
                false
            }
            Err(_) => false,
        }
    }
}
