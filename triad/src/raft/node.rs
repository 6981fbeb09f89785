//! This server's Raft: started on its folder, asked to replicate, to confirm reads and to say where it stands.

use super::{
    Data, Raft, Types,
    bootstrap::{self, Standing},
    log::{Log, SEGMENT_BYTES},
    machine::{Machine, View},
    network::Peers,
    server::RaftService,
    settings,
    silence::Deafness,
    snapshots::Snapshots,
};
use crate::{
    config::HubServerConfig,
    disk::{Disk, Folder},
    error::TriadError,
    feed::Feed,
    hub_status::HubRole,
    refusal::Refusal,
    state::Reply,
};
use common::clock::Clock;
use futures_util::{StreamExt, stream::FuturesUnordered};
use openraft::{
    Instant, LinearizerOption, ServerState,
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, Fatal, ForwardToLeader, LinearizableReadError, RaftError},
    impls::OneshotResponder,
    raft::ClientWriteResult,
};
use proto::hub::v1::{DialMember, HubHelloReply};
#[cfg(test)]
use proto::hub::v1::{RaftVoteRequest, raft_server::Raft as _};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A linearizable read waits so long for a majority to confirm the leader.
const READ: Duration = Duration::from_secs(2);

/// A snapshot is taken when more than this, and more than the last snapshot's size, was written since.
const SNAPSHOT_BYTES: u64 = 64 << 20;
/// Or after so many entries, which bounds the index in memory.
const SNAPSHOT_ENTRIES: u64 = 500_000;

/// So much of the log stays behind a snapshot, for followers that are a little late.
const LOG_KEPT_BYTES: u64 = 32 << 20;

/// Where this server stands in Raft.
#[derive(Debug, Clone)]
pub(crate) struct Position {
    pub(crate) leader: Option<u64>,
    pub(crate) is_leader: bool,
    pub(crate) term: u64,
    pub(crate) state: ServerState,
    pub(crate) last_log: Option<u64>,
    pub(crate) committed: Option<u64>,
    pub(crate) applied: Option<u64>,
    /// On a leader: how long ago a majority confirmed it.
    pub(crate) quorum_ack: Option<Duration>,
}

/// How far another hub server is, as this leader knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Follower {
    pub(crate) node: u64,
    /// The last entry that it is known to have.
    pub(crate) matched: Option<u64>,
    /// How long ago it answered.
    pub(crate) heard: Option<Duration>,
}

/// This server's Raft.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    raft: Raft,
    log: Log,
    view: View,
    snapshots: Snapshots,
    standing: Arc<Standing>,
    peers: Peers,
    clock: Arc<dyn Clock>,
    /// Bytes that sessions may take here.
    session_memory_max: u64,
    servers: u64,
    me: u64,
    stop: CancellationToken,
    /// What kept this server from joining.
    join_failed: watch::Receiver<Option<String>>,
    /// The snapshot's last entry for which the log was purged.
    purged_for: Arc<AtomicU64>,
}

/// The folders that a hub server keeps its data in.
#[derive(Debug)]
pub(crate) struct Disks {
    pub(crate) root: Arc<dyn Disk>,
    pub(crate) log: Arc<dyn Disk>,
    pub(crate) snapshots: Arc<dyn Disk>,
}

impl Disks {
    /// Makes the folders in `data_dir` unless they are there.
    pub(crate) fn open(data_dir: &Path) -> std::io::Result<Self> {
        let hub = data_dir.join("hub");
        Ok(Self {
            root: Arc::new(Folder::open(&hub)?),
            log: Arc::new(Folder::open(&hub.join("log"))?),
            snapshots: Arc::new(Folder::open(&hub.join("snapshots"))?),
        })
    }
}

/// The outcome of a batch, to be awaited.
pub(crate) type Outcome = tokio::sync::oneshot::Receiver<ClientWriteResult<Types>>;

impl Node {
    /// Opens the folder and starts Raft; a server without data joins in the background.
    pub(crate) async fn start(
        config: &HubServerConfig,
        me: u64,
        disks: Disks,
        feed: Arc<Feed>,
        stop: CancellationToken,
    ) -> Result<Self, TriadError> {
        let names: Vec<String> = config.servers.iter().map(|(id, _)| id.to_string()).collect();
        let opened = tokio::task::spawn_blocking(move || {
            let (log, age) =
                Log::open(disks.log, SEGMENT_BYTES).map_err(|it| TriadError::Storage(it.to_string()))?;
            let standing = Standing::open(disks.root, me, &names, age)
                .map_err(|it| TriadError::Storage(it.to_string()))?;
            let snapshots =
                Snapshots::open(disks.snapshots).map_err(|it| TriadError::Storage(it.to_string()))?;
            Ok::<_, TriadError>((log, Arc::new(standing), snapshots))
        });
        let (log, standing, snapshots) = opened.await.map_err(|it| TriadError::Storage(it.to_string()))??;
        let view = View::default();
        let peers = Peers::new(&config.me, &config.servers, &config.credentials);
        let machine = Machine::new(view.clone(), feed, snapshots.clone());
        let raft_config = settings::raft().validate().map_err(|it| TriadError::Raft(it.to_string()))?;
        let raft = Raft::build(me, Arc::new(raft_config), peers.clone(), log.clone(), machine)
            .await
            .map_err(|it| TriadError::Raft(it.to_string()))?;
        // Joining allows it.
        raft.runtime_config().elect(false);
        raft.run();
        let servers = peers.count();
        let joining =
            bootstrap::join(raft.clone(), log.clone(), peers.clone(), standing.clone(), stop.clone());
        let (failure, join_failed) = watch::channel(None);
        tokio::spawn(async move {
            if let Err(cause) = joining.await {
                tracing::error!(%cause, "this server can't join the hub: its disk fails");
                failure.send_replace(Some(cause.to_string()));
            }
            // Kept: its end would read as a failure.
            failure.closed().await;
        });
        let purged_for = Arc::new(AtomicU64::new(0));
        let clock = config.clock.clone();
        Ok(Self {
            raft,
            log,
            view,
            snapshots,
            standing,
            peers,
            clock,
            session_memory_max: config.session_limits.max,
            servers,
            me,
            stop,
            join_failed,
            purged_for,
        })
    }

    /// What the other hub servers call.
    pub(crate) fn service(&self) -> RaftService {
        let (raft, snapshots) = (self.raft.clone(), self.snapshots.clone());
        let (standing, clock, view) = (self.standing.clone(), self.clock.clone(), self.view.clone());
        RaftService::new(raft, snapshots, standing, clock, view, self.session_memory_max)
    }

    /// This server's place in the hub.
    pub(crate) fn me(&self) -> u64 {
        self.me
    }

    /// What another hub server says of its clock and of the commands that it reads; `None` when it does not answer in time.
    pub(crate) async fn ask(&self, node: u64, within: Duration) -> Option<HubHelloReply> {
        self.peers.hello(node, self.standing.greeting(), within).await.ok()
    }

    /// Whether a member refuses the connection of at least one other hub server, as far as they answer in time.
    pub(crate) async fn ask_dial(&self, id: &str, started_ms: u64, within: Duration) -> bool {
        let others = (0..self.servers).filter(|it| *it != self.me);
        let asked = others.map(|node| {
            let member = DialMember { id: id.to_owned(), started_ms };
            Box::pin(async move { self.peers.dial_member(node, member, within).await })
        });
        let mut answers: FuturesUnordered<_> = asked.collect();
        while let Some(answer) = answers.next().await {
            if answer.is_ok_and(|it| it.refused) {
                return true;
            }
        }
        false
    }

    /// The state, for reading.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// Whether this server takes part: it has its data, has applied something, and leads or has just heard the
    /// leader.
    pub(crate) fn is_ready(&self) -> bool {
        let position = self.position();
        let lately = Duration::from_secs(1);
        let led = match position.leader {
            Some(leader) if leader == self.me => self.is_confirmed(lately),
            Some(_) => self.standing.has_heard_leader(lately),
            None => false,
        };
        led && position.applied.is_some() && self.standing.is_member()
    }

    /// Where this server stands. One whose Raft or log has ended knows no leader, least of all itself: the library's last word
    /// stays as it was.
    pub(crate) fn position(&self) -> Position {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let runs = metrics.running_state.is_ok() && !self.log.has_failed();
        Position {
            leader: metrics.current_leader.filter(|_| runs),
            is_leader: runs && metrics.state == ServerState::Leader,
            term: metrics.current_term,
            state: if runs { metrics.state } else { ServerState::Shutdown },
            last_log: metrics.last_log_index,
            committed: metrics.local_committed.as_ref().map(|it| it.index),
            applied: metrics.last_applied.as_ref().map(|it| it.index),
            quorum_ack: metrics.last_quorum_acked.as_ref().map(|it| it.elapsed()),
        }
    }

    /// How far the others are; nothing where this server does not lead.
    pub(crate) fn followers(&self) -> Vec<Follower> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let heartbeat = metrics.heartbeat.as_ref();
        let heard = |node: &u64| heartbeat?.get(node)?.as_ref().map(|it| it.elapsed());
        let others = metrics.replication.iter().flatten().filter(|(node, _)| **node != self.me);
        let follower = others.map(|(node, matched)| Follower {
            node: *node,
            matched: matched.as_ref().map(|it| it.index),
            heard: heard(node),
        });
        follower.collect()
    }

    /// The last entry that the newest snapshot covers, and the snapshot's length in bytes.
    pub(crate) fn snapshot(&self) -> (Option<u64>, u64) {
        let metrics = self.raft.metrics();
        let covered = metrics.borrow_watched().snapshot.as_ref().map(|it| it.index);
        (covered, self.snapshots.current_bytes())
    }

    /// Resolves when something changes in [`Node::position`], at the latest after `limit`.
    pub(crate) async fn changed(&self, limit: Duration) {
        let mut metrics = self.raft.metrics();
        metrics.borrow_and_update();
        let _or_stopped = tokio::time::timeout(limit, metrics.changed()).await;
    }

    /// Resolves when this server begins or ends to lead or to know a leader, at the latest after `limit`.
    pub(crate) async fn changed_role(&self, limit: Duration) {
        let role = |node: &Self| {
            let position = node.position();
            (position.is_leader, position.leader, position.term)
        };
        let before = role(self);
        let mut metrics = self.raft.server_metrics();
        let changed = async {
            while role(self) == before && metrics.changed().await.is_ok() {}
            if role(self) == before {
                // Raft has stopped.
                std::future::pending::<()>().await;
            }
        };
        let _or_late = tokio::time::timeout(limit, changed).await;
    }

    /// This server's part.
    pub(crate) fn role(&self) -> HubRole {
        match self.position().state {
            ServerState::Shutdown => HubRole::Stopped,
            ServerState::Leader => HubRole::Leader,
            _ if !self.standing.is_member() => HubRole::Joining,
            ServerState::Follower | ServerState::Learner => HubRole::Follower,
            ServerState::Candidate => HubRole::Candidate,
        }
    }

    /// Whether a majority is with this leader, as far as it knows from the last `within`.
    pub(crate) fn is_confirmed(&self, within: Duration) -> bool {
        let position = self.position();
        position.is_leader && (self.servers == 1 || position.quorum_ack.is_some_and(|ago| ago < within))
    }

    /// A leader that has not been answered for long falls silent: see [`Deafness`]. Called every 100 ms.
    pub(crate) fn listen(&self, deafness: &mut Deafness) {
        let position = self.position();
        let leads = position.is_leader && self.servers > 1;
        let silent = deafness.look(std::time::Instant::now(), leads, position.quorum_ack);
        if self.peers.silence().set(silent) && silent {
            tracing::warn!(
                "no majority of the hub answers this leader: it falls silent, so that the others can elect another"
            );
        }
    }

    /// Hands a batch to the leader's log, in the order of calls.
    pub(crate) async fn submit(&self, batch: bytes::Bytes) -> Result<Outcome, Refusal> {
        let (responder, outcome) = OneshotResponder::new_pair();
        self.raft.client_write_ff(Data(batch), Some(responder)).await.map_err(|it| fatal(&it))?;
        Ok(outcome)
    }

    /// What became of a batch.
    pub(crate) fn settle(
        result: Result<ClientWriteResult<Types>, tokio::sync::oneshot::error::RecvError>,
    ) -> Result<Vec<Reply>, Refusal> {
        match result {
            Ok(Ok(response)) => Ok(response.data.0),
            // Its fate is open after a change of leader; all commands can be sent again.
            Ok(Err(ClientWriteError::ForwardToLeader(to) | ClientWriteError::LogEntryDiscarded(to))) => {
                Err(not_leader(&to))
            }
            Ok(Err(other)) => Err(Refusal::Stopped(other.to_string())),
            Err(_) => Err(Refusal::Stopped("Raft has stopped".to_owned())),
        }
    }

    /// Waits until the state has all that was acknowledged before the call, on a leader that a majority has confirmed since.
    pub(crate) async fn confirm_read(&self) -> Result<(), Refusal> {
        let option = LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(READ);
        let linearizer = self.raft.get_read_linearizer(option).await.map_err(|cause| match cause {
            RaftError::APIError(LinearizableReadError::ForwardToLeader(to)) => not_leader(&to),
            RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)) => {
                Refusal::Unconfirmed("no majority of the hub answers".to_owned())
            }
            RaftError::Fatal(it) => fatal(&it),
        })?;
        match linearizer.try_await_ready(&self.raft, Some(READ)).await.map_err(|it| fatal(&it))? {
            Ok(_) => Ok(()),
            Err(_) => Err(Refusal::Unconfirmed(format!("the state did not catch up within {READ:?}"))),
        }
    }

    /// Takes a snapshot when enough was written or the last one is damaged, and purges what the last one covers but for a tail.
    pub(crate) async fn tidy(&self) {
        let (bytes, entries) = self.view.unsaved();
        let much = bytes > SNAPSHOT_BYTES.max(self.snapshots.current_bytes()) || entries > SNAPSHOT_ENTRIES;
        if much || self.snapshots.is_damaged() {
            let _or_stopped = self.raft.trigger().snapshot().await;
        }
        let covered = self.raft.metrics().borrow_watched().snapshot.as_ref().map_or(0, |it| it.index);
        if self.purged_for.swap(covered, Ordering::Relaxed) != covered
            && let Some(upto) = self.log.purgeable(covered, LOG_KEPT_BYTES)
        {
            let _or_stopped = self.raft.trigger().purge_log(upto).await;
        }
    }

    /// Waits for a failure of the storage or of the library; pending while all is well or after an ordinary stop.
    pub(crate) async fn failure(&self) -> String {
        let mut disk = self.log.failed();
        let mut join = self.join_failed.clone();
        let metrics = self.raft.metrics();
        // Changes with the role, and ends with the core. The other changes with each entry: whoever waits for that is woken many times a write.
        let mut role = self.raft.server_metrics();
        loop {
            if let Some(cause) = disk.borrow_and_update().clone() {
                return cause;
            }
            if let Some(cause) = join.borrow_and_update().clone() {
                return cause;
            }
            let running = metrics.borrow_watched().running_state.clone();
            match running {
                Ok(()) => {}
                Err(Fatal::Stopped) => std::future::pending().await,
                Err(cause) => return cause.to_string(),
            }
            tokio::select! {
                changed = role.changed() => {
                    if changed.is_err() {
                        // The core has gone; what it says last was read above unless it came with its end.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
                changed = join.changed() => if changed.is_err() {
                    return self.end_of("the task that joins the hub").await;
                },
                changed = disk.changed() => if changed.is_err() {
                    if let Some(cause) = disk.borrow().clone() {
                        return cause;
                    }
                    return self.end_of("the thread that writes the hub's log").await;
                },
            }
        }
    }

    /// A part of this server has ended without a word: a failure, unless all of it is stopping.
    async fn end_of(&self, part: &str) -> String {
        if self.stop.is_cancelled() {
            std::future::pending::<()>().await;
        }
        format!("{part} has ended unexpectedly")
    }

    /// Leads no more, if this server does: hands over to the follower that has the most. True when another one leads.
    pub(crate) async fn hand_over(&self, limit: Duration) -> bool {
        if !self.position().is_leader || self.servers == 1 {
            return true;
        }
        let handed = tokio::time::timeout(limit, async {
            let mut asked = None;
            loop {
                let best = self.best_follower();
                if best.is_some() && asked != best {
                    asked = best;
                    if let Some(to) = best {
                        tracing::info!(to, "hands the leadership over");
                        let _or_stopped = self.raft.trigger().transfer_leader(to).await;
                    }
                }
                self.changed(Duration::from_millis(100)).await;
                let position = self.position();
                if !position.is_leader && position.leader.is_some_and(|it| it != self.me) {
                    return;
                }
            }
        });
        handed.await.is_ok()
    }

    /// The follower that was heard from in the last second and has the most of the log.
    fn best_follower(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let heard = metrics.heartbeat.as_ref()?;
        let recent = |node: &u64| {
            let at = heard.get(node).and_then(Option::as_ref);
            at.is_some_and(|at| at.elapsed() < Duration::from_secs(1))
        };
        let matched = metrics.replication.as_ref()?.iter();
        matched
            .filter(|(node, _)| **node != self.me && recent(node))
            .max_by_key(|(_, at)| **at)
            .map(|(node, _)| *node)
    }

    /// Stops Raft and closes the log.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        let _joined = self.raft.shutdown().await;
        if let Err(cause) = self.log.stop().await {
            tracing::warn!(%cause, "the hub's log was not closed");
        }
    }

    /// Stops Raft without a word to anyone, as far as that can be done to a task.
    #[cfg(test)]
    pub(crate) async fn kill(&self) {
        let _joined = self.raft.shutdown().await;
        let _closed = self.log.stop().await;
    }

    /// Says from now on that this server reads older commands only.
    #[cfg(test)]
    pub(crate) fn pretend_to_read(&self, version: u32) {
        self.standing.reads.store(version, Ordering::Relaxed);
    }

    /// Asks this server for a vote as another one does, with a log that is as new as its own. True when it is granted.
    #[cfg(test)]
    pub(crate) async fn grants(&self, candidate: u64) -> bool {
        let known = self.raft.with_raft_state(|it| it.log_ids.last().copied()).await.unwrap();
        let vote = super::Vote::new(self.position().term + 1, candidate);
        let (vote, last) =
            (Some(super::codec::put_vote(&vote)), known.as_ref().map(super::codec::put_log_id));
        let asked = RaftVoteRequest { vote, last, leadership_transfer: false, pre: true };
        let answer = self.service().vote(tonic::Request::new(asked)).await;
        answer.is_ok_and(|it| it.into_inner().granted)
    }

    /// Whether it follows a leader that it has just heard, so that nobody else may lead.
    #[cfg(test)]
    pub(crate) fn is_bound(&self) -> bool {
        self.standing.is_bound()
    }

    /// Ends the log's writer, and nothing else, without a word.
    #[cfg(test)]
    pub(crate) async fn end_log(&self) {
        self.log.stop().await.unwrap();
    }

    /// Asks for the leadership to be handed to `to`. From then on this leader writes nothing, and sends no heartbeats: if `to` does not
    /// get it, another election is near.
    pub(crate) async fn transfer(&self, to: u64) {
        let _or_stopped = self.raft.trigger().transfer_leader(to).await;
    }

    /// Takes a snapshot and purges the whole log that it covers.
    #[cfg(test)]
    pub(crate) async fn snapshot_and_purge(&self) {
        let applied = self.position().applied;
        self.raft.trigger().snapshot().await.unwrap();
        let wait = self.raft.wait(Some(Duration::from_secs(10)));
        let metrics = wait.metrics(|it| it.snapshot.map(|it| it.index) >= applied, "snapshot").await.unwrap();
        self.raft.trigger().purge_log(metrics.snapshot.unwrap().index).await.unwrap();
        let wait = self.raft.wait(Some(Duration::from_secs(10)));
        wait.metrics(|it| it.purged.map(|it| it.index) >= applied, "purged").await.unwrap();
    }
}

fn not_leader(to: &ForwardToLeader<Types>) -> Refusal {
    Refusal::NotLeader(to.leader_id)
}

fn fatal(cause: &Fatal<Types>) -> Refusal {
    Refusal::Stopped(cause.to_string())
}
