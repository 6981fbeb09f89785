//! Who has which message: servers' processes say what they take, are handed messages in turn, and settle them.

use super::{
    Around, Max, Queues,
    line::{Consumer, ConsumerKey, Line},
    names::Kind,
    process::Process,
    receive::Receive,
};
use crate::state::change::Change;
use proto::hub::v1::{
    Advance, ConsumeQueues, Delivery, DeliveryDone, MessageReply, QueueMessage, QueuePolicy, QueuesConsumed,
    SettleDelivery, cache_outcome, queue_outcome::Outcome, settle_delivery,
};
use std::{ops::Bound, sync::Arc};

/// A delivery's time begins before its server has it, and its answer comes after it was given: this much is allowed for both.
const UNDER_WAY_MS: u64 = 5_000;

/// Messages of runs that have ended which are dropped before another one is handed out.
const DROPPED_AT_ONCE: u32 = 100;

/// A wait grows no more often than this.
const ROUNDS: u32 = 1000;

/// What is over at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Reply(Arc<str>, u64),
    Receive(Arc<str>, u64),
    Run(u64),
}

/// A message that is someone's.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Assigned {
    pub(super) queue: Arc<str>,
    pub(super) id: u64,
    pub(super) app: Arc<str>,
    pub(super) handed_ms: u64,
    pub(super) deadline_ms: u64,
    /// Of who has asked for it; 0: a consumer.
    pub(super) receive: u64,
    pub(super) of: u32,
}

/// Who is handed a message.
struct Taker<'a> {
    server: &'a Arc<str>,
    app: &'a Arc<str>,
    receive: u64,
    of: u32,
    timeout_ms: u64,
}

/// How long a message waits before its next attempt. No two wait equally long: those that failed together don't come together again.
fn backoff_ms(policy: &QueuePolicy, attempts: u32, id: u64) -> u64 {
    let max = policy.max_delay_ms.max(policy.delay_ms);
    let mut delay = policy.delay_ms;
    for _ in 1..attempts.min(ROUNDS) {
        let longer = (delay.saturating_mul(u64::from(policy.factor.max(1000))) / 1000).min(max);
        if longer == delay {
            break;
        }
        delay = longer;
    }
    let spread = id.wrapping_add(u64::from(attempts)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    delay.saturating_mul(900 + spread % 200) / 1000
}

impl Queues {
    /// How many messages a process takes.
    pub(crate) fn consume(
        &mut self,
        call: ConsumeQueues,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) -> QueuesConsumed {
        let ConsumeQueues { server, started_ms, number, windows } = call;
        let is_current = self.process(&server, started_ms, now_ms, changes);
        let Some((server, process)) = self.servers.get_key_value(&*server).filter(|_| is_current) else {
            return QueuesConsumed { outdated: true, no_room: 0 };
        };
        if process.number >= number {
            return QueuesConsumed { outdated: process.number > number, no_room: 0 };
        }
        let (server, process) = (server.clone(), Process { number, ..process.clone() });
        self.servers.insert(server.clone(), process);
        for queue in self.consumed_by(&server) {
            self.change(&queue, |line| {
                let here = consumers_of(line, &server);
                here.iter().for_each(|it| set_window(line, it, 0));
            });
        }
        let mut no_room = 0;
        for window in windows {
            let app = self.app(&window.app);
            if !self.all.contains_key(&*window.queue)
                && self.room_for_names(Kind::of(&window.queue), &app, 1).is_err()
            {
                no_room += 1;
                continue;
            }
            let queue = self.queue(&window.queue, &app);
            self.change(&queue, |line| {
                let is_its = line.only.as_ref().is_none_or(|it| *it == app);
                if let Some(policy) = window.policy.filter(|_| is_its) {
                    line.policy = policy;
                }
                set_window(line, &(server.clone(), app), window.window);
            });
            self.hand_out(&queue, now_ms, changes);
        }
        QueuesConsumed { outdated: false, no_room }
    }

    /// A declared job's queue: its messages are this app's alone, whoever else takes such.
    pub(crate) fn only_for(&mut self, queue: &str, app: &str, now_ms: u64, changes: &mut Vec<Change>) {
        let app = self.app(app);
        if !self.all.contains_key(queue) && self.room_for_names(Kind::of(queue), &app, 1).is_err() {
            return;
        }
        let queue = self.queue(queue, &app);
        self.change(&queue, |line| line.only = Some(app));
        self.hand_out(&queue, now_ms, changes);
    }

    /// Hands out what is ready to those who take it: first to those who have asked, then in turn.
    pub(super) fn hand_out(&mut self, queue: &Arc<str>, now_ms: u64, changes: &mut Vec<Change>) {
        loop {
            if self.drop_of_ended_runs(queue, DROPPED_AT_ONCE, now_ms) == DROPPED_AT_ONCE {
                // The rest by and by.
                self.sweeping.insert(queue.clone());
                return;
            }
            let Some(line) = self.all.get(queue).filter(|it| !it.paused && it.ready() > 0) else { return };
            let (ready, timeout_ms) = (line.ready(), line.policy.timeout_ms);
            let next = next_consumer(line);
            if let Some((place, receive)) = self.first_receive(queue) {
                let of = receive.max.min(u32::try_from(ready).unwrap_or(u32::MAX));
                self.take_receive(&place);
                self.hand_to(queue, &receive, of, now_ms, changes);
            } else if let Some(consumer) = next {
                let (server, app) = &consumer;
                self.assign(queue, &Taker { server, app, receive: 0, of: 0, timeout_ms }, now_ms);
                changes.push(Change::Delivered(consumer.0));
            } else {
                return;
            }
        }
    }

    /// Hands so many to someone who has asked.
    pub(super) fn hand_to(
        &mut self,
        queue: &Arc<str>,
        receive: &Receive,
        of: u32,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) {
        let Receive { server, app, id, timeout_ms, .. } = receive;
        let policy_ms = self.all.get(queue).map_or(0, |it| it.policy.timeout_ms);
        let timeout_ms = if *timeout_ms == 0 { policy_ms } else { *timeout_ms };
        for _ in 0..of {
            self.assign(queue, &Taker { server, app, receive: *id, of, timeout_ms }, now_ms);
        }
        changes.push(Change::Delivered(server.clone()));
    }

    fn assign(&mut self, queue: &Arc<str>, taker: &Taker<'_>, now_ms: u64) {
        let Taker { server, app, receive, of, timeout_ms } = *taker;
        let number = self.next();
        let consumer = (server.clone(), app.clone());
        let assigned = self.change(queue, |line| {
            let id = line.hand_out(number)?;
            if receive == 0 {
                if let Some(it) = line.consumers.get_mut(&consumer) {
                    it.assigned += 1;
                }
                line.turn = Some(consumer);
            }
            Some(id)
        });
        let Some(id) = assigned.flatten() else { return };
        let deadline_ms = now_ms.saturating_add(timeout_ms).saturating_add(UNDER_WAY_MS);
        let (queue, app) = (queue.clone(), app.clone());
        let assigned = Assigned { queue, id, app, handed_ms: now_ms, deadline_ms, receive, of };
        self.put_assigned((server.clone(), number), assigned);
    }

    pub(super) fn put_assigned(&mut self, place: (Arc<str>, u64), assigned: Assigned) {
        self.deadlines.insert((assigned.deadline_ms, place.0.clone(), place.1));
        self.assigned.insert(place, assigned);
    }

    fn take_assigned(&mut self, place: &(Arc<str>, u64)) -> Option<Assigned> {
        let assigned = self.assigned.remove(place)?;
        self.deadlines.remove(&(assigned.deadline_ms, place.0.clone(), place.1));
        if assigned.receive == 0 {
            let consumer = (place.0.clone(), assigned.app.clone());
            self.change(&assigned.queue, |line| {
                if let Some(it) = line.consumers.get_mut(&consumer) {
                    it.assigned = it.assigned.saturating_sub(1);
                    if *it == Consumer::default() {
                        line.consumers.remove(&consumer);
                    }
                }
            });
        }
        Some(assigned)
    }

    /// What has come of a delivery; all of it or nothing.
    pub(super) fn settle(
        &mut self,
        (server, started_ms): (&Arc<str>, u64),
        settle: SettleDelivery,
        max: Max,
        around: &mut Around<'_>,
    ) -> Outcome {
        let SettleDelivery { delivery, outcome, publish, caches, advance } = settle;
        let place = (server.clone(), delivery);
        if !self.assigned.contains_key(&place) {
            return Outcome::Over(true);
        }
        let of_run = self.app_of_run(&place);
        if let Some(full) = of_run.as_ref().and_then(|app| self.has_no_such_queue(app, advance.as_ref())) {
            return full;
        }
        let is_alone = publish.is_empty() && caches.is_empty() && of_run.is_none();
        let before = (!is_alone).then(|| (self.clone(), around.caches.clone(), around.changes.len()));
        // It makes room for what is published with it.
        self.carry_out_settlement(&place, (outcome, advance), max.bytes, around);
        if let Some((queues, all_caches, changes)) = before
            && let Some(refused) = self
                .write_beside((server, started_ms), publish, caches, max, around)
                .or_else(|| self.has_grown_too_much(&queues, of_run.as_deref()?, max.bytes))
        {
            (*self, *around.caches) = (queues, all_caches);
            around.changes.truncate(changes);
            return refused;
        }
        Outcome::Done(true)
    }

    fn carry_out_settlement(
        &mut self,
        place: &(Arc<str>, u64),
        (outcome, advance): (Option<settle_delivery::Outcome>, Option<Advance>),
        max_bytes: u64,
        around: &mut Around<'_>,
    ) {
        let now_ms = around.now_ms;
        match outcome {
            Some(settle_delivery::Outcome::Done(done)) => {
                self.done(place, (done, advance), max_bytes, around);
            }
            Some(settle_delivery::Outcome::GivenBack(given)) => {
                self.give_back(place, now_ms.saturating_add(given.after_ms), now_ms, around.changes);
            }
            Some(settle_delivery::Outcome::Failed(failed)) => {
                let after_ms = (failed.after_ms > 0).then_some(failed.after_ms);
                self.failed(place, &failed.why, after_ms, now_ms, around.changes);
            }
            Some(settle_delivery::Outcome::Dead(why)) => self.dies(place, &why, now_ms, around.changes),
            Some(settle_delivery::Outcome::ExtendMs(time_ms)) => {
                if let Some(assigned) = self.take_deadline(place) {
                    let deadline_ms = now_ms.saturating_add(time_ms).saturating_add(UNDER_WAY_MS);
                    self.put_assigned(place.clone(), Assigned { deadline_ms, ..assigned });
                }
            }
            None => {}
        }
    }

    /// Whose it is, without a deadline.
    fn take_deadline(&mut self, place: &(Arc<str>, u64)) -> Option<Assigned> {
        let assigned = self.assigned.get(place)?.clone();
        self.deadlines.remove(&(assigned.deadline_ms, place.0.clone(), place.1));
        Some(assigned)
    }

    /// What is published and cached together with a settlement; why it can't be.
    fn write_beside(
        &mut self,
        from: (&Arc<str>, u64),
        publish: Vec<QueueMessage>,
        caches: Vec<proto::hub::v1::CacheWrite>,
        max: Max,
        around: &mut Around<'_>,
    ) -> Option<Outcome> {
        for write in caches {
            let cache = write.cache.clone();
            let came = around.caches.carry_out(write, max.cache_bytes, around.now_ms, around.changes);
            let why = match came {
                cache_outcome::Outcome::Unmet(_) => "what its condition asks for is not so",
                cache_outcome::Outcome::NotANumber(_) => "what is there is no whole number",
                cache_outcome::Outcome::Full(_) => "there is no room",
                _ => continue,
            };
            return Some(Outcome::Refused(format!("a write to the cache {cache}: {why}")));
        }
        match self.publish(from, publish, max.bytes, around) {
            Outcome::Published(_) => None,
            other => Some(other),
        }
    }

    fn done(
        &mut self,
        place: &(Arc<str>, u64),
        (done, advance): (DeliveryDone, Option<Advance>),
        max_bytes: u64,
        around: &mut Around<'_>,
    ) {
        let now_ms = around.now_ms;
        let Some(Assigned { queue, id, handed_ms, .. }) = self.take_assigned(place) else { return };
        let taken = self.change(&queue, |line| {
            line.counts.settled += 1;
            if handed_ms > 0 {
                line.counts.timed += 1;
                line.counts.last_took_ms = now_ms.saturating_sub(handed_ms);
                line.counts.took_ms = line.counts.took_ms.saturating_add(line.counts.last_took_ms);
            }
            line.take(id, now_ms)
        });
        if let Some(taken) = taken.flatten() {
            self.gone(&taken);
            match taken.message.run() {
                Some(place) => self.advance(&taken.message, place, &done, advance, (now_ms, around.changes)),
                None => self.reply_done(id, &taken.message, done, max_bytes, (now_ms, around.changes)),
            }
        }
        self.hand_out(&queue, now_ms, around.changes);
    }

    fn give_back(&mut self, place: &(Arc<str>, u64), from_ms: u64, now_ms: u64, changes: &mut Vec<Change>) {
        let Some(assigned) = self.take_assigned(place) else { return };
        self.comes_back(&assigned, from_ms, None, now_ms, changes);
    }

    /// A message is nobody's any more; `why` its attempt failed.
    fn comes_back(
        &mut self,
        Assigned { queue, id, .. }: &Assigned,
        from_ms: u64,
        why: Option<&str>,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) {
        self.change(queue, |line| line.give_back(*id, from_ms, why, now_ms));
        // It may be over by now, or its subscription.
        let message = self.all.get(queue).and_then(|it| it.get(*id));
        let is_over = message.is_some_and(|it| it.is_over(now_ms));
        if is_over || message.is_some() && Kind::of(queue) == Kind::Subscription && !self.is_subscribed(queue)
        {
            self.expired(queue, *id, now_ms, changes);
        }
        self.hand_out(queue, now_ms, changes);
    }

    /// An attempt has failed. It is tried again after `after_ms`; `None`: after the time that the queue has for it.
    pub(super) fn failed(
        &mut self,
        place: &(Arc<str>, u64),
        why: &str,
        after_ms: Option<u64>,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) {
        let Some(assigned) = self.assigned.get(place).cloned() else { return };
        let Some(line) = self.all.get(&assigned.queue) else { return };
        let (attempts, policy) = (line.get(assigned.id).map_or(0, |it| it.attempts), line.policy.clone());
        if policy.attempts != 0 && attempts >= policy.attempts {
            return self.dies(place, why, now_ms, changes);
        }
        let after_ms = after_ms.unwrap_or_else(|| backoff_ms(&policy, attempts, assigned.id));
        self.take_assigned(place);
        self.comes_back(&assigned, now_ms.saturating_add(after_ms), Some(why), now_ms, changes);
    }

    fn dies(&mut self, place: &(Arc<str>, u64), why: &str, now_ms: u64, changes: &mut Vec<Change>) {
        let Some(Assigned { queue, id, .. }) = self.take_assigned(place) else { return };
        if self.goes_to_dead_letters(&queue, id, why, (now_ms, &mut *changes)) {
            return self.hand_out(&queue, now_ms, changes);
        }
        let message = self.all.get(&queue).and_then(|it| it.get(id)).cloned();
        self.change(&queue, |line| line.die(id, why, now_ms));
        if let Some(message) = message {
            self.lost((&queue, id), &message, why, (now_ms, &mut *changes));
        }
        self.hand_out(&queue, now_ms, changes);
    }

    /// What a server's process was handed after these numbers, at most so many and about so many bytes of it.
    pub(crate) fn handed(
        &self,
        server: &str,
        (after_delivery, after_reply): (u64, u64),
        (max, max_bytes): (usize, usize),
        now_ms: u64,
    ) -> (Vec<Delivery>, Vec<MessageReply>) {
        let server: Arc<str> = server.into();
        // A hub that has begun anew counts from the beginning.
        let after = |it: u64| if it > self.last { 0 } else { it };
        let (after_delivery, after_reply) = (after(after_delivery), after(after_reply));
        // What a process before it had is others'.
        let upto = self.servers.get(&server).map_or(0, |it| it.released_upto);
        let after_delivery = after_delivery.max(upto);
        let mut bytes = 0;
        let mut fits = |more: usize| {
            let fits = bytes == 0 || bytes + more <= max_bytes;
            bytes += more;
            fits
        };
        let mut deliveries = Vec::new();
        let found = self.assigned.range((server.clone(), after_delivery + 1)..);
        for ((_, number), it) in found.take_while(|(place, _)| place.0 == server).take(max) {
            let Some(message) = self.all.get(&it.queue).and_then(|line| line.get(it.id)) else { continue };
            if !fits(message.body.len() + 512) {
                break;
            }
            deliveries.push(Delivery {
                number: *number,
                app: it.app.to_string(),
                id: it.id,
                attempt: message.attempts,
                left_ms: it.deadline_ms.saturating_sub(now_ms).saturating_sub(UNDER_WAY_MS),
                published_ms: message.published_ms,
                message: Some(message.told(&it.queue)),
                receive: it.receive,
                of: it.of,
            });
        }
        let replies = self.replies.range((server.clone(), after_reply + 1)..);
        let replies = replies.take_while(|(place, _)| place.0 == server).take(max);
        let replies = replies.take_while(|(_, it)| fits(usize::try_from(it.bytes()).unwrap_or(usize::MAX)));
        (deliveries, replies.map(|(_, it)| MessageReply::clone(&it.reply)).collect())
    }

    /// A server's process: since when it runs, and how often what it had was given to others.
    pub(crate) fn server(&self, server: &str) -> Option<(u64, u64)> {
        self.servers.get(server).map(|it| (it.started_ms, it.released))
    }
}

/// A server's, for whatever app.
pub(super) fn consumers_of(line: &Line, server: &Arc<str>) -> Vec<ConsumerKey> {
    let first = (server.clone(), Arc::from(""));
    line.consumers.range(first..).map(|it| it.0.clone()).take_while(|it| it.0 == *server).collect()
}

fn set_window(line: &mut Line, consumer: &ConsumerKey, window: u32) {
    let assigned = line.consumers.get(consumer).map_or(0, |it| it.assigned);
    if window == 0 && assigned == 0 {
        line.consumers.remove(consumer);
    } else {
        line.consumers.insert(consumer.clone(), Consumer { window, assigned });
    }
}

/// The next one with room, after who was handed the last message.
fn next_consumer(line: &Line) -> Option<ConsumerKey> {
    let has_room = |(key, it): &(&ConsumerKey, &Consumer)| {
        it.assigned < it.window && line.only.as_ref().is_none_or(|app| *app == key.1)
    };
    let after = line.turn.as_ref().and_then(|turn| {
        let after = (Bound::Excluded(turn), Bound::Unbounded);
        line.consumers.range::<_, ConsumerKey>(after).find(has_room)
    });
    after.or_else(|| line.consumers.iter().find(has_room)).map(|it| it.0.clone())
}
