//! What watchers hear: the last events by revision, so that one that comes back misses nothing, and those who listen now.

mod callbacks;
mod deliveries;
mod topics;

use crate::state::Change;
use callbacks::{Account, Callbacks};
use deliveries::Deliveries;
use proto::hub::v1::{
    Alive, App, AppGone, AskAlive, Event, Lease, MemberLoad, MemberLoads, Resumed, SecretGone, SessionMoved,
    Snapshot, TokenForgotten, WatchEvents, event,
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, mpsc};
use topics::Topics;

/// Events kept for those who come back.
const KEPT: usize = 16_384;

/// The most bytes of secrets among them. Each may be large, and put again and again; one that is behind gets a snapshot.
const SECRETS_KEPT: usize = 32 << 20;

/// Events that wait for one watcher; one that is slower is dropped, comes back and resumes.
const PENDING: usize = 4096;

/// The feed of one hub server. Every server keeps one, so that a new leader can resume its predecessor's watchers.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    inner: Mutex<Inner>,
    /// A watcher has confirmed, or is gone.
    confirmed: Notify,
    deliveries: Deliveries,
    topics: Topics,
}

#[derive(Debug, Default)]
struct Inner {
    kept: VecDeque<(u64, Change)>,
    /// The bytes of the secrets among them.
    secrets_kept: usize,
    /// Events up to this revision are not kept.
    floor: u64,
    /// Everything up to this revision was published.
    published: u64,
    watchers: Vec<Watcher>,
    /// Copies of what is cached.
    callbacks: Callbacks,
}

#[derive(Debug)]
struct Watcher {
    server: String,
    /// The stream's name in questions for signs of life; 0: it never asks, and is told unasked.
    watch: u64,
    /// It hears of secrets.
    secrets: bool,
    /// Of the leader that let it in.
    term: u64,
    events: mpsc::Sender<Event>,
    account: Account,
}

impl Feed {
    /// The changes of the log entry `revision`.
    pub(crate) fn publish(&self, revision: u64, mut changes: Vec<Change>) {
        self.deliveries.wake(&mut changes);
        let mut inner = self.lock();
        inner.published = revision;
        let changes = inner.tell_of_copies(revision, changes);
        if changes.is_empty() {
            return;
        }
        inner.retain(|watcher| {
            let events = events(watcher.whom(), revision, changes.iter());
            let fits = events.into_iter().all(|event| watcher.events.try_send(event).is_ok());
            if !fits {
                tracing::warn!(server = watcher.server, "a watcher of the hub is too slow or gone: dropped");
            }
            fits
        });
        for change in changes {
            inner.keep(revision, change);
        }
    }

    /// The state was replaced by a snapshot at `revision`: what came before is unknown.
    pub(crate) fn restart(&self, revision: u64) {
        let mut inner = self.lock();
        inner.retain(|_| false);
        let callbacks = inner.callbacks.again();
        *inner = Inner { floor: revision, published: revision, callbacks, ..Inner::default() };
    }

    /// Adds a watcher. `present` is asked for the present state and its revision when the events after the revision that it asks
    /// for are not all known, or it did not hear of secrets before as it does now. One that `secrets` hears of secrets too. `term` is that of the
    /// leader that lets it in.
    pub(crate) fn watch(
        &self,
        wanted: &WatchEvents,
        (secrets, term): (bool, u64),
        present: impl FnOnce() -> (u64, Snapshot),
    ) -> mpsc::Receiver<Event> {
        let WatchEvents { server, after_revision, watch, with_secrets } = wanted;
        let (after_revision, watch, is_as_before) = (*after_revision, *watch, *with_secrets == secrets);
        let mut inner = self.lock();
        let (sender, receiver) = mpsc::channel(PENDING);
        let known = after_revision > 0 && after_revision >= inner.floor && after_revision <= inner.published;
        let missed =
            if known && is_as_before { inner.missed((server, secrets), after_revision) } else { None };
        let first = match &missed {
            Some(_) => Event { revision: after_revision, event: Some(event::Event::Resumed(Resumed {})) },
            None => {
                let (revision, present) = present();
                Event { revision, event: Some(event::Event::Snapshot(present)) }
            }
        };
        let begun = std::iter::once(first).chain(missed.unwrap_or_default());
        for event in begun {
            // `missed` is bounded so that all fits.
            let _fits = sender.try_send(event);
        }
        let server = server.to_owned();
        let account = Account::default();
        inner.watchers.push(Watcher { server, watch, secrets, term, events: sender, account });
        receiver
    }

    /// A sign of life for those who never ask for one. To be called by a leader that a majority has confirmed, and so is all that
    /// follows here.
    pub(crate) fn alive(&self) {
        self.tell(&event::Event::Alive(Alive { number: 0 }), |it| it.watch == 0);
    }

    /// A sign of life for the watcher that has asked for one.
    pub(crate) fn answer(&self, asked: &AskAlive) {
        let mut inner = self.lock();
        let asks = |it: &Watcher| it.watch == asked.watch && it.watch != 0;
        let Some(place) = inner.watchers.iter().position(asks) else { return };
        let alive = event::Event::Alive(Alive { number: asked.number });
        let event = Event { revision: inner.published, event: Some(alive) };
        if inner.watchers[place].events.try_send(event).is_err() {
            inner.retain(|it| it.watch != asked.watch);
        }
    }

    /// Tells all watchers of CPU loads. They are not kept for those who come back: the next ones come soon.
    pub(crate) fn loads(&self, loads: Vec<MemberLoad>) {
        if !loads.is_empty() {
            self.tell(&event::Event::MemberLoads(MemberLoads { loads }), |_| true);
        }
    }

    fn tell(&self, event: &event::Event, is_meant: impl Fn(&Watcher) -> bool) {
        let mut inner = self.lock();
        let revision = inner.published;
        inner.retain(|watcher| {
            let event = || Event { revision, event: Some(event.clone()) };
            !is_meant(watcher) || watcher.events.try_send(event()).is_ok()
        });
    }

    /// Ends all watches: this server leads no more.
    pub(crate) fn end(&self) {
        self.end_but_of(None);
    }

    /// Ends all watches but those of this term, in which this server leads: it may have let some in before its duties began.
    pub(crate) fn end_but_of(&self, term: Option<u64>) {
        self.lock().retain(|it| Some(it.term) == term);
        self.confirmed.notify_waiters();
        self.deliveries.wake_all();
        self.topics.end();
    }

    /// Those who listen to topics.
    pub(crate) fn topics(&self) -> &Topics {
        &self.topics
    }

    /// Notified when a server is handed something, and when this server may lead no more.
    pub(crate) fn deliveries(&self, server: &str) -> Arc<Notify> {
        self.deliveries.of(server)
    }

    /// Whether `server` watches.
    pub(crate) fn is_watching(&self, server: &str) -> bool {
        self.lock().watchers.iter().any(|it| it.server == server && !it.events.is_closed())
    }

    /// How many watch.
    pub(crate) fn watchers(&self) -> usize {
        self.lock().watchers.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Keeps some watchers. One that had copies believes them for a while.
    fn retain(&mut self, keeps: impl Fn(&Watcher) -> bool) {
        let Self { watchers, callbacks, .. } = self;
        watchers.retain_mut(|watcher| {
            let stays = keeps(watcher);
            if !stays {
                callbacks.gone(watcher);
            }
            stays
        });
    }

    /// Keeps a change for those who come back, in place of the oldest ones.
    fn keep(&mut self, revision: u64, change: Change) {
        let bytes = secret_bytes(&change);
        while self.kept.len() >= KEPT || self.secrets_kept + bytes > SECRETS_KEPT {
            let Some((dropped, oldest)) = self.kept.pop_front() else { break };
            self.floor = dropped;
            self.secrets_kept -= secret_bytes(&oldest);
        }
        self.secrets_kept += bytes;
        self.kept.push_back((revision, change));
    }

    /// What a watcher has missed after `revision`; `None` when it is more than a watcher may have pending.
    fn missed(&self, whom: Whom<'_>, revision: u64) -> Option<Vec<Event>> {
        let start = self.kept.partition_point(|(at, _)| *at <= revision);
        let missed: Vec<_> = self.kept.range(start..).collect();
        let by_entry = missed.chunk_by(|(a, _), (b, _)| a == b);
        let events: Vec<Event> = by_entry
            .flat_map(|entry| events(whom, entry[0].0, entry.iter().map(|(_, change)| change)))
            .collect();
        (events.len() < PENDING / 2).then_some(events)
    }
}

fn secret_bytes(change: &Change) -> usize {
    if let Change::Secret(secret) = change { secret.name.len() + secret.sealed.len() } else { 0 }
}

/// Who hears: a server, and whether it hears of secrets.
type Whom<'a> = (&'a str, bool);

impl Watcher {
    fn whom(&self) -> Whom<'_> {
        (&self.server, self.secrets)
    }
}

/// What one server hears of one log entry. All but the last event carry the revision before it: who breaks off in between
/// resumes with all of them.
fn events<'a>(
    (server, secrets): Whom<'_>,
    revision: u64,
    changes: impl Iterator<Item = &'a Change>,
) -> Vec<Event> {
    let mut events: Vec<Event> = changes
        .filter_map(|change| match change {
            Change::Member(member) => Some(event::Event::Member(member.clone())),
            Change::App(app) => Some(event::Event::App(App::clone(app))),
            Change::AppGone(tag) => Some(event::Event::AppGone(AppGone { tag: tag.clone() })),
            Change::Token(token) => Some(event::Event::Token(token.clone())),
            Change::TokenForgotten(hash) => {
                Some(event::Event::TokenForgotten(TokenForgotten { hash: hash.clone() }))
            }
            Change::Purge(purge) => Some(event::Event::Purge(purge.clone())),
            Change::Secret(secret) => secrets.then(|| event::Event::Secret(secret.clone())),
            Change::SecretGone(name) => {
                secrets.then(|| event::Event::SecretGone(SecretGone { name: name.clone() }))
            }
            Change::Lease(lease) => Some(event::Event::Lease(Lease::clone(lease))),
            Change::LeaseFree(free) => Some(event::Event::LeaseFree(free.clone())),
            // Told before, to those who have copies.
            Change::Cached(_) | Change::CacheCleared(_) | Change::Delivered(_) => None,
            Change::SessionMoved { former, key, owner } => (former == server).then(|| {
                event::Event::SessionMoved(SessionMoved { key: Some(key.clone()), owner: owner.clone() })
            }),
        })
        .map(|event| Event { revision: revision.saturating_sub(1), event: Some(event) })
        .collect();
    if let Some(last) = events.last_mut() {
        last.revision = revision;
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::hub::v1::{Member, SessionKey};

    fn member(id: &str) -> Change {
        Change::Member(Member { id: id.into(), ..Member::default() })
    }

    fn moved(former: &str, id: &str) -> Change {
        let key = SessionKey { app: "shop".into(), id: id.into() };
        Change::SessionMoved { former: former.into(), key, owner: "b".into() }
    }

    fn after(server: &str, after_revision: u64) -> WatchEvents {
        WatchEvents { server: server.into(), after_revision, ..WatchEvents::default() }
    }

    fn drain(receiver: &mut mpsc::Receiver<Event>) -> Vec<(u64, String)> {
        let mut seen = Vec::new();
        while let Ok(event) = receiver.try_recv() {
            let name = match event.event.unwrap() {
                event::Event::Resumed(_) => "resumed".to_owned(),
                event::Event::Snapshot(it) => format!("snapshot of {}", it.members.len()),
                event::Event::Member(it) => it.id,
                event::Event::SessionMoved(it) => it.key.unwrap().id,
                event::Event::Alive(it) => format!("alive {}", it.number),
                event::Event::MemberLoads(it) => format!("loads of {}", it.loads.len()),
                event::Event::App(it) => it.tag,
                event::Event::AppGone(it) => format!("no {}", it.tag),
                event::Event::Token(it) => it.name,
                event::Event::TokenForgotten(it) => format!("no {:?}", it.hash),
                event::Event::Purge(it) => format!("purge {}", it.number),
                event::Event::Secret(it) => it.name,
                event::Event::SecretGone(it) => format!("no {}", it.name),
                event::Event::Lease(it) => format!("lease {}", it.token),
                event::Event::LeaseFree(it) => format!("free {}", it.token),
                event::Event::CacheChanged(it) => format!("changed {}", it.number),
            };
            seen.push((event.revision, name));
        }
        seen
    }

    #[test]
    fn a_new_watcher_gets_a_snapshot_then_its_own_events() {
        let feed = Feed::default();
        feed.publish(4, vec![member("a")]);
        let mut a = feed.watch(&after("a", 0), (false, 1), || {
            (4, Snapshot { members: vec![Member::default()], ..Snapshot::default() })
        });
        feed.publish(5, vec![moved("a", "s1"), moved("b", "s2"), member("c")]);
        feed.alive();
        let expected = [(4, "snapshot of 1"), (4, "s1"), (5, "c"), (5, "alive 0")];
        assert_eq!(drain(&mut a), expected.map(|(at, it)| (at, it.to_owned())));
    }

    #[test]
    fn loads_are_told_to_those_who_listen_and_not_kept() {
        let feed = Feed::default();
        feed.publish(4, vec![member("a")]);
        let mut a = feed.watch(&after("a", 4), (false, 1), || unreachable!());
        feed.loads(vec![]);
        feed.loads(vec![MemberLoad { id: "a".into(), cpu_load: 500 }]);
        let mut b = feed.watch(&after("b", 4), (false, 1), || unreachable!());
        assert_eq!(drain(&mut a), [(4, "resumed".to_owned()), (4, "loads of 1".to_owned())]);
        assert_eq!(drain(&mut b), [(4, "resumed".to_owned())]);
    }

    #[test]
    fn a_watcher_that_asks_gets_its_own_answer_and_no_other() {
        let feed = Feed::default();
        feed.publish(4, vec![member("a")]);
        let mut asks = feed.watch(&WatchEvents { watch: 77, ..after("a", 4) }, (false, 1), || unreachable!());
        let mut other =
            feed.watch(&WatchEvents { watch: 78, ..after("a", 4) }, (false, 1), || unreachable!());
        let mut never = feed.watch(&after("b", 4), (false, 1), || unreachable!());
        drain(&mut never);
        feed.answer(&AskAlive { watch: 77, number: 5 });
        feed.answer(&AskAlive { watch: 0, number: 6 });
        feed.answer(&AskAlive { watch: 79, number: 7 });
        assert_eq!(drain(&mut never), [], "nobody asks by this name");
        feed.alive();
        assert_eq!(drain(&mut asks), [(4, "resumed".to_owned()), (4, "alive 5".to_owned())]);
        assert_eq!(drain(&mut other), [(4, "resumed".to_owned())]);
        assert_eq!(drain(&mut never), [(4, "alive 0".to_owned())]);
    }

    #[test]
    fn a_watcher_that_comes_back_misses_nothing() {
        let feed = Feed::default();
        for revision in 1..=6 {
            feed.publish(
                revision,
                vec![moved(if revision % 2 == 0 { "a" } else { "b" }, &format!("s{revision}"))],
            );
        }
        let mut a = feed.watch(&after("a", 3), (false, 1), || unreachable!("the events are known"));
        let expected = [(3, "resumed"), (4, "s4"), (6, "s6")];
        assert_eq!(drain(&mut a), expected.map(|(at, it)| (at, it.to_owned())));
    }

    #[test]
    fn one_that_may_hear_of_secrets_now_or_no_more_gets_a_snapshot() {
        let feed = Feed::default();
        let secret = proto::hub::v1::Secret { name: "acme/a".into(), ..Default::default() };
        feed.publish(1, vec![member("a")]);
        feed.publish(2, vec![Change::Secret(secret)]);
        for (with_secrets, secrets, expected) in [
            (false, false, &[(1, "resumed")][..]),
            (false, true, &[(2, "snapshot of 0")]),
            (true, false, &[(2, "snapshot of 0")]),
            (true, true, &[(1, "resumed"), (2, "acme/a")]),
        ] {
            let wanted = WatchEvents { with_secrets, ..after("web", 1) };
            let mut watcher = feed.watch(&wanted, (secrets, 1), || (2, Snapshot::default()));
            let expected: Vec<_> = expected.iter().map(|(at, it)| (*at, (*it).to_owned())).collect();
            assert_eq!(drain(&mut watcher), expected, "{with_secrets} {secrets}");
        }
    }

    #[test]
    fn secrets_are_kept_up_to_so_many_bytes() {
        let feed = Feed::default();
        // One byte more than a quarter of what is kept, with its name.
        let sealed = bytes::Bytes::from(vec![b'x'; SECRETS_KEPT / 4]);
        let secret = proto::hub::v1::Secret { name: "a".into(), sealed, ..Default::default() };
        let resumes = |after_revision| {
            let wanted = WatchEvents { with_secrets: true, ..after("web", after_revision) };
            let first = feed.watch(&wanted, (true, 1), || (0, Snapshot::default())).try_recv().unwrap();
            matches!(first.event, Some(event::Event::Resumed(_)))
        };
        feed.publish(1, vec![member("a")]);
        for revision in 2..=4 {
            feed.publish(revision, vec![Change::Secret(secret.clone())]);
        }
        assert!(resumes(1), "there is room for three");
        feed.publish(5, vec![member("b"), Change::Secret(secret.clone()), Change::SecretGone("a".into())]);
        assert_eq!([1, 2, 3, 4, 5].map(resumes), [false, true, true, true, true]);
        feed.publish(6, vec![Change::Secret(secret.clone()), Change::Secret(secret)]);
        assert_eq!([2, 3, 4, 5, 6].map(resumes), [false, false, true, true, true]);
        let inner = feed.lock();
        let counted: usize = inner.kept.iter().map(|(_, change)| secret_bytes(change)).sum();
        assert_eq!((inner.secrets_kept, counted), (counted, 3 * (SECRETS_KEPT / 4 + 1)));
    }

    #[test]
    fn too_old_or_from_another_hub_means_a_snapshot() {
        let feed = Feed::default();
        feed.restart(100);
        feed.publish(101, vec![member("a")]);
        for revision in [99, 102] {
            let mut watcher = feed.watch(&after("a", revision), (false, 1), || (101, Snapshot::default()));
            assert_eq!(drain(&mut watcher), [(101, "snapshot of 0".to_owned())], "after {revision}");
        }
        let mut watcher = feed.watch(&after("a", 100), (false, 1), || unreachable!("known"));
        assert_eq!(drain(&mut watcher).len(), 2);
        for revision in 0..=KEPT as u64 {
            feed.publish(102 + revision, vec![member("b")]);
        }
        let mut watcher = feed.watch(&after("a", 101), (false, 1), || (7, Snapshot::default()));
        assert_eq!(drain(&mut watcher), [(7, "snapshot of 0".to_owned())]);
    }

    #[test]
    fn a_slow_watcher_is_dropped_and_the_others_are_not() {
        let feed = Feed::default();
        let _slow = feed.watch(&after("slow", 0), (false, 1), || (0, Snapshot::default()));
        let mut quick = feed.watch(&after("quick", 0), (false, 1), || (0, Snapshot::default()));
        for revision in 1..=PENDING as u64 {
            feed.publish(revision, vec![member("x")]);
            drain(&mut quick);
        }
        assert_eq!(feed.watchers(), 1);
        feed.end_but_of(Some(1));
        assert_eq!(feed.watchers(), 1, "it was let in by the one who leads");
        let _former = feed.watch(&after("former", 0), (false, 0), || (0, Snapshot::default()));
        feed.end_but_of(Some(1));
        assert_eq!(feed.watchers(), 1);
        feed.end();
        assert_eq!(feed.watchers(), 0);
        assert!(quick.try_recv().is_err());
    }
}
