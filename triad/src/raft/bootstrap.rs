//! How a hub is founded, and how a server whose data was deleted comes back without endangering what was acknowledged.
//!
//! A server without data acknowledges nothing: it may have voted, and acknowledged, before it lost its data. It asks the others.
//! - All of them are without data too: the first server of the list founds the hub, and writes down who was there by the
//!   random *incarnation* that each drew with its empty folder. Those, and no others, may vote at once, and make the first
//!   entry when the first server does not.
//! - Otherwise it waits until all of them have told what it may have [`Promised`]. Then it takes in what a leader sends that is
//!   not older than that, and votes again when it has everything.
//!
//! docs/decisions/0004-hub-founding.md has the reasons.

use super::{
    Entry, LogId, Raft, Vote, codec,
    log::{Log, LogAge},
    network::Peers,
    promised::Promised,
    settings::LEASE,
};
use crate::{
    command,
    disk::{Disk, write_whole},
};
use futures_util::future::join_all;
use openraft::{
    EntryPayload, Membership,
    impls::leader_id_adv::LeaderId,
    raft::{AppendEntriesRequest, AppendEntriesResponse},
};
use prost::Message;
use proto::hub::v1::{HubHello, HubHelloReply, HubIdentity};
use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const FORMAT: u32 = 1;
const FILE: &str = "identity";

/// How often a server without data asks.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// What a server without data waits for is said again after this.
const TELL_INTERVAL: Duration = Duration::from_secs(30);

/// A founder waits so long for each one before it in the list to make the first entry.
const FOUND_WAIT: Duration = Duration::from_secs(1);

/// Why the hub's folder can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is no identity.
    #[error("the file hub/{FILE} is damaged: {0}. Delete the folder hub so that this server joins anew")]
    Damaged(String),
    /// Written by a newer version.
    #[error("the file hub/{FILE} has format {0}, this server knows {FORMAT}: upgrade it")]
    Format(u32),
    /// Part of the folder was deleted.
    #[error(
        "the folder hub has an identity but no log: part of it was deleted. Delete all of it so that this server joins anew"
    )]
    NoLog,
    /// Part of the folder was deleted.
    #[error(
        "the folder hub has a log but no identity: part of it was deleted. Delete all of it so that this server joins anew"
    )]
    NoIdentity,
    /// The configuration names other servers.
    #[error(
        "the folder hub belongs to server {found} of a hub of {there}; the configuration has {here} and this is {me}"
    )]
    Servers {
        /// Whose folder it is.
        found: String,
        /// The hub that it belongs to.
        there: String,
        /// The hub of the configuration.
        here: String,
        /// This server.
        me: String,
    },
}

/// Whether this server may vote, and what it answers those who ask.
#[derive(Debug)]
pub(crate) struct Standing {
    disk: Arc<dyn Disk>,
    identity: Mutex<HubIdentity>,
    /// On a server that has lost its data: what it may have promised before, once that is known.
    promised: OnceLock<Promised>,
    start: Instant,
    /// Its process before this one may have acknowledged a leader's word until just before `start`.
    led_before: bool,
    /// When a leader was last heard from, in milliseconds after `start`, plus one; 0 for never. What is on disk of a leader
    /// may be long gone.
    heard_ms: AtomicU64,
    /// The newest version of commands that this server says it reads: [`command::VERSION`], but for tests.
    pub(super) reads: AtomicU32,
}

impl Standing {
    /// Reads or makes the identity. The log is made first: one that holds nothing may be what a first start that was
    /// interrupted has left.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        me: u64,
        servers: &[String],
        log: LogAge,
    ) -> Result<Self, IdentityError> {
        let identity = if disk.list()?.iter().any(|it| it == FILE) {
            if log == LogAge::New {
                return Err(IdentityError::NoLog);
            }
            let bytes = crate::disk::read_whole(&*disk.open(FILE)?)?;
            let identity =
                HubIdentity::decode(&bytes[..]).map_err(|it| IdentityError::Damaged(it.to_string()))?;
            check(&identity, me, servers)?;
            identity
        } else if log != LogAge::Used {
            let identity = HubIdentity {
                format: FORMAT,
                incarnation: rand::random(),
                servers: servers.to_vec(),
                node: me,
                member: false,
                founders: Vec::new(),
            };
            write_whole(&*disk, FILE, &identity.encode_to_vec())?;
            identity
        } else {
            return Err(IdentityError::NoIdentity);
        };
        let (identity, start, heard_ms) = (Mutex::new(identity), Instant::now(), AtomicU64::new(0));
        let reads = AtomicU32::new(command::VERSION);
        let (promised, led_before) = (OnceLock::new(), log == LogAge::Used && servers.len() > 1);
        Ok(Self { disk, identity, promised, start, led_before, heard_ms, reads })
    }

    /// Whether this server's memory of its votes and of the log is whole.
    pub(crate) fn is_member(&self) -> bool {
        self.lock().member
    }

    /// Whether this server may help another to lead. One without data may do so in a hub of two: there the other has all
    /// that was ever acknowledged, because both had to have it.
    pub(crate) fn may_vote(&self) -> bool {
        let identity = self.lock();
        identity.member || identity.servers.len() == 2
    }

    /// Whether this server may acknowledge what comes from a leader with this vote. One without data only once it knows what it
    /// may have promised, and only to a leader that is not older than that; in a hub of two the other server knows it all.
    pub(super) fn may_follow(&self, leader: &Vote) -> bool {
        self.may_vote() || self.promised.get().is_some_and(|it| it.allows(leader))
    }

    /// A leader's entries or heartbeat were answered.
    pub(super) fn hear_leader(&self) {
        self.heard_ms.store(self.elapsed_ms() + 1, Ordering::Relaxed);
    }

    /// Whether a leader has been heard from within `limit`.
    pub(super) fn has_heard_leader(&self, limit: Duration) -> bool {
        let heard_ms = self.heard_ms.load(Ordering::Relaxed);
        heard_ms > 0 && u128::from(self.elapsed_ms().saturating_sub(heard_ms - 1)) < limit.as_millis()
    }

    /// Whether a leader's word that this server has acknowledged may still be believed: until then it helps no other to lead,
    /// itself included.
    pub(super) fn is_bound(&self) -> bool {
        self.has_heard_leader(LEASE) || !self.bound_since_start().is_zero()
    }

    /// What is left of the time for which the process before this one may have bound it.
    fn bound_since_start(&self) -> Duration {
        if self.led_before { LEASE.saturating_sub(self.start.elapsed()) } else { Duration::ZERO }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn hello(&self) -> HubHelloReply {
        let identity = self.lock();
        HubHelloReply {
            incarnation: identity.incarnation,
            member: identity.member,
            founders: identity.founders.clone(),
            commands: self.reads.load(Ordering::Relaxed),
            ..HubHelloReply::default()
        }
    }

    /// How this server introduces itself.
    pub(super) fn greeting(&self) -> HubHello {
        let identity = self.lock();
        HubHello { node: identity.node, incarnation: identity.incarnation, recall: !identity.member }
    }

    /// Learns what this server may have promised, once.
    fn recall(&self, answers: &[Option<HubHelloReply>]) {
        let me = self.lock().node;
        let others = (0..).zip(answers).filter(|(node, _)| *node != me).map(|(_, it)| it.as_ref());
        if self.promised.get().is_none()
            && let Some(promised) = Promised::from_all(others)
            && self.promised.set(promised).is_ok()
        {
            tracing::info!(?promised, "the other hub servers have told what this one may have promised");
        }
    }

    /// The servers whose answers are missing.
    fn unheard(&self, answers: &[Option<HubHelloReply>]) -> Vec<String> {
        let whole = |it: &HubHelloReply| it.member && it.vote.is_some();
        let identity = self.lock();
        let servers =
            (0..).zip(&identity.servers).zip(answers).filter(|((node, _), _)| *node != identity.node);
        servers.filter(|(_, it)| !it.as_ref().is_some_and(whole)).map(|((_, name), _)| name.clone()).collect()
    }

    fn become_member(&self, founders: Vec<u64>) -> io::Result<()> {
        let mut identity = self.lock();
        let next = HubIdentity { member: true, founders, ..identity.clone() };
        write_whole(&*self.disk, FILE, &next.encode_to_vec())?;
        *identity = next;
        Ok(())
    }

    /// This server's place when it is one of the founders.
    fn founder(&self) -> Option<u64> {
        let identity = self.lock();
        let founder = identity.member && identity.founders.contains(&identity.incarnation);
        founder.then_some(identity.node)
    }

    fn lock(&self) -> MutexGuard<'_, HubIdentity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(identity: &HubIdentity, me: u64, servers: &[String]) -> Result<(), IdentityError> {
    if identity.format != FORMAT {
        return Err(IdentityError::Format(identity.format));
    }
    if identity.servers == servers && identity.node == me {
        return Ok(());
    }
    let name = |of: &[String], node: u64| {
        usize::try_from(node).ok().and_then(|it| of.get(it)).cloned().unwrap_or_else(|| format!("{node}"))
    };
    Err(IdentityError::Servers {
        found: name(&identity.servers, identity.node),
        there: identity.servers.join(", "),
        here: servers.join(", "),
        me: name(servers, me),
    })
}

/// Founds the hub or waits to be let in; ends when this server is a member.
pub(crate) async fn join(
    raft: Raft,
    log: Log,
    peers: Peers,
    standing: Arc<Standing>,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut told: Option<Instant> = None;
    while !standing.is_member() {
        let answers = ask_all(&peers, &standing).await;
        if let Some(founders) = verdict(&standing, &answers) {
            standing.become_member(founders)?;
            break;
        }
        standing.recall(&answers);
        if has_caught_up(&log, &standing) {
            log.barrier().await?;
            let founders = answers.iter().flatten().find(|it| it.member).map(|it| it.founders.clone());
            standing.become_member(founders.unwrap_or_default())?;
            tracing::info!("this hub server has caught up with the leader: it votes again");
            break;
        }
        if answers.iter().flatten().any(|it| it.member) && told.is_none_or(|it| it.elapsed() >= TELL_INTERVAL)
        {
            told = Some(Instant::now());
            tell(&standing, &answers);
        }
        tokio::select! {
            () = tokio::time::sleep(ASK_INTERVAL) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
    tokio::select! {
        () = tokio::time::sleep(standing.bound_since_start()) => {}
        () = stop.cancelled() => return Ok(()),
    }
    raft.runtime_config().elect(true);
    found(&raft, &log, &peers, &standing, &stop).await;
    Ok(())
}

fn tell(standing: &Standing, answers: &[Option<HubHelloReply>]) {
    if standing.promised.get().is_some() {
        tracing::warn!("this hub server has no data and the hub has: it takes all of it in before it votes");
    } else {
        let waits_for = standing.unheard(answers).join(", ");
        tracing::warn!(
            waits_for,
            "this hub server has no data and the hub has: it acknowledges nothing before all others have told what it may have promised"
        );
    }
}

/// Whether what this server has, on disk or on its way there, is all that it may have promised to remember.
fn has_caught_up(log: &Log, standing: &Standing) -> bool {
    let (vote, last) = log.position();
    standing.promised.get().is_some_and(|it| it.is_kept_by(vote, last))
}

async fn ask_all(peers: &Peers, standing: &Standing) -> Vec<Option<HubHelloReply>> {
    let greeting = standing.greeting();
    let asked = (0..peers.count()).map(|to| async move {
        if to == greeting.node {
            return Some(standing.hello());
        }
        peers.hello(to, greeting, ASK_TIMEOUT).await.ok()
    });
    join_all(asked).await
}

/// The founders, when this server is one of them by what it hears.
fn verdict(standing: &Standing, answers: &[Option<HubHelloReply>]) -> Option<Vec<u64>> {
    let (me, incarnation) = {
        let identity = standing.lock();
        (identity.node, identity.incarnation)
    };
    let granted = answers.iter().flatten().find(|it| it.member && it.founders.contains(&incarnation));
    if let Some(grant) = granted {
        return Some(grant.founders.clone());
    }
    let all_new = answers.iter().all(|it| it.as_ref().is_some_and(|it| !it.member));
    (me == 0 && all_new).then(|| answers.iter().flatten().map(|it| it.incarnation).collect())
}

/// The hub's first entry: the list of its servers, the same on every founder to the last bit. The first server of the list
/// makes it. When it does not come – that server may have died since – every other founder writes it too, the later in the
/// list the later.
async fn found(raft: &Raft, log: &Log, peers: &Peers, standing: &Standing, stop: &CancellationToken) {
    let Some(place) = standing.founder() else { return };
    let wait = FOUND_WAIT * u32::try_from(place).unwrap_or(u32::MAX);
    let began = Instant::now();
    // What the metrics say comes later: they are empty until the core has begun.
    while log.is_empty() {
        if began.elapsed() >= wait {
            let servers: BTreeSet<u64> = (0..peers.count()).collect();
            if place == 0 && raft.initialize(servers.clone()).await.is_ok() {
                tracing::info!(servers = servers.len(), "the hub is founded");
                return;
            }
            match write_first_entry(raft, servers).await {
                Ok(()) => tracing::info!("the hub's first entry, which no other server sent, is written"),
                Err(cause) => tracing::debug!(cause, "the hub's first entry can't be written yet"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(ASK_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Takes the first entry in as if its maker had sent it. Whoever leads later has the same one. The library's own way refuses
/// where a vote was asked for before.
async fn write_first_entry(raft: &Raft, servers: BTreeSet<u64>) -> Result<(), String> {
    let membership = Membership::new(vec![servers.clone()], servers).map_err(|it| it.to_string())?;
    let first = LogId::new(LeaderId { term: 0, node_id: 0 }, 0);
    let vote = raft.with_raft_state(|it| *it.vote_ref()).await.map_err(|it| it.to_string())?;
    // Under a vote of its own this server would take itself for a leader that no majority elected. Without an entry it has no
    // membership and asks for no votes, so that such a vote means that an entry has come.
    if vote.leader_id.node_id == *raft.node_id() && vote.leader_id.term > 0 {
        return Err("this server has asked for votes: it has an entry".to_owned());
    }
    let append = AppendEntriesRequest {
        vote: Vote { committed: true, ..vote },
        prev_log_id: None,
        entries: vec![Entry { log_id: first, payload: EntryPayload::Membership(membership) }],
        leader_commit: None,
    };
    match timeout(ASK_TIMEOUT, raft.append_entries(append)).await {
        Ok(Ok(AppendEntriesResponse::Success)) => Ok(()),
        Ok(other) => Err(format!("{other:?}")),
        Err(_) => Err(format!("no answer within {ASK_TIMEOUT:?}")),
    }
}

/// What this server says to another one that asks who is there. To one that has lost its data also what it knows of votes and
/// entries, in the order of events that Raft itself sees: metrics may be behind what was already sent.
pub(super) async fn answer(raft: &Raft, standing: &Standing, asked: &HubHello) -> HubHelloReply {
    let reply = standing.hello();
    if !(asked.recall && reply.member) {
        return reply;
    }
    let known = raft.with_raft_state(|it| (*it.vote_ref(), it.log_ids.last().copied()));
    match timeout(ASK_TIMEOUT / 2, known).await {
        Ok(Ok((vote, last))) => HubHelloReply {
            vote: Some(codec::put_vote(&vote)),
            last: last.as_ref().map(codec::put_log_id),
            ..reply
        },
        // Raft does not run here: its memory can't be told.
        Ok(Err(_)) | Err(_) => reply,
    }
}
