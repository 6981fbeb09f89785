//! What the services share: who leads and may say so, what is proposed and read. What a leader does by itself is in `duties`.

mod duties;
mod job_watch;
mod lease_watch;
mod queue_rates;
mod queue_watch;

use crate::{
    absence::Absence,
    admission::Admission,
    command::version,
    config::HubServerConfig,
    feed::Feed,
    heartbeats::Heartbeats,
    probes::Probes,
    proposer::Proposer,
    raft::node::Node,
    reader::Reader,
    refusal::Refusal,
    serve::Caller,
    state::Reply,
    time::HubTime,
    versions::{Lacking, Versions},
};
use common::{clock::Clock, id::ServerId, witness::TIMES};
use futures_util::future::join_all;
use proto::hub::v1::{Command, SetMemberState};
use queue_rates::QueueRates;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tonic::Status;

/// A leader that no majority has confirmed for so long may have a successor by now: what only a leader remembers is not told to it.
const LATELY: Duration = Duration::from_secs(1);
/// How often the other hub servers are asked for their clocks; it keeps the connections for votes open, too.
const CLOCKS: Duration = Duration::from_secs(1);

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
    cache_memory_max: u64,
    queue_memory_max: u64,
    queue_rates: QueueRates,
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
            cache_memory_max: config.cache_memory_max,
            queue_memory_max: config.queue_memory_max,
            queue_rates: QueueRates::default(),
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

    /// How fast messages come and go.
    pub(crate) fn queue_rates(&self) -> &QueueRates {
        &self.queue_rates
    }

    /// What caches may take, in bytes.
    pub(crate) fn cache_memory_max(&self) -> u64 {
        self.cache_memory_max
    }

    /// What messages may take, in bytes.
    pub(crate) fn queue_memory_max(&self) -> u64 {
        self.queue_memory_max
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
}
