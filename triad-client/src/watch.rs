//! Follows the hub's events: the members as they are, sessions that moved away; through every change of leader, without a gap
//! that goes untold. Asks for signs of life, and leaves a leader that gives none.

use crate::{leader::Leader, pulse::Pulse};
use bytes::Bytes;
use common::{backoff::Backoff, hub_age::LastHeard, id::ServerId, witness::TIMES};
use futures_util::{StreamExt, future::select_all, stream::FuturesUnordered};
use proto::hub::v1::{
    App, AskAlive, CacheChanged, ConfirmChanges, Event, FollowCaches, Lease, LeaseKey, Member, MemberLoad,
    Purge, Secret, TellChanges, Token, WatchEvents, event, watch_client::WatchClient,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::MissedTickBehavior,
};
use tonic::{Status, Streaming, transport::Channel};

/// Events that wait for their reader; one that is slower gets a `Snapshot` instead.
const EVENTS_MAX: usize = 8192;

/// A server says within this whether it leads. One that was deposed without knowing it asks in vain, and says nothing.
const ANSWER: Duration = Duration::from_secs(2);

/// Waits between tries at one server.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const MAX_WAIT: Duration = Duration::from_millis(250);

/// Questions for signs of life that are under way at once, on a slow link.
const ASKING_MAX: usize = 8;

/// The tokens as last heard, by hash; `None` before the first word from the hub.
pub type Tokens = watch::Receiver<Option<Arc<BTreeMap<Bytes, Token>>>>;

/// The last purges as heard, by number; `None` before the first word from the hub. Whoever has missed what is not among them any more forgets all.
pub type Purges = watch::Receiver<Option<Arc<BTreeMap<u64, Purge>>>>;

/// The leases that are held as last heard, by app and name; `None` before the first word from the hub. Renewals are not told.
pub type Leases = watch::Receiver<Option<Arc<BTreeMap<(String, String), Lease>>>>;

/// What web-tiers share and keep, by name; `None` before the first word from the hub. Web-tiers alone hear of any.
pub type Secrets = watch::Receiver<Option<Arc<BTreeMap<String, Secret>>>>;

/// As many as the hub has at most.
const PURGES_MAX: usize = 500;

/// What [`crate::Hub::watch`] follows.
#[derive(Debug)]
pub struct Watch {
    /// The members as last heard; empty before the first word from the hub.
    pub members: watch::Receiver<Arc<Vec<Member>>>,
    /// The apps as last heard, by tag; `None` before the first word from the hub.
    pub apps: watch::Receiver<Option<Arc<BTreeMap<String, App>>>>,
    /// The tokens as last heard.
    pub tokens: Tokens,
    /// What web-tiers are to forget.
    pub purges: Purges,
    /// What web-tiers share and keep.
    pub secrets: Secrets,
    /// Who holds which lease.
    pub leases: Leases,
    /// Every event in order: `Snapshot` means that events may have been missed. Bounded: a reader that is too slow gets a `Snapshot`.
    pub events: mpsc::Receiver<Heard>,
    /// The stream on which events come now; [`crate::Hub::confirm_changes`] wants it.
    pub stream: WatchStream,
    /// When the last sign of life of the hub's leader was sent to this server, at the earliest: cheap to read, from any thread.
    pub heard: LastHeard,
    /// Following ends when it is dropped.
    pub task: WatchTask,
}

/// An event, as it has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// What the hub says.
    pub event: Event,
    /// When it was sent, at the earliest: of an `Alive` that is a sign of life ([`Pulse`]), and of nothing else.
    pub sent: Option<Instant>,
    /// On which stream it has come: see [`WatchStream`].
    pub stream: u64,
}

/// Names the stream on which events come; another leader is another stream. Cheap to read, from any thread.
#[derive(Debug, Clone, Default)]
pub struct WatchStream(Arc<AtomicU64>);

impl WatchStream {
    /// Its name; 0 while there is none.
    pub fn name(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// For tests.
    pub fn set(&self, name: u64) {
        self.0.store(name, Ordering::Release);
    }
}

/// The following task; ends it when dropped.
#[derive(Debug)]
pub struct WatchTask(AbortHandle);

impl Drop for WatchTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) fn start(leader: Arc<Leader>) -> Watch {
    let (members_sender, members) = watch::channel(Arc::default());
    let (apps_sender, apps) = watch::channel(None);
    let (tokens_sender, tokens) = watch::channel(None);
    let (purges_sender, purges) = watch::channel(None);
    let (leases_sender, leases) = watch::channel(None);
    let (secrets_sender, secrets) = watch::channel(None);
    let (events_sender, events) = mpsc::channel(EVENTS_MAX);
    let heard = LastHeard::never();
    let tables = Tables {
        apps: apps_sender,
        tokens: tokens_sender,
        purges: purges_sender,
        leases: leases_sender,
        secrets: secrets_sender,
    };
    let stream = WatchStream::default();
    let follower =
        Follower::new(leader, members_sender, tables, events_sender, (heard.clone(), stream.clone()));
    Watch {
        members,
        apps,
        tokens,
        purges,
        leases,
        secrets,
        events,
        stream,
        heard,
        task: WatchTask(tokio::spawn(follower.run()).abort_handle()),
    }
}

/// Where a table of the hub's is told of.
type Table<K, V> = watch::Sender<Option<Arc<BTreeMap<K, V>>>>;

/// Where apps, tokens, purges, leases and secrets are told of.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) apps: Table<String, App>,
    pub(crate) tokens: Table<Bytes, Token>,
    pub(crate) purges: Table<u64, Purge>,
    pub(crate) leases: Table<(String, String), Lease>,
    pub(crate) secrets: Table<String, Secret>,
}

impl Tables {
    /// Changes what the event tells of.
    fn hear(&self, event: Option<&event::Event>) {
        match event {
            Some(event::Event::Snapshot(snapshot)) => {
                let apps = snapshot.apps.iter().map(|app| (app.tag.clone(), app.clone())).collect();
                self.apps.send_replace(Some(Arc::new(apps)));
                let tokens = snapshot.tokens.iter().map(|it| (it.hash.clone(), it.clone())).collect();
                self.tokens.send_replace(Some(Arc::new(tokens)));
                let purges = snapshot.purges.iter().map(|it| (it.number, it.clone())).collect();
                self.purges.send_replace(Some(Arc::new(purges)));
                let leases = snapshot.leases.iter().map(|it| (lease_place(it.key.as_ref()), it.clone()));
                self.leases.send_replace(Some(Arc::new(leases.collect())));
                let secrets = snapshot.secrets.iter().map(|it| (it.name.clone(), it.clone())).collect();
                // A server that knows of no right of ours, or not yet, says nothing of those that we have heard of.
                if snapshot.with_secrets || !snapshot.secrets.is_empty() {
                    self.secrets.send_replace(Some(Arc::new(secrets)));
                } else {
                    change(&self.secrets, |_| {});
                }
            }
            Some(event::Event::App(app)) => change(&self.apps, |apps| {
                apps.insert(app.tag.clone(), app.clone());
            }),
            Some(event::Event::AppGone(gone)) => change(&self.apps, |apps| {
                apps.remove(&gone.tag);
            }),
            Some(event::Event::Token(token)) => change(&self.tokens, |tokens| {
                tokens.insert(token.hash.clone(), token.clone());
            }),
            Some(event::Event::TokenForgotten(forgotten)) => change(&self.tokens, |tokens| {
                tokens.remove(&forgotten.hash);
            }),
            Some(event::Event::Purge(purge)) => change(&self.purges, |purges| {
                purges.insert(purge.number, purge.clone());
                if purges.len() > PURGES_MAX {
                    purges.pop_first();
                }
            }),
            Some(event::Event::Secret(secret)) => change(&self.secrets, |secrets| {
                secrets.insert(secret.name.clone(), secret.clone());
            }),
            Some(event::Event::SecretGone(gone)) => change(&self.secrets, |secrets| {
                secrets.remove(&gone.name);
            }),
            Some(event::Event::Lease(lease)) => change(&self.leases, |leases| {
                leases.insert(lease_place(lease.key.as_ref()), lease.clone());
            }),
            Some(event::Event::LeaseFree(free)) => change(&self.leases, |leases| {
                let place = lease_place(free.key.as_ref());
                if leases.get(&place).is_some_and(|it| it.token <= free.token) {
                    leases.remove(&place);
                }
            }),
            _ => {}
        }
    }
}

pub(crate) struct Follower {
    pub(crate) leader: Arc<Leader>,
    pub(crate) members: watch::Sender<Arc<Vec<Member>>>,
    tables: Tables,
    pub(crate) events: mpsc::Sender<Heard>,
    /// The last revision that was passed on; 0 asks for a snapshot.
    pub(crate) revision: u64,
    /// The last snapshot told of secrets.
    with_secrets: bool,
    heard: LastHeard,
    stream: WatchStream,
    pub(crate) pulse: Pulse,
}

/// The stream of the server that leads.
struct Found {
    place: usize,
    server: ServerId,
    client: WatchClient<Channel>,
    events: Streaming<Event>,
}

impl Follower {
    pub(crate) fn new(
        leader: Arc<Leader>,
        members: watch::Sender<Arc<Vec<Member>>>,
        tables: Tables,
        events: mpsc::Sender<Heard>,
        (heard, stream): (LastHeard, WatchStream),
    ) -> Self {
        Self {
            leader,
            members,
            tables,
            events,
            revision: 0,
            with_secrets: false,
            heard,
            stream,
            pulse: Pulse::new(&TIMES, Instant::now()),
        }
    }

    async fn run(mut self) {
        let mut backoff = Backoff::new(FIRST_WAIT, MAX_WAIT);
        loop {
            let watch = rand::random_range(1..=u64::MAX);
            let Some(found) = self.find(watch).await else { return };
            self.leader.found(found.place);
            let (server, before) = (found.server.clone(), self.revision);
            self.stream.set(watch);
            let status = self.follow(found, watch).await;
            self.stream.set(0);
            tracing::debug!(%server, %status, "the hub's events ended");
            if self.revision != before {
                backoff.reset();
            }
            tokio::time::sleep(backoff.wait(rand::random())).await;
        }
    }

    /// Asks all servers at once, again and again: the one that leads, and that a majority confirms, answers with its events. The
    /// former leader may go on for long without knowing that it is none, and is not waited for. `None`: there are no servers.
    async fn find(&self, watch: u64) -> Option<Found> {
        let wanted = self.wanted(watch);
        let asked: Vec<_> = self
            .leader
            .servers()
            .map(|(place, server, channel)| Box::pin(knock(place, server.clone(), channel, wanted.clone())))
            .collect();
        if asked.is_empty() {
            return None;
        }
        Some(select_all(asked).await.0)
    }

    /// The events after those that were passed on.
    pub(crate) fn wanted(&self, watch: u64) -> WatchEvents {
        let server = self.leader.me().as_str().to_owned();
        WatchEvents { server, after_revision: self.revision, watch, with_secrets: self.with_secrets }
    }

    /// Follows one stream to its end, and says why it ended.
    async fn follow(&mut self, found: Found, watch: u64) -> Status {
        let Found { client, mut events, .. } = found;
        let mut asking = FuturesUnordered::new();
        let mut asks = tokio::time::interval(TIMES.ask);
        asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.pulse.follow(Instant::now());
        loop {
            tokio::select! {
                message = events.message() => match message {
                    Ok(Some(event)) => {
                        if let Err(behind) = self.pass_on(event, Instant::now()) {
                            return behind;
                        }
                    }
                    Ok(None) => return Status::unavailable("the server ended the watch"),
                    Err(status) => return status,
                },
                _ = asks.tick() => {
                    let now = Instant::now();
                    if self.pulse.is_silent(now) {
                        return Status::deadline_exceeded(format!("no sign of life for {:?}", TIMES.silence));
                    }
                    if asking.len() < ASKING_MAX {
                        let number = self.pulse.ask(now);
                        asking.push(ask(client.clone(), AskAlive { watch, number }));
                    }
                }
                Some(()) = asking.next() => {}
            }
        }
    }

    pub(crate) fn pass_on(&mut self, event: Event, now: Instant) -> Result<(), Status> {
        let revision = event.revision;
        let mut sent = None;
        self.tables.hear(event.event.as_ref());
        match &event.event {
            Some(event::Event::Snapshot(snapshot)) => {
                self.with_secrets = snapshot.with_secrets;
                let mut members = snapshot.members.clone();
                self.members.send_modify(|all| {
                    members.iter_mut().for_each(|member| keep_load(all, member));
                    *all = Arc::new(members);
                });
            }
            Some(event::Event::Member(member)) => {
                self.members.send_modify(|all| place(Arc::make_mut(all), member));
            }
            Some(event::Event::MemberLoads(loads)) => {
                self.members.send_if_modified(|all| take_loads(all, &loads.loads));
            }
            Some(event::Event::Alive(alive)) => {
                sent = self.pulse.hear(alive.number, now);
                sent.into_iter().for_each(|sent| self.heard.note(sent));
            }
            _ => {}
        }
        match self.events.try_send(Heard { event, sent, stream: self.stream.name() }) {
            // Nobody reads the events of a server without sessions: its members still follow.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {
                self.revision = self.revision.max(revision);
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.revision = 0;
                Err(Status::aborted(format!("{EVENTS_MAX} events wait for their reader: starting over")))
            }
        }
    }
}

/// Changes a table that others may be reading.
fn change<K: Clone, V: Clone>(table: &Table<K, V>, change: impl FnOnce(&mut BTreeMap<K, V>)) {
    table.send_modify(|all| change(Arc::make_mut(all.get_or_insert_default())));
}

fn lease_place(key: Option<&LeaseKey>) -> (String, String) {
    key.map(|it| (it.app.clone(), it.name.clone())).unwrap_or_default()
}

/// Asks one server for its events until it gives them.
async fn knock(place: usize, server: ServerId, channel: Channel, wanted: WatchEvents) -> Found {
    let mut client = WatchClient::new(channel).max_decoding_message_size(crate::MESSAGE_MAX);
    let mut backoff = Backoff::new(FIRST_WAIT, MAX_WAIT);
    loop {
        match tokio::time::timeout(ANSWER, client.events(wanted.clone())).await {
            Ok(Ok(answer)) => return Found { place, server, client, events: answer.into_inner() },
            Ok(Err(status)) => tracing::trace!(%server, %status, "gives no events"),
            Err(_) => tracing::trace!(%server, "does not answer to a watch"),
        }
        tokio::time::sleep(backoff.wait(rand::random())).await;
    }
}

impl crate::Hub {
    /// Has the hub tell of every change of these caches on this stream.
    ///
    /// # Errors
    /// See [`crate::HubError`]; refused where it is another stream by now.
    pub async fn follow_caches(
        &self,
        watch: u64,
        caches: Vec<String>,
        deadline: Duration,
    ) -> Result<(), crate::HubError> {
        let followed = self.leader.call(deadline, TIMES.silence, |channel| {
            let request = FollowCaches { watch, caches: caches.clone() };
            async move { WatchClient::new(channel).follow(request).await }
        });
        followed.await.map(drop)
    }

    /// Tells the other servers that follow a cache of changes; each has gone by them when this returns, or believes nothing any more.
    ///
    /// # Errors
    /// See [`crate::HubError`].
    pub async fn tell_changes(
        &self,
        watch: u64,
        changed: CacheChanged,
        deadline: Duration,
    ) -> Result<(), crate::HubError> {
        let told = self.leader.call(deadline, Duration::from_secs(3), |channel| {
            let request = TellChanges { watch, changed: Some(changed.clone()) };
            async move { WatchClient::new(channel).tell(request).await }
        });
        told.await.map(drop)
    }

    /// Says that the copies are gone which the hub has called back, up to this change; whoever has written waits for it.
    ///
    /// # Errors
    /// See [`crate::HubError`].
    pub async fn confirm_changes(
        &self,
        watch: u64,
        number: u64,
        deadline: Duration,
    ) -> Result<(), crate::HubError> {
        let confirmed = self.leader.call(deadline, TIMES.silence, |channel| async move {
            WatchClient::new(channel).confirm(ConfirmChanges { watch, number }).await
        });
        confirmed.await.map(drop)
    }
}

/// The answer comes on the stream of events; that the question could not be delivered is no news either.
async fn ask(mut client: WatchClient<Channel>, question: AskAlive) {
    let asked = tokio::time::timeout(TIMES.silence, client.ask(question)).await;
    if let Ok(Err(status)) = asked {
        tracing::trace!(%status, "a question for a sign of life");
    }
}

/// The hub's record has no load: the last one stays.
fn keep_load(members: &[Member], changed: &mut Member) {
    let former = members.iter().find(|it| it.id == changed.id && it.started_ms == changed.started_ms);
    changed.cpu_load = former.and_then(|it| it.cpu_load);
}

/// Returns whether a load has changed.
fn take_loads(members: &mut Arc<Vec<Member>>, loads: &[MemberLoad]) -> bool {
    let loads: HashMap<_, _> = loads.iter().map(|it| (it.id.as_str(), it.cpu_load)).collect();
    let news = |it: &Member| loads.get(it.id.as_str()).filter(|load| it.cpu_load != Some(**load)).copied();
    if !members.iter().any(|it| news(it).is_some()) {
        return false;
    }
    for member in Arc::make_mut(members) {
        member.cpu_load = news(member).or(member.cpu_load);
    }
    true
}

fn place(members: &mut Vec<Member>, changed: &Member) {
    let mut changed = changed.clone();
    keep_load(members, &mut changed);
    match members.iter_mut().find(|member| member.id == changed.id) {
        Some(member) => *member = changed,
        None => members.push(changed),
    }
}
