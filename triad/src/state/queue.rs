//! Queues: of each message one holder at a time, until someone has settled it. To hand a message out is an effect of what makes it possible - a
//! publish, a settlement, a consumer's word - and no command of its own; so whoever leads next knows who has what. Pure: what is due by the clock is
//! the leader's word (docs/queues.md).

mod delivery;
mod line;
mod manage;
mod message;
mod snapshot;
#[cfg(test)]
mod tests;
mod topic;

pub(crate) use message::PRIORITY_MAX;
pub(crate) use topic::subscription_of;

use super::{
    cache::Caches,
    change::Change,
    lease::Leases,
    written::{Known, Written},
};
use delivery::{Assigned, End, Receive};
use imbl::{OrdMap, OrdSet};
use line::Line;
use message::{Asker, Fixed, bytes_of};
use proto::hub::v1::{
    ExpireQueues, MessageReply, MessagesPublished, QueueMessage, QueueOutcome, QueueWrite, QueuesFull,
    QueuesWritten, WriteQueues, message_reply, queue_outcome::Outcome, queue_write::Write, queues_full::Of,
};
use std::sync::Arc;

/// Names that there may be; those that one app has brought about.
pub(crate) const QUEUES_MAX: usize = 1000;
const APP_QUEUES_MAX: usize = QUEUES_MAX / 2;

/// Those who wait to receive, and those of one app.
const RECEIVES_MAX: usize = 10_000;
const APP_RECEIVES_MAX: usize = 2_000;

/// A reply that waits for whoever asked, beside its body.
const REPLY: u64 = 300;

/// The queues.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Queues {
    all: OrdMap<Arc<str>, Line>,
    /// By when the first thing is due in each.
    by_due: OrdSet<(u64, Arc<str>)>,
    servers: OrdMap<Arc<str>, Process>,
    /// Messages that are someone's, by server and delivery.
    assigned: OrdMap<(Arc<str>, u64), Assigned>,
    deadlines: OrdSet<(u64, Arc<str>, u64)>,
    /// Replies for those who wait, by server and number.
    replies: OrdMap<(Arc<str>, u64), Reply>,
    /// Those who wait to receive, by queue, the first one first.
    receives: OrdMap<(Arc<str>, u64), Receive>,
    /// When replies, and waits, are over.
    ends: OrdSet<(u64, End)>,
    apps: OrdMap<Arc<str>, Share>,
    /// Durable subscriptions by topic and name, and whose they are.
    topics: OrdMap<String, OrdMap<String, String>>,
    bytes: u64,
    /// Of messages, deliveries, replies, orders: each greater than all before it.
    last: u64,
    written: Written<QueueOutcome>,
}

/// A server's process.
#[derive(Debug, Clone, Default, PartialEq)]
struct Process {
    started_ms: u64,
    /// Of its last word on what it takes.
    number: u64,
    /// How often what it had was given to others.
    released: u64,
}

/// An app's part.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Share {
    bytes: u64,
    queues: usize,
    receives: usize,
}

#[derive(Debug, Clone, PartialEq)]
struct Reply {
    reply: Arc<MessageReply>,
    until_ms: u64,
}

impl Reply {
    fn bytes(&self) -> u64 {
        REPLY
            + match &self.reply.outcome {
                Some(message_reply::Outcome::Done(done)) => {
                    (done.body.len() + done.content_type.len()) as u64
                }
                Some(message_reply::Outcome::Failed(why)) => why.len() as u64,
                None => 0,
            }
    }
}

/// What all messages, and caches, may take.
#[derive(Debug, Clone, Copy)]
struct Max {
    bytes: u64,
    cache_bytes: u64,
}

/// What a write may need beside the queues.
struct Around<'a> {
    leases: &'a Leases,
    caches: &'a mut Caches,
    now_ms: u64,
    changes: &'a mut Vec<Change>,
}

fn full(of: Of, max: u64) -> Outcome {
    Outcome::Full(QueuesFull { of: of.into(), max })
}

impl Queues {
    /// Carries a call's writes out, those that are new.
    pub(super) fn write(
        &mut self,
        call: WriteQueues,
        leases: &Leases,
        caches: &mut Caches,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) -> QueuesWritten {
        let WriteQueues { server, started_ms, first, settled, writes, max_bytes, cache_max_bytes } = call;
        let max = Max { bytes: max_bytes, cache_bytes: cache_max_bytes };
        let is_current = self.written.begin(&server, started_ms, settled);
        let is_current = is_current && self.process(&server, started_ms, now_ms, changes);
        let server: Arc<str> = server.into();
        let numbered = (first..).zip(writes);
        let outcomes = numbered.map(|(number, write)| {
            let mut around = Around { leases, caches: &mut *caches, now_ms, changes: &mut *changes };
            let known = if is_current { self.written.known(&server, number) } else { Known::Settled };
            match known {
                Known::Settled => QueueOutcome { outcome: Some(Outcome::Answered(true)) },
                Known::Outcome(known) => known,
                Known::New => {
                    let came = self.carry_out(&server, started_ms, write, max, &mut around);
                    let came = QueueOutcome { outcome: Some(came) };
                    self.written.note(&server, number, came.clone());
                    came
                }
            }
        });
        QueuesWritten { outcomes: outcomes.collect() }
    }

    fn carry_out(
        &mut self,
        server: &Arc<str>,
        started_ms: u64,
        write: QueueWrite,
        max: Max,
        around: &mut Around<'_>,
    ) -> Outcome {
        if write.fence.as_ref().is_some_and(|it| !around.leases.is_held(&it.name, it.token)) {
            return Outcome::StaleFence(true);
        }
        match write.write {
            Some(Write::Publish(publish)) => {
                self.publish((server, started_ms), publish.messages, max.bytes, around)
            }
            Some(Write::Settle(settle)) => self.settle((server, started_ms), settle, max, around),
            Some(Write::Receive(receive)) => self.receive(server, receive, around),
            Some(Write::StopReceiving(id)) => {
                self.stop_receiving(server, id);
                Outcome::Done(true)
            }
            Some(Write::PublishToTopic(message)) => {
                self.publish_to_topic((server, started_ms), &message, max.bytes, around)
            }
            Some(Write::Subscribe(subscribe)) => self.subscribe(subscribe),
            Some(Write::Unsubscribe(unsubscribe)) => self.unsubscribe(&unsubscribe, around),
            // Refused when the batch was decoded.
            None => Outcome::Done(false),
        }
    }

    /// The next number.
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// An app's name, shared by all that is its.
    fn app(&mut self, app: &str) -> Arc<str> {
        match self.apps.get_key_value(app) {
            Some((app, _)) => app.clone(),
            None => app.into(),
        }
    }

    /// Changes what an app takes.
    fn share(&mut self, app: &Arc<str>, change: impl FnOnce(&mut Share)) {
        let mut share = self.apps.get(app).copied().unwrap_or_default();
        change(&mut share);
        if share == Share::default() {
            self.apps.remove(app);
        } else {
            self.apps.insert(app.clone(), share);
        }
    }

    fn publish(
        &mut self,
        (server, started_ms): (&Arc<str>, u64),
        messages: Vec<QueueMessage>,
        max: u64,
        around: &mut Around<'_>,
    ) -> Outcome {
        if let Some(full) = self.is_full(&messages, max) {
            return full;
        }
        let mut published =
            MessagesPublished { ids: Vec::with_capacity(messages.len()), repeated: Vec::new() };
        for (place, message) in (0..).zip(messages) {
            let (id, is_new) = self.publish_one((server, started_ms), message, around);
            published.ids.push(id);
            if !is_new {
                published.repeated.push(place);
            }
        }
        Outcome::Published(published)
    }

    /// Why there is no room for these.
    fn is_full(&mut self, messages: &[QueueMessage], max: u64) -> Option<Outcome> {
        let (mut bytes, mut new_queues) = (0, Vec::new());
        for message in messages {
            bytes += bytes_of(message);
            if !self.all.contains_key(&*message.queue) && !new_queues.contains(&&message.queue) {
                new_queues.push(&message.queue);
            }
        }
        if self.bytes + bytes > max {
            return Some(full(Of::All, max));
        }
        let app = messages.first().map_or("", |it| &it.app);
        let share = self.apps.get(app).copied().unwrap_or_default();
        if share.bytes + bytes > max / 2 {
            return Some(full(Of::App, max / 2));
        }
        if share.queues + new_queues.len() > APP_QUEUES_MAX {
            return Some(full(Of::Queues, APP_QUEUES_MAX as u64));
        }
        let new = new_queues.len();
        if new > 0 {
            self.drop_idle(new);
        }
        (self.all.len() + new > QUEUES_MAX).then(|| full(Of::Queues, QUEUES_MAX as u64))
    }

    /// Makes room for so many names where nothing is.
    fn drop_idle(&mut self, new: usize) {
        let over = (self.all.len() + new).saturating_sub(QUEUES_MAX);
        let is_idle = |name: &Arc<str>, line: &Line| {
            line.is_idle() && !self.is_received(name) && subscription_of(name).is_none()
        };
        let idle = self.all.iter().filter(|(name, line)| is_idle(name, line)).map(|(name, _)| name.clone());
        let idle: Vec<Arc<str>> = if over == 0 { Vec::new() } else { idle.take(over).collect() };
        for name in idle {
            if let Some(line) = self.all.remove(&name) {
                self.share(&line.app, |it| it.queues -= 1);
            }
        }
    }

    /// The name of a queue that is there from now on.
    fn queue(&mut self, name: &str, app: &Arc<str>) -> Arc<str> {
        if let Some((name, _)) = self.all.get_key_value(name) {
            return name.clone();
        }
        let name: Arc<str> = name.into();
        self.all.insert(name.clone(), Line::new(app.clone()));
        self.share(app, |it| it.queues += 1);
        name
    }

    /// Changes a queue, if it is there, and keeps what is known of all of them.
    fn change<T>(&mut self, queue: &Arc<str>, change: impl FnOnce(&mut Line) -> T) -> Option<T> {
        let line = self.all.get_mut(queue)?;
        let before = (line.due_ms(), line.bytes);
        let changed = change(line);
        let after = (line.due_ms(), line.bytes);
        self.bytes = self.bytes + after.1 - before.1;
        if before.0 != after.0 {
            before.0.into_iter().for_each(|it| drop(self.by_due.remove(&(it, queue.clone()))));
            after.0.into_iter().for_each(|it| drop(self.by_due.insert((it, queue.clone()))));
        }
        Some(changed)
    }

    /// The id of a message that is there from now on, and whether it was not before.
    fn publish_one(
        &mut self,
        (server, started_ms): (&Arc<str>, u64),
        mut message: QueueMessage,
        around: &mut Around<'_>,
    ) -> (u64, bool) {
        let now_ms = around.now_ms;
        let app = self.app(&message.app);
        let queue = self.queue(&message.queue, &app);
        let key: Option<Arc<str>> = (!message.idempotency_key.is_empty())
            .then(|| std::mem::take(&mut message.idempotency_key).into());
        if let Some(line) = self.all.get(&queue) {
            let known = key.as_ref().and_then(|key| line.keys.get(key)).filter(|it| it.1 > now_ms);
            let known = known.map(|it| it.0).or_else(|| line.unique(&message.unique));
            if let Some(id) = known {
                return (id, false);
            }
        }
        let QueueMessage { delay_ms, key_ms, wait_ms, ask, .. } = message;
        let until_ms = now_ms.saturating_add(wait_ms);
        let asker = (wait_ms > 0).then(|| Asker { server: server.clone(), started_ms, until_ms, ask });
        let fixed = Arc::new(Fixed::new(message, app.clone(), asker, now_ms));
        let (id, bytes) = (self.next(), fixed.bytes());
        self.change(&queue, |line| {
            line.counts.published += 1;
            line.add(id, fixed, id, if delay_ms == 0 { 0 } else { now_ms.saturating_add(delay_ms) }, now_ms);
            if let Some(key) = key {
                line.remember(key, id, now_ms.saturating_add(key_ms));
            }
        });
        self.share(&app, |it| it.bytes += bytes);
        self.hand_out(&queue, now_ms, around.changes);
        (id, true)
    }

    /// Publishes what the hub itself has to say; nobody waits for a reply.
    ///
    /// # Errors
    /// There is no room.
    pub(super) fn publish_own(
        &mut self,
        message: QueueMessage,
        max: u64,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) -> Result<bool, Outcome> {
        if let Some(full) = self.is_full(std::slice::from_ref(&message), max) {
            return Err(full);
        }
        let (leases, caches) = (&Leases::default(), &mut Caches::default());
        let mut around = Around { leases, caches, now_ms, changes };
        Ok(self.publish_one((&Arc::from(""), 0), QueueMessage { wait_ms: 0, ..message }, &mut around).1)
    }

    /// Whether someone takes messages of a queue.
    pub(crate) fn is_taken(&self, queue: &str) -> bool {
        self.all.get(queue).is_some_and(|line| line.consumers.values().any(|it| it.window > 0))
    }

    /// A message is no more.
    fn gone(&mut self, fixed: &Fixed) {
        self.share(&fixed.app, |it| it.bytes = it.bytes.saturating_sub(fixed.bytes()));
    }

    /// Tells whoever waits for a message's reply.
    fn reply(
        &mut self,
        id: u64,
        fixed: &Fixed,
        outcome: message_reply::Outcome,
        around: (u64, &mut Vec<Change>),
    ) {
        let (now_ms, changes) = around;
        let Some(Asker { server, started_ms, until_ms, ask }) = fixed.asker().cloned() else { return };
        let is_there = self.servers.get(&server).is_some_and(|it| it.started_ms == started_ms);
        if until_ms <= now_ms || !is_there {
            return;
        }
        let number = self.next();
        let reply =
            Reply { reply: Arc::new(MessageReply { number, id, ask, outcome: Some(outcome) }), until_ms };
        self.put_reply(&server, number, reply);
        changes.push(Change::Delivered(server));
    }

    fn put_reply(&mut self, server: &Arc<str>, number: u64, reply: Reply) {
        self.bytes += reply.bytes();
        self.ends.insert((reply.until_ms, End::Reply(server.clone(), number)));
        self.replies.insert((server.clone(), number), reply);
    }

    fn take_reply(&mut self, server: &Arc<str>, number: u64) {
        if let Some(reply) = self.replies.remove(&(server.clone(), number)) {
            self.bytes -= reply.bytes();
            self.ends.remove(&(reply.until_ms, End::Reply(server.clone(), number)));
        }
    }

    /// Does what is due by `now_ms`, at most `limit` of it.
    pub(super) fn expire(&mut self, expire: &ExpireQueues, now_ms: u64, changes: &mut Vec<Change>) {
        let mut left = expire.limit;
        while left > 0
            && let Some((_, queue)) = self.by_due.get_min().filter(|it| it.0 <= now_ms).cloned()
        {
            left -= 1;
            let over = self.change(&queue, |line| line.expire_one(now_ms)).flatten();
            if let Some(Err(id)) = over {
                self.expired(&queue, id, now_ms, changes);
            }
            self.hand_out(&queue, now_ms, changes);
        }
        while left > 0
            && let Some((_, end)) = self.ends.get_min().filter(|it| it.0 <= now_ms).cloned()
        {
            left -= 1;
            match end {
                End::Reply(server, number) => self.take_reply(&server, number),
                End::Receive(queue, order) => drop(self.take_receive(&(queue, order))),
            }
        }
        while expire.deliveries
            && left > 0
            && let Some((_, server, number)) = self.deadlines.get_min().filter(|it| it.0 <= now_ms).cloned()
        {
            left -= 1;
            self.failed(&(server, number), "it was not settled in time", None, now_ms, changes);
        }
    }

    /// Nobody has taken a message in its time.
    fn expired(&mut self, queue: &Arc<str>, id: u64, now_ms: u64, changes: &mut Vec<Change>) {
        let taken = self.change(queue, |line| {
            line.counts.expired += 1;
            line.take(id, now_ms)
        });
        if let Some(fixed) = taken.flatten() {
            self.gone(&fixed);
            let outcome = message_reply::Outcome::Failed("nobody has taken it in its time".to_owned());
            self.reply(id, &fixed, outcome, (now_ms, changes));
        }
    }

    /// The earliest time at which something is due: of messages and those who wait, and of deliveries.
    pub(crate) fn next_due_ms(&self) -> (Option<u64>, Option<u64>) {
        let due = self.by_due.get_min().map(|it| it.0);
        let end = self.ends.get_min().map(|it| it.0);
        (due.into_iter().chain(end).min(), self.deadlines.get_min().map(|it| it.0))
    }

    /// What messages take.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
