//! Queues: of each message one holder at a time, until someone has settled it. To hand a message out is an effect of what makes it possible - a
//! publish, a settlement, a consumer's word - and no command of its own; so whoever leads next knows who has what. Pure: what is due by the clock is
//! the leader's word (docs/queues.md).

mod delivery;
mod line;
mod manage;
mod message;
mod names;
mod process;
mod receive;
mod reply;
mod run;
mod snapshot;
#[cfg(test)]
mod tests;
mod topic;

pub(crate) use message::PRIORITY_MAX;
pub(crate) use names::{JOB_QUEUES_MAX, QUEUES_MAX, STEP_QUEUES_MAX, SUBSCRIPTION_QUEUES_MAX};
pub(crate) use run::step_of;
pub(crate) use topic::subscription_of;

use super::{
    cache::Caches,
    change::Change,
    job::Jobs,
    lease::Leases,
    written::{Known, Written},
};
use delivery::{Assigned, End};
use imbl::{OrdMap, OrdSet};
use line::{Due, Key, Line, Taken, bytes_of_key};
use message::{Asker, Message, Times, bytes_of};
use names::Kind;
use process::Process;
use proto::hub::v1::{
    ExpireQueues, MessagesPublished, QueueMessage, QueueOutcome, QueueWrite, QueuesFull, QueuesWritten,
    RunPart, WriteQueues, message_reply, queue_outcome::Outcome, queue_write::Write, queues_full::Of,
};
use receive::Receive;
use reply::Reply;
use run::{Join, Run, Totals};
use std::sync::Arc;

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
    /// The same by server and id.
    receives_by_id: OrdMap<(Arc<str>, u64), (Arc<str>, u64)>,
    /// When replies, and waits, are over.
    ends: OrdSet<(u64, End)>,
    /// Servers whose dead process had more than was others' at once.
    releasing: OrdSet<Arc<str>>,
    /// Queues that have ended, and up to which message: what is left of them goes step by step.
    ending: OrdMap<Arc<str>, u64>,
    /// Queues whose next messages are of runs that have ended: they go step by step, too.
    sweeping: OrdSet<Arc<str>>,
    apps: OrdMap<Arc<str>, Share>,
    /// Names of each kind.
    kinds: [usize; 4],
    runs: OrdMap<u64, Run>,
    /// How many of each pipeline there are.
    pipelines: OrdMap<Arc<str>, Totals>,
    /// Parts of runs that wait for the others: by run and join, and those that are there by join and part.
    joins: OrdMap<(u64, u64), Join>,
    joined: OrdMap<(u64, u32), RunPart>,
    /// Durable subscriptions by topic and name, and whose they are.
    topics: OrdMap<String, OrdMap<String, String>>,
    bytes: u64,
    /// Of messages, deliveries, replies, orders: each greater than all before it.
    last: u64,
    written: Written<QueueOutcome>,
}

/// An app's part.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Share {
    bytes: u64,
    queues: usize,
    steps: usize,
    receives: usize,
    runs: usize,
}

/// What all messages, and caches, may take.
#[derive(Debug, Clone, Copy)]
struct Max {
    bytes: u64,
    cache_bytes: u64,
}

/// What a write may need beside the queues.
pub(super) struct Around<'a> {
    pub(super) leases: &'a Leases,
    pub(super) caches: &'a mut Caches,
    pub(super) jobs: &'a mut Jobs,
    pub(super) now_ms: u64,
    pub(super) changes: &'a mut Vec<Change>,
}

fn full(of: Of, max: u64) -> Outcome {
    Outcome::Full(QueuesFull { of: of.into(), max })
}

impl Queues {
    /// Carries a call's writes out, those that are new.
    pub(super) fn write(&mut self, call: WriteQueues, around: &mut Around<'_>) -> QueuesWritten {
        let WriteQueues { server, started_ms, first, settled, writes, max_bytes, cache_max_bytes } = call;
        let max = Max { bytes: max_bytes, cache_bytes: cache_max_bytes };
        let is_current = self.written.begin(&server, started_ms, settled);
        let is_current = is_current && self.process(&server, started_ms, around.now_ms, around.changes);
        let server: Arc<str> = server.into();
        let numbered = (first..).zip(writes);
        let outcomes = numbered.map(|(number, write)| {
            let known = if is_current { self.written.known(&server, number) } else { Known::Settled };
            match known {
                Known::Settled => QueueOutcome { outcome: Some(Outcome::Answered(true)) },
                Known::Outcome(known) => known,
                Known::New => {
                    let came = self.carry_out(&server, started_ms, write, max, around);
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
            Some(Write::Unsubscribe(unsubscribe)) => self.unsubscribe(&unsubscribe),
            Some(Write::BeginRun(begin)) => {
                let around = (around.now_ms, &mut *around.changes);
                self.begin_run((server, started_ms), begin, max.bytes, around)
            }
            Some(Write::PutJob(put)) => Outcome::JobPut(Box::new(around.jobs.put(put))),
            Some(Write::RemoveJob(remove)) => Outcome::JobRemoved(around.jobs.remove(&remove)),
            Some(Write::RunJob(run)) => {
                let Around { jobs, now_ms, changes, .. } = around;
                Outcome::JobManaged(jobs.run(&run.name, self, max.bytes, *now_ms, changes))
            }
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
            let (id, is_new) =
                self.publish_one((server, started_ms), message, (around.now_ms, around.changes));
            published.ids.push(id);
            if !is_new {
                published.repeated.push(place);
            }
        }
        Outcome::Published(published)
    }

    /// Why there is no room for these.
    fn is_full(&mut self, messages: &[QueueMessage], max: u64) -> Option<Outcome> {
        let app = &messages.first()?.app;
        let (mut bytes, mut new) = (0, Vec::new());
        for message in messages {
            let key = &message.idempotency_key;
            bytes += bytes_of(message) + if key.is_empty() { 0 } else { bytes_of_key(key) };
            if !self.all.contains_key(&*message.queue) && !new.contains(&&message.queue) {
                new.push(&message.queue);
            }
        }
        if self.bytes + bytes > max {
            return Some(full(Of::All, max));
        }
        if self.apps.get(&**app).map_or(0, |it| it.bytes) + bytes > max / 2 {
            return Some(full(Of::App, max / 2));
        }
        // Those of one publish are of one kind: the hub's own come alone.
        let kind = Kind::of(new.first()?);
        self.room_for_names(kind, app, new.len()).err().map(|max| full(Of::Queues, max as u64))
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
        (now_ms, changes): (u64, &mut Vec<Change>),
    ) -> (u64, bool) {
        let app = self.app(&message.app);
        let queue = self.queue(&message.queue, &app);
        let key: Option<Arc<str>> = (!message.idempotency_key.is_empty())
            .then(|| std::mem::take(&mut message.idempotency_key).into());
        if let Some(line) = self.all.get(&queue) {
            let known = key.as_ref().and_then(|key| line.keys.get(key)).filter(|it| it.until_ms > now_ms);
            let known = known.map(|it| it.id).or_else(|| line.unique(&message.unique));
            if let Some(id) = known {
                return (id, false);
            }
        }
        let QueueMessage { delay_ms, key_ms, wait_ms, ask, .. } = message;
        let until_ms = now_ms.saturating_add(wait_ms);
        let asker = (wait_ms > 0).then(|| Asker { server: server.clone(), started_ms, until_ms, ask });
        let id = self.next();
        let key_bytes = key.as_ref().map_or(0, |it| bytes_of_key(it));
        let (known, until_ms) = (app.clone(), now_ms.saturating_add(key_ms));
        let changed = self.change(&queue, |line| {
            line.counts.published += 1;
            let (origin, times) = (line.origin(&message, &app), Times::of(&message, now_ms));
            let message = Message::new(message, origin, asker, times);
            let bytes = message.bytes();
            line.add(
                id,
                message,
                id,
                if delay_ms == 0 { 0 } else { now_ms.saturating_add(delay_ms) },
                now_ms,
            );
            let outlived = key.and_then(|key| {
                let outlived = line.forget_key(&key);
                line.remember(key, Key { id, until_ms, app: known });
                outlived
            });
            (bytes, outlived)
        });
        let (bytes, outlived) = changed.unwrap_or_default();
        if let Some((app, bytes)) = outlived {
            self.share(&app, |it| it.bytes -= bytes);
        }
        self.share(&app, |it| it.bytes += bytes + key_bytes);
        self.hand_out(&queue, now_ms, changes);
        (id, true)
    }

    /// Publishes what the hub itself has to say; nobody waits for a reply. Whether it was not there before; `None`: there is no room.
    pub(super) fn publish_own(
        &mut self,
        message: QueueMessage,
        max: u64,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) -> Option<bool> {
        if self.is_full(std::slice::from_ref(&message), max).is_some() {
            return None;
        }
        let message = QueueMessage { wait_ms: 0, ..message };
        Some(self.publish_one((&Arc::from(""), 0), message, (now_ms, changes)).1)
    }

    /// Whether someone takes messages of a queue.
    pub(crate) fn is_taken(&self, queue: &str) -> bool {
        self.all.get(queue).is_some_and(|line| line.consumers.values().any(|it| it.window > 0))
    }

    /// A message is no more.
    fn gone(&mut self, taken: &Taken) {
        self.share(taken.message.app(), |it| it.bytes -= taken.bytes);
    }

    /// Does what is due by `now_ms`, at most `limit` of it.
    pub(super) fn expire(&mut self, expire: &ExpireQueues, now_ms: u64, changes: &mut Vec<Change>) {
        let mut left = expire.limit;
        while left > 0
            && let Some(server) = self.releasing.get_min().cloned()
        {
            left -= self.release_some(&server, left, now_ms, changes);
        }
        while left > 0
            && let Some((queue, upto)) = self.ending.get_min().cloned()
        {
            left -= self.end_some(&queue, upto, left, now_ms, changes);
        }
        while left > 0
            && let Some(queue) = self.sweeping.get_min().cloned()
        {
            let dropped = self.drop_of_ended_runs(&queue, left, now_ms);
            self.sweeping.remove(&queue);
            if dropped == left {
                self.sweeping.insert(queue);
                return;
            }
            left -= dropped.max(1);
            self.hand_out(&queue, now_ms, changes);
        }
        while left > 0
            && let Some((_, queue)) = self.by_due.get_min().filter(|it| it.0 <= now_ms).cloned()
        {
            left -= 1;
            match self.change(&queue, |line| line.expire_one(now_ms)).flatten() {
                Some(Due::Over(id)) => self.expired(&queue, id, now_ms, changes),
                Some(Due::Key(app, bytes)) => self.share(&app, |it| it.bytes -= bytes),
                Some(Due::Nothing) | None => {}
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
                End::Run(run) => left = left.saturating_sub(self.forget_run(run)),
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
        if let Some(taken) = taken.flatten() {
            self.gone(&taken);
            self.lost((queue, id), &taken.message, "nobody has taken it in its time", (now_ms, changes));
        }
    }

    /// Nothing comes of a message any more: whoever waits is told, and its run fails.
    fn lost(
        &mut self,
        (queue, id): (&str, u64),
        message: &Message,
        why: &str,
        (now_ms, changes): (u64, &mut Vec<Change>),
    ) {
        self.reply(id, message, message_reply::Outcome::Failed(why.to_owned()), (now_ms, &mut *changes));
        if let Some(place) = message.run() {
            let step = step_of(queue).map_or(queue, |it| it.1);
            self.run_fails(place.run, &format!("at {step}, message {id}: {why}"), (now_ms, changes));
        }
    }

    /// The earliest time at which something is due: of messages and those who wait, and of deliveries.
    pub(crate) fn next_due_ms(&self) -> (Option<u64>, Option<u64>) {
        let is_begun = !self.releasing.is_empty() || !self.ending.is_empty() || !self.sweeping.is_empty();
        let due = self.by_due.get_min().map(|it| it.0);
        let end = self.ends.get_min().map(|it| it.0);
        let begun = is_begun.then_some(0);
        (due.into_iter().chain(end).chain(begun).min(), self.deadlines.get_min().map(|it| it.0))
    }

    /// What messages take.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
