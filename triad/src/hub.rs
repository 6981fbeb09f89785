//! What the services share, and what a leader does by itself: confirm itself to watchers, expire, and miss heartbeats.

use crate::{
    Caller, HubServerConfig,
    absence::Absence,
    admission::Admission,
    command::{EXPIRE_UNUSED, VERSION, version},
    feed::Feed,
    heartbeats::Heartbeats,
    probe::{self, Probes},
    proposer::Proposer,
    raft::{node::Node, silence::Deafness},
    reader::Reader,
    refusal::Refusal,
    state::{MARK_MS, Reply},
    time::HubTime,
    versions::{Lacking, Versions},
};
use common::{clock::Clock, id::ServerId, witness::TIMES};
use futures_util::future::join_all;
use proto::hub::v1::{
    Command, ExpireRollouts, ExpireSessions, ExpireTokens, ExpireUnused, MemberState, SetMemberState, command,
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How often the leader looks after its duties.
const TICK: Duration = Duration::from_millis(200);
/// How often the leader gives a sign of life to watchers that do not ask for it.
const ALIVE: Duration = Duration::from_millis(100);
/// How often the leader tells its watchers of its members' CPU loads, if there is news.
const LOADS: Duration = Duration::from_secs(1);
/// A leader that no majority has confirmed for so long may have a successor by now: what only a leader remembers is not told to it.
const LATELY: Duration = Duration::from_secs(1);
/// How often the other hub servers are asked for their clocks; it keeps the connections for votes open, too.
const CLOCKS: Duration = Duration::from_secs(1);
/// Deadlines looked at in one batch.
const EXPIRE_LIMIT: u32 = 1000;
/// Batches of expiry in one tick, so that it never crowds saves out.
const EXPIRE_ROUNDS: usize = 20;

/// The services' common part.
#[derive(Debug)]
pub(crate) struct Hub {
    node: Node,
    feed: Arc<Feed>,
    heartbeats: Heartbeats,
    probes: Arc<Probes>,
    proposer: Proposer,
    reader: Reader,
    servers: Vec<ServerId>,
    heartbeat_interval: Duration,
    clock: Arc<dyn Clock>,
    time: Arc<HubTime>,
    versions: Versions,
    admission: Admission,
    absence: Mutex<Absence>,
    /// It hands over, and gives no sign of life any more: whoever leads next may do so within milliseconds.
    retires: AtomicBool,
    /// The same for a while: it hands over and goes on as a follower.
    hands_over: AtomicBool,
}

impl Hub {
    pub(crate) fn new(node: Node, feed: Arc<Feed>, config: &HubServerConfig) -> Self {
        let time = Arc::new(HubTime::new(config.clock.clone(), config.servers.len()));
        let versions = Versions::new(config.servers.len(), node.me());
        Self {
            proposer: Proposer::start(node.clone(), time.clone()),
            reader: Reader::start(node.clone()),
            node,
            feed,
            heartbeats: Heartbeats::default(),
            probes: Arc::default(),
            servers: config.servers.iter().map(|(id, _)| id.clone()).collect(),
            heartbeat_interval: config.heartbeat_interval,
            clock: config.clock.clone(),
            time,
            versions,
            admission: Admission::new(config.session_limits, config.servers.len()),
            absence: Mutex::default(),
            retires: AtomicBool::new(false),
            hands_over: AtomicBool::new(false),
        }
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    pub(crate) fn heartbeats(&self) -> &Heartbeats {
        &self.heartbeats
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    pub(crate) fn probes(&self) -> &Arc<Probes> {
        &self.probes
    }

    /// Whether one server's word is enough: of two, the other one may be what died.
    pub(crate) fn is_small(&self) -> bool {
        self.servers.len() <= 2
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// The hub's time, for who leads it.
    pub(crate) fn time_ms(&self) -> u64 {
        let state_ms = self.node.view().read().state.time_ms();
        self.time.now_ms(self.node.position().term, state_ms)
    }

    /// The name of the hub server `node`.
    pub(crate) fn name(&self, node: u64) -> Option<&ServerId> {
        self.servers.get(usize::try_from(node).ok()?)
    }

    /// Refuses where another server leads.
    pub(crate) fn must_lead(&self) -> Result<(), Status> {
        let position = self.node.position();
        if position.is_leader {
            return Ok(());
        }
        Err(Refusal::NotLeader(position.leader).status(&self.servers))
    }

    /// Whether this server may give signs of life now: it leads, a majority has said so lately, and it means to go on. Whatever a
    /// leader says without that, nobody may go by; so it says as little as possible.
    pub(crate) fn vouches(&self) -> bool {
        !self.is_handing_over() && self.node.is_confirmed(TIMES.confirmed)
    }

    /// Refuses where another server leads, or may lead: where no majority has confirmed this one lately.
    pub(crate) fn must_be_confirmed(&self) -> Result<(), Status> {
        self.must_lead()?;
        if self.node.is_confirmed(LATELY) {
            return Ok(());
        }
        let text = format!("no majority has confirmed this leader within {LATELY:?}");
        Err(Refusal::Unconfirmed(text).status(&self.servers))
    }

    /// From now on this server gives no sign of life and has no watchers: it is about to hand over.
    pub(crate) fn retire(&self) {
        self.retires.store(true, Ordering::SeqCst);
        self.feed.end();
    }

    /// Refuses what a server that hands over begins no more.
    pub(crate) fn must_stay(&self) -> Result<(), Status> {
        if self.is_handing_over() {
            return Err(Refusal::Stopped("it hands over".to_owned()).status(&self.servers));
        }
        Ok(())
    }

    fn is_handing_over(&self) -> bool {
        self.retires.load(Ordering::SeqCst) || self.hands_over.load(Ordering::SeqCst)
    }

    /// From now on this server gives no sign of life, until the lead is handed over; false when that is under way already.
    pub(crate) fn begin_hand_over(&self) -> bool {
        !self.hands_over.swap(true, Ordering::SeqCst)
    }

    /// Another leads, or this server does in another term.
    pub(crate) fn end_hand_over(&self) {
        self.hands_over.store(false, Ordering::SeqCst);
    }

    /// The place of the hub server `id`.
    pub(crate) fn place(&self, id: &str) -> Result<u64, Status> {
        let place = self.servers.iter().position(|it| it.as_str() == id);
        place.map(|it| it as u64).ok_or_else(|| {
            let known = self.servers.iter().map(ServerId::as_str).collect::<Vec<_>>().join(", ");
            let id: String = id.chars().take(64).collect();
            Status::invalid_argument(format!("{id:?} is no server of the hub: expected one of {known}"))
        })
    }

    /// Replicates commands. Of a kind that is new to the log only when all hub servers know it.
    pub(crate) async fn propose(&self, commands: Vec<Command>, bytes: usize) -> Result<Vec<Reply>, Status> {
        self.must_lead()?;
        self.can_be_read(version(&commands)).await.map_err(|it| it.status(&self.servers))?;
        self.proposer.propose(commands, bytes).await.map_err(|it| it.status(&self.servers))
    }

    /// Whether all hub servers have said that they read commands of this version.
    pub(crate) fn all_read(&self, version: u32) -> bool {
        self.node.view().read().state.commands() >= version || self.versions.lacking(version).is_none()
    }

    async fn can_be_read(&self, needed: u32) -> Result<(), Refusal> {
        if needed <= self.node.view().read().state.commands().max(1) {
            return Ok(());
        }
        if self.versions.lacking(needed).is_some() {
            self.ask_all(CLOCKS / 2).await;
        }
        let Some(Lacking { node, reads }) = self.versions.lacking(needed) else { return Ok(()) };
        let server = self.name(node).cloned().unwrap_or_else(|| ServerId::from(node.to_string()));
        Err(match reads {
            Some(reads) => Refusal::Outdated { server, reads, needed },
            None => Refusal::Unheard { server, needed },
        })
    }

    /// When it returns, the state has all that was acknowledged before the call.
    pub(crate) async fn confirm_read(&self) -> Result<(), Status> {
        self.must_lead()?;
        self.reader.confirm().await.map_err(|it| it.status(&self.servers))
    }

    /// The same for what others may answer from memory while there is no hub: after an absence they have told of it as well.
    pub(crate) async fn confirm_session_read(&self) -> Result<(), Status> {
        self.confirm_read().await?;
        let settling = self.settling();
        if settling.is_zero() {
            return Ok(());
        }
        tokio::time::sleep(settling).await;
        self.confirm_read().await
    }

    fn settling(&self) -> Duration {
        let (there, leads) = (self.node.is_ready(), self.node.position().is_leader);
        let empty = self.node.view().read().state.session_count() == 0;
        self.absence.lock().unwrap_or_else(PoisonError::into_inner).look(self.now(), there, leads, empty)
    }

    /// Whether a member's "down" is to be believed: its own, or that of enough hub servers.
    pub(crate) fn believes_down(&self, caller: Option<&Caller>, set: &SetMemberState) -> bool {
        let Some(Caller(caller)) = caller else { return false };
        if caller.as_str() == set.id {
            return true;
        }
        if !self.servers.contains(caller) {
            tracing::debug!(%caller, member = set.id, "only a hub server's word counts on another server");
            return false;
        }
        let needed = if self.is_small() { 1 } else { 2 };
        self.heartbeats.suspect(set, caller, needed, self.heartbeat_interval, self.now())
    }

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
                self.feed.end();
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

    /// Asks the other hub servers for their clocks, the commands that they read and the memory that they have.
    async fn ask_all(&self, within: Duration) {
        let others = (0..self.servers.len() as u64).filter(|it| *it != self.node.me());
        let asked = others.map(|node| async move {
            if let Some(answer) = self.node.ask(node, within).await {
                self.versions.note(node, answer.commands);
                self.admission.note(node, answer.session_memory_max);
                if answer.unix_ms > 0 {
                    self.time.note(node, answer.unix_ms);
                }
            }
        });
        join_all(asked).await;
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
    async fn try_propose(&self, commands: Vec<Command>) -> bool {
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
