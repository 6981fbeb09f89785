//! One queue: its messages by where they stand. It knows no servers' deliveries, only that a message is someone's.

use super::message::{Message, Origin, Status};
use imbl::{OrdMap, OrdSet};
use proto::hub::v1::{QueueCounts, QueueMessage, QueuePolicy};
use std::sync::Arc;

/// What a key that is remembered takes beside itself.
const KEY: u64 = 200;

/// How much is kept of why a message's last attempt has failed, in bytes. What it takes is a part of what each message takes.
const WHY_TEXT_MAX: usize = 200;

/// How a queue is of which no consumer has said anything.
pub(super) const POLICY: QueuePolicy = QueuePolicy {
    timeout_ms: 60_000,
    attempts: 10,
    delay_ms: 1_000,
    factor: 2_000,
    max_delay_ms: 600_000,
    dead_to: String::new(),
};

/// Who takes messages: a server, for one of its apps.
pub(super) type ConsumerKey = (Arc<str>, Arc<str>);

/// A queue.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    messages: OrdMap<u64, Arc<Message>>,
    /// Those that are ready, by [`place`].
    ready: OrdSet<u64>,
    /// The messages whose order is not their id, as they were dead before.
    replayed: OrdMap<u64, u64>,
    /// Each group's messages by their order: the first one is ready, delayed or someone's, the others wait.
    groups: OrdMap<Arc<str>, OrdMap<u64, u64>>,
    unique: OrdMap<Arc<str>, u64>,
    /// When a message is ready, or its time is over.
    due: OrdSet<(u64, u64)>,
    /// Keys of what was published, and until when they are remembered.
    pub(super) keys: OrdMap<Arc<str>, Key>,
    keys_due: OrdSet<(u64, Arc<str>)>,
    pub(super) dead: OrdMap<u64, Dead>,
    /// What the last attempt of a message failed of.
    whys: OrdMap<u64, Arc<str>>,
    pub(super) consumers: OrdMap<ConsumerKey, Consumer>,
    /// Who was handed the last message.
    pub(super) turn: Option<ConsumerKey>,
    pub(super) policy: QueuePolicy,
    pub(super) paused: bool,
    /// Of a declared job: messages are those of this app's consumers alone.
    pub(super) only: Option<Arc<str>>,
    pub(super) counts: QueueCounts,
    /// Who has brought it about.
    pub(super) app: Arc<str>,
    delayed: u64,
    waiting: u64,
    assigned: u64,
    pub(super) bytes: u64,
}

/// A dead message.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dead {
    pub(super) message: Arc<Message>,
    pub(super) died_ms: u64,
}

/// A key that is remembered: of which message, until when, and whose room it takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub(super) id: u64,
    pub(super) until_ms: u64,
    pub(super) app: Arc<str>,
}

/// What such a key takes.
pub(super) fn bytes_of_key(key: &str) -> u64 {
    KEY + 2 * key.len() as u64
}

/// A message that is no more, and what it took.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) message: Arc<Message>,
    pub(super) bytes: u64,
}

/// What was due.
#[derive(Debug)]
pub(super) enum Due {
    /// That was all it took.
    Nothing,
    /// A key is forgotten: whose, and what it took.
    Key(Arc<str>, u64),
    /// The time of this message is over.
    Over(u64),
}

/// The beginning of why an attempt has failed.
fn short(why: &str) -> Arc<str> {
    let why = if why.is_empty() { "it has failed" } else { why };
    why[..why.floor_char_boundary(WHY_TEXT_MAX)].into()
}

/// Of a place, what is the order.
const ORDER: u64 = u64::MAX >> 4;

/// By priority, the greatest first, and order.
fn place(message: &Message) -> u64 {
    u64::from(9 - message.priority.min(9)) << 60 | message.order & ORDER
}

/// How many messages a consumer takes, and has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Consumer {
    pub(super) window: u32,
    pub(super) assigned: u32,
}

impl Line {
    pub(super) fn new(app: Arc<str>) -> Self {
        Self {
            messages: OrdMap::new(),
            ready: OrdSet::new(),
            replayed: OrdMap::new(),
            groups: OrdMap::new(),
            unique: OrdMap::new(),
            due: OrdSet::new(),
            keys: OrdMap::new(),
            keys_due: OrdSet::new(),
            dead: OrdMap::new(),
            whys: OrdMap::new(),
            consumers: OrdMap::new(),
            turn: None,
            policy: POLICY,
            paused: false,
            only: None,
            counts: QueueCounts::default(),
            app,
            delayed: 0,
            waiting: 0,
            assigned: 0,
            bytes: 0,
        }
    }

    /// It could be made anew without a difference, but for its counts.
    pub(super) fn is_idle(&self) -> bool {
        self.messages.is_empty()
            && self.dead.is_empty()
            && self.keys.is_empty()
            && self.consumers.is_empty()
            && !self.paused
    }

    pub(super) fn get(&self, id: u64) -> Option<&Arc<Message>> {
        self.messages.get(&id)
    }

    /// To change it. What a snapshot that is being written still has is copied.
    fn get_mut(&mut self, id: u64) -> Option<&mut Message> {
        self.messages.get_mut(&id).map(Arc::make_mut)
    }

    /// Whose a message is that comes.
    pub(super) fn origin(&self, message: &QueueMessage, app: &Arc<str>) -> Arc<Origin> {
        let dead = self.dead.get_max().map(|it| &it.1.message);
        Origin::of(message, app, [self.messages.get_max().map(|it| &it.1), dead])
    }

    /// The messages by their id.
    pub(super) fn messages(&self) -> &OrdMap<u64, Arc<Message>> {
        &self.messages
    }

    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The message that is handed out next.
    pub(super) fn first_ready(&self) -> Option<(u64, &Message)> {
        let order = self.ready.get_min()? & ORDER;
        let id = self.replayed.get(&order).copied().unwrap_or(order);
        Some((id, self.messages.get(&id)?))
    }

    /// Delayed, behind others, and someone's.
    pub(super) fn others(&self) -> [u64; 3] {
        [self.delayed, self.waiting, self.assigned]
    }

    /// What its last attempt failed of.
    pub(super) fn why(&self, id: u64) -> Option<&Arc<str>> {
        self.whys.get(&id)
    }

    /// The message that bears a key that has to be the only one.
    pub(super) fn unique(&self, key: &str) -> Option<u64> {
        self.unique.get(key).copied()
    }

    /// The earliest time at which something is to be done.
    pub(super) fn due_ms(&self) -> Option<u64> {
        let (message, key) = (self.due.get_min().map(|it| it.0), self.keys_due.get_min().map(|it| it.0));
        [message, key].into_iter().flatten().min()
    }

    /// A message comes. It is ready from `from_ms` on.
    pub(super) fn add(&mut self, id: u64, message: Message, order: u64, from_ms: u64, now_ms: u64) {
        self.join(id, Message { order, attempts: 0, status: Status::Waiting(from_ms), ..message });
        self.expose(id, now_ms);
    }

    /// It is there, and waits.
    fn join(&mut self, id: u64, message: Message) {
        self.bytes += message.bytes();
        self.waiting += 1;
        if message.expires_ms != 0 {
            self.due.insert((message.expires_ms, id));
        }
        if let Some(key) = message.unique() {
            self.unique.insert(key.clone(), id);
        }
        if let Some(group) = message.group() {
            self.groups.entry(group.clone()).or_default().insert(message.order, id);
        }
        if message.order != id {
            self.replayed.insert(message.order, id);
        }
        self.messages.insert(id, Arc::new(message));
    }

    /// One that waits does so no longer, if nothing of its group is before it.
    fn expose(&mut self, id: u64, now_ms: u64) {
        let Some(Status::Waiting(from_ms)) = self.messages.get(&id).map(|it| it.status) else { return };
        if self.is_first(id) {
            let status = if from_ms > now_ms { Status::Delayed(from_ms) } else { Status::Ready };
            self.set(id, status);
        }
    }

    fn is_first(&self, id: u64) -> bool {
        let group = self.messages.get(&id).and_then(|it| it.group());
        let first = group.and_then(|it| self.groups.get(it)?.get_min());
        first.is_none_or(|(_, first)| *first == id)
    }

    /// It stands elsewhere from now on.
    fn set(&mut self, id: u64, status: Status) {
        let Some(message) = self.get_mut(id) else { return };
        let (place, expires_ms) = (place(message), message.expires_ms);
        match std::mem::replace(&mut message.status, status) {
            Status::Ready => drop(self.ready.remove(&place)),
            Status::Delayed(from_ms) => {
                self.delayed -= 1;
                if from_ms != expires_ms {
                    self.due.remove(&(from_ms, id));
                }
            }
            Status::Waiting(_) => self.waiting -= 1,
            Status::Assigned(_) => {
                self.assigned -= 1;
                if expires_ms != 0 {
                    self.due.insert((expires_ms, id));
                }
            }
        }
        match status {
            Status::Ready => drop(self.ready.insert(place)),
            Status::Delayed(from_ms) => {
                self.delayed += 1;
                self.due.insert((from_ms, id));
            }
            Status::Waiting(_) => self.waiting += 1,
            // Whoever has it may settle it, however late.
            Status::Assigned(_) => {
                self.assigned += 1;
                self.due.remove(&(expires_ms, id));
            }
        }
    }

    /// The next one that is ready is someone's, by this delivery.
    pub(super) fn hand_out(&mut self, delivery: u64) -> Option<u64> {
        let (id, _) = self.first_ready()?;
        self.set(id, Status::Assigned(delivery));
        self.counts.delivered += 1;
        if let Some(message) = self.get_mut(id) {
            message.attempts = message.attempts.saturating_add(1);
        }
        Some(id)
    }

    /// It is nobody's any more, and ready from `from_ms` on. `why` its attempt failed; if it did not, it was none.
    pub(super) fn give_back(&mut self, id: u64, from_ms: u64, why: Option<&str>, now_ms: u64) {
        match why {
            Some(why) if self.messages.contains_key(&id) => {
                self.counts.failed += 1;
                self.whys.insert(id, short(why));
            }
            Some(_) => return,
            None => {
                let Some(message) = self.get_mut(id) else { return };
                message.attempts = message.attempts.saturating_sub(1);
            }
        }
        self.set(id, Status::Waiting(from_ms));
        self.expose(id, now_ms);
    }

    /// It is gone; the next one of its group is first.
    pub(super) fn take(&mut self, id: u64, now_ms: u64) -> Option<Taken> {
        // Out of whichever map it is in.
        self.set(id, Status::Waiting(0));
        let message = self.messages.remove(&id)?;
        self.waiting -= 1;
        if message.order != id {
            self.replayed.remove(&message.order);
        }
        let bytes = message.bytes();
        self.whys.remove(&id);
        self.bytes -= bytes;
        if message.expires_ms != 0 {
            self.due.remove(&(message.expires_ms, id));
        }
        if let Some(key) = message.unique().filter(|key| self.unique.get(*key) == Some(&id)) {
            self.unique.remove(key);
        }
        if let Some(group) = message.group() {
            let next = self.groups.get_mut(group).and_then(|line| {
                line.remove(&message.order);
                line.get_min().map(|(_, next)| *next)
            });
            match next {
                Some(next) => self.expose(next, now_ms),
                None => drop(self.groups.remove(group)),
            }
        }
        Some(Taken { message, bytes })
    }

    /// No attempt is made any more.
    pub(super) fn die(&mut self, id: u64, why: &str, now_ms: u64) {
        let Some(Taken { message, .. }) = self.take(id, now_ms) else { return };
        self.counts.died += 1;
        self.restore_dead(id, Dead { message, died_ms: now_ms }, why);
    }

    /// A dead one is ready again, behind all others, whatever its time was; false: it is none, or another has its key by now.
    pub(super) fn replay(&mut self, id: u64, order: u64, now_ms: u64) -> bool {
        let taken = |it: &Dead| it.message.unique().is_some_and(|key| self.unique.contains_key(key));
        if self.dead.get(&id).is_none_or(taken) {
            return false;
        }
        let Some(Taken { message, .. }) = self.forget(id) else { return false };
        let message = Message { expires_ms: 0, ..Arc::unwrap_or_clone(message) };
        self.add(id, message, order, 0, now_ms);
        true
    }

    /// A dead one is gone for good.
    pub(super) fn forget(&mut self, id: u64) -> Option<Taken> {
        let Dead { message, .. } = self.dead.remove(&id)?;
        let bytes = message.bytes();
        self.whys.remove(&id);
        self.bytes -= bytes;
        Some(Taken { message, bytes })
    }

    /// A key is remembered, which was not, or was forgotten.
    pub(super) fn remember(&mut self, key: Arc<str>, known: Key) {
        self.bytes += bytes_of_key(&key);
        self.keys_due.insert((known.until_ms, key.clone()));
        self.keys.insert(key, known);
    }

    /// Whose it was, and what it took.
    pub(super) fn forget_key(&mut self, key: &Arc<str>) -> Option<(Arc<str>, u64)> {
        let known = self.keys.remove(key)?;
        let bytes = bytes_of_key(key);
        self.bytes -= bytes;
        self.keys_due.remove(&(known.until_ms, key.clone()));
        Some((known.app, bytes))
    }

    /// Keys of messages up to this one that are here no more, at most so many.
    pub(super) fn loose_keys(&self, upto: u64, limit: usize) -> Vec<Arc<str>> {
        let is_loose = |it: &Key| {
            it.id <= upto && !self.messages.contains_key(&it.id) && !self.dead.contains_key(&it.id)
        };
        self.keys.iter().filter(|(_, it)| is_loose(it)).map(|(key, _)| key.clone()).take(limit).collect()
    }

    /// What is due first is done, if anything is.
    pub(super) fn expire_one(&mut self, now_ms: u64) -> Option<Due> {
        if let Some((_, key)) = self.keys_due.get_min().filter(|it| it.0 <= now_ms).cloned() {
            return Some(self.forget_key(&key).map_or(Due::Nothing, |(app, bytes)| Due::Key(app, bytes)));
        }
        let (at_ms, id) = self.due.get_min().filter(|it| it.0 <= now_ms).copied()?;
        self.due.remove(&(at_ms, id));
        let Some(message) = self.messages.get(&id) else { return Some(Due::Nothing) };
        match message.status {
            _ if message.is_over(now_ms) => return Some(Due::Over(id)),
            Status::Delayed(from_ms) if from_ms <= now_ms => self.set(id, Status::Ready),
            Status::Delayed(from_ms) => drop(self.due.insert((from_ms, id))),
            Status::Ready | Status::Waiting(_) | Status::Assigned(_) => {}
        }
        Some(Due::Nothing)
    }

    /// Puts a message back, from a snapshot: where it stood. What it takes.
    pub(super) fn restore(&mut self, id: u64, message: Message, why: &str) -> u64 {
        let (status, bytes) = (message.status, message.bytes());
        self.join(id, Message { status: Status::Waiting(0), ..message });
        self.set(id, status);
        if !why.is_empty() {
            self.whys.insert(id, short(why));
        }
        bytes
    }

    /// A message is dead from now on; the same. What it takes.
    pub(super) fn restore_dead(&mut self, id: u64, dead: Dead, why: &str) -> u64 {
        let bytes = dead.message.bytes();
        self.bytes += bytes;
        self.dead.insert(id, dead);
        self.whys.insert(id, short(why));
        bytes
    }
}
