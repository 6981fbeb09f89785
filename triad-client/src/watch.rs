//! Follows the hub's events: the members as they are, sessions that moved away; through every change of leader, without a gap
//! that goes untold.

use crate::{leader::Leader, pulse::Pulse};
use common::{backoff::Backoff, hub_age::LastHeard};
use proto::hub::v1::{Event, Member, MemberLoad, WatchEvents, event, watch_client::WatchClient};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};
use tonic::Status;

/// Events that wait for their reader; one that is slower gets a `Snapshot` instead.
const EVENTS_MAX: usize = 8192;

/// The leader says something every 100 ms: one that has been silent for this long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// Waits between tries.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const MAX_WAIT: Duration = Duration::from_millis(500);

/// What [`crate::Hub::watch`] follows.
#[derive(Debug)]
pub struct Watch {
    /// The members as last heard; empty before the first word from the hub.
    pub members: watch::Receiver<Arc<Vec<Member>>>,
    /// Every event in order: `Snapshot` means that events may have been missed, `Alive` comes every 100 ms while
    /// the link to a confirmed leader is whole. Bounded: a reader that is too slow gets a `Snapshot`.
    pub events: mpsc::Receiver<Event>,
    /// When an `Alive` of the hub's leader that counts ([`Pulse`]) was last sent to this server: cheap to read, from any thread.
    pub heard: LastHeard,
    /// Following ends when it is dropped.
    pub task: WatchTask,
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
    let (events_sender, events) = mpsc::channel(EVENTS_MAX);
    let heard = LastHeard::never();
    let follower = Follower::new(leader, members_sender, events_sender, heard.clone());
    Watch { members, events, heard, task: WatchTask(tokio::spawn(follower.run()).abort_handle()) }
}

pub(crate) struct Follower {
    pub(crate) leader: Arc<Leader>,
    pub(crate) members: watch::Sender<Arc<Vec<Member>>>,
    pub(crate) events: mpsc::Sender<Event>,
    /// The last revision that was passed on; 0 asks for a snapshot.
    pub(crate) revision: u64,
    heard: LastHeard,
    pulse: Pulse,
}

impl Follower {
    pub(crate) fn new(
        leader: Arc<Leader>,
        members: watch::Sender<Arc<Vec<Member>>>,
        events: mpsc::Sender<Event>,
        heard: LastHeard,
    ) -> Self {
        Self { leader, members, events, revision: 0, heard, pulse: Pulse::default() }
    }

    async fn run(mut self) {
        let mut backoff = Backoff::new(FIRST_WAIT, MAX_WAIT);
        loop {
            let Some((place, server, channel)) = self.leader.believed() else { return };
            let server = server.clone();
            let before = self.revision;
            let status = self.follow(channel).await;
            tracing::debug!(%server, %status, "the hub's events ended");
            self.leader.failed(place, &status);
            if self.revision != before {
                backoff.reset();
            }
            tokio::time::sleep(backoff.wait(rand::random())).await;
        }
    }

    /// Follows one stream to its end, and says why it ended.
    async fn follow(&mut self, channel: tonic::transport::Channel) -> Status {
        let request =
            WatchEvents { server: self.leader.me().as_str().to_owned(), after_revision: self.revision };
        let mut client = WatchClient::new(channel).max_decoding_message_size(crate::MESSAGE_MAX);
        let mut stream = match tokio::time::timeout(SILENCE_MAX, client.events(request)).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return status,
            Err(_) => return Status::deadline_exceeded("no answer to the watch"),
        };
        loop {
            match tokio::time::timeout(SILENCE_MAX, stream.message()).await {
                Ok(Ok(Some(event))) => {
                    if let Err(behind) = self.pass_on(event, Instant::now()) {
                        return behind;
                    }
                }
                Ok(Ok(None)) => return Status::unavailable("the server ended the watch"),
                Ok(Err(status)) => return status,
                Err(_) => return Status::deadline_exceeded(format!("silent for {SILENCE_MAX:?}")),
            }
        }
    }

    pub(crate) fn pass_on(&mut self, event: Event, now: Instant) -> Result<(), Status> {
        let revision = event.revision;
        match &event.event {
            Some(event::Event::Snapshot(snapshot)) => {
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
            Some(event::Event::Alive(_)) if self.pulse.beat(now) => {
                self.heard.note(self.pulse.sent().unwrap_or(now));
            }
            _ => {}
        }
        match self.events.try_send(event) {
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
