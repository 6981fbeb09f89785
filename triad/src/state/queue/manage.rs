//! What people and apps do to queues as a whole, and what they see of them.

use super::{
    Queues,
    line::Line,
    message::{Message, Status},
};
use crate::state::change::Change;
use proto::hub::v1::{
    BrowseQueue, BrowsedMessage, ManageQueue, QueueConsumer, QueueCounts, QueueDescription, QueueManaged,
    browse_queue::Which, manage_queue::Action,
};
use std::sync::Arc;

impl Queues {
    /// Pauses a queue, resumes, purges or replays it.
    pub(crate) fn manage(
        &mut self,
        call: ManageQueue,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) -> QueueManaged {
        let last = if call.upto == 0 { self.last } else { call.upto };
        let Some((queue, _)) = self.all.get_key_value(&*call.queue) else {
            return QueueManaged { unknown: true, last, ..QueueManaged::default() };
        };
        let (queue, limit) = (queue.clone(), usize::try_from(call.limit).unwrap_or(usize::MAX));
        let (mut last_seen, mut more) = (0, false);
        let count = match call.action {
            Some(Action::Pause(paused)) => {
                self.change(&queue, |line| line.paused = paused);
                0
            }
            Some(Action::Purge(purge)) => {
                let count;
                (count, more) = self.purge(&queue, purge.dead, (last, limit), now_ms, changes);
                count
            }
            Some(Action::Replay(replay)) => {
                let (replayed, after) = self.replay(&queue, &replay.ids, (call.after, last), limit, now_ms);
                (last_seen, more) = (after, after > 0);
                replayed
            }
            None => 0,
        };
        self.hand_out(&queue, now_ms, changes);
        QueueManaged { count: count as u64, more, last, after: last_seen, unknown: false }
    }

    /// Makes these dead ones ready again, of none all; how many were, and after which of them it goes on, if it does.
    fn replay(
        &mut self,
        queue: &Arc<str>,
        ids: &[u64],
        (after, upto): (u64, u64),
        limit: usize,
        now_ms: u64,
    ) -> (usize, u64) {
        let Some(line) = self.all.get(queue) else { return (0, 0) };
        let chosen: Vec<u64> = match ids {
            [] => line
                .dead
                .range(after.saturating_add(1)..=upto.max(after))
                .map(|(id, _)| *id)
                .take(limit)
                .collect(),
            ids => ids.iter().copied().filter(|id| line.dead.contains_key(id)).collect(),
        };
        let goes_on = ids.is_empty() && chosen.len() == limit;
        let last = chosen.last().copied().unwrap_or_default();
        let replayed = chosen.into_iter().filter(|id| {
            let order = self.next();
            let dead = self.all.get(queue).and_then(|it| it.dead.get(id)).map(|it| it.message.clone());
            let is_ready = self.change(queue, |line| line.replay(*id, order, now_ms)).unwrap_or(false);
            if let Some(dead) = dead.filter(|_| is_ready) {
                self.run_goes_on(queue, &dead, now_ms);
            }
            is_ready
        });
        (replayed.count(), if goes_on { last } else { 0 })
    }

    /// Takes away what nobody has, or the dead, up to this message; and keys of what is gone.
    pub(super) fn purge(
        &mut self,
        queue: &Arc<str>,
        dead: bool,
        (upto, limit): (u64, usize),
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) -> (usize, bool) {
        let Some(line) = self.all.get(queue) else { return (0, false) };
        let ids: Vec<u64> = if dead {
            line.dead.keys().copied().take_while(|id| *id <= upto).take(limit.saturating_add(1)).collect()
        } else {
            let free = |it: &Message| !matches!(it.status, Status::Assigned(_));
            let there = line.messages().iter().take_while(|(id, _)| **id <= upto);
            there.filter(|(_, it)| free(it)).map(|(id, _)| *id).take(limit.saturating_add(1)).collect()
        };
        let (count, more) = (ids.len().min(limit), ids.len() > limit);
        for id in ids.into_iter().take(limit) {
            let purged = self.change(queue, |line| {
                line.counts.purged += 1;
                if dead { line.forget(id) } else { line.take(id, now_ms) }
            });
            if let Some(taken) = purged.flatten() {
                self.gone(&taken);
                self.lost((queue, id), &taken.message, "the queue was purged", (now_ms, &mut *changes));
            }
        }
        if more || dead {
            return (count, more);
        }
        let room = (limit - count).saturating_add(1);
        let keys = self.all.get(queue).map(|line| line.loose_keys(upto, room)).unwrap_or_default();
        for key in keys.iter().take(limit - count) {
            if let Some((app, bytes)) = self.change(queue, |line| line.forget_key(key)).flatten() {
                self.share(&app, |it| it.bytes -= bytes);
            }
        }
        (count, keys.len() == room)
    }

    /// Nobody's any more: what is left of it goes by and by.
    pub(crate) fn end_queue(&mut self, queue: &str) {
        if let Some((queue, _)) = self.all.get_key_value(queue) {
            self.ending.insert(queue.clone(), self.last);
        }
    }

    /// Goes on with one that has ended, at most `limit` of it; how much there was.
    pub(super) fn end_some(
        &mut self,
        queue: &Arc<str>,
        upto: u64,
        limit: u32,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) -> u32 {
        let limit = limit as usize;
        let (living, more) = self.purge(queue, false, (upto, limit), now_ms, changes);
        let (dead, more_dead) = match more {
            true => (0, true),
            false => self.purge(queue, true, (upto, limit - living), now_ms, changes),
        };
        if !more && !more_dead {
            self.ending.remove(queue);
        }
        u32::try_from(living + dead).unwrap_or(u32::MAX).max(1)
    }

    /// Each of them, in numbers.
    pub(crate) fn describe(&self, now_ms: u64) -> impl Iterator<Item = QueueDescription> {
        self.all.iter().map(move |(name, line)| describe(name, line, now_ms))
    }

    /// What was published to each and settled, since it was made.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&Arc<str>, &QueueCounts)> {
        self.all.iter().map(|(name, line)| (name, &line.counts))
    }

    /// The same of one.
    pub(crate) fn counts_of(&self, queue: &str) -> Option<&QueueCounts> {
        self.all.get(queue).map(|line| &line.counts)
    }

    /// Some messages of one; `None`: there is no such queue.
    pub(crate) fn browse(&self, call: &BrowseQueue) -> Option<Vec<BrowsedMessage>> {
        let line = self.all.get(&*call.queue)?;
        let limit = usize::try_from(call.limit).unwrap_or(usize::MAX);
        let told = |id: u64, it: &Message| {
            let mut message = it.told(&call.queue);
            let body_bytes = message.body.len() as u64;
            message.body.truncate(usize::try_from(call.body_max).unwrap_or(usize::MAX));
            let why = line.why(id).map(ToString::to_string).unwrap_or_default();
            BrowsedMessage {
                id,
                attempts: it.attempts,
                published_ms: it.published_ms,
                message: Some(message),
                body_bytes,
                why,
                ..BrowsedMessage::default()
            }
        };
        if call.which() == Which::Dead {
            let dead = line.dead.range(call.after.saturating_add(1)..).take(limit);
            let told = dead.map(|(id, it)| BrowsedMessage { at_ms: it.died_ms, ..told(*id, &it.message) });
            return Some(told.collect());
        }
        let is_meant = |it: &Message| match it.status {
            Status::Ready => call.which() == Which::Ready,
            Status::Delayed(_) => call.which() == Which::Delayed,
            Status::Waiting(_) => call.which() == Which::Waiting,
            Status::Assigned(_) => call.which() == Which::Assigned,
        };
        let meant =
            line.messages().range(call.after.saturating_add(1)..).filter(|(_, it)| is_meant(it)).take(limit);
        let told = meant.map(|(id, it)| {
            let told = told(*id, it);
            match it.status {
                Status::Delayed(at_ms) | Status::Waiting(at_ms) => BrowsedMessage { at_ms, ..told },
                Status::Assigned(number) => {
                    let found = self.deadline_of(number);
                    let (server, at_ms) = found.unwrap_or_default();
                    BrowsedMessage { at_ms, server, ..told }
                }
                Status::Ready => told,
            }
        });
        Some(told.collect())
    }

    /// Who has a delivery, and until when.
    fn deadline_of(&self, number: u64) -> Option<(String, u64)> {
        self.servers.keys().find_map(|server| {
            let assigned = self.assigned.get(&(server.clone(), number))?;
            Some((server.to_string(), assigned.deadline_ms))
        })
    }
}

fn describe(name: &str, line: &Line, now_ms: u64) -> QueueDescription {
    let [delayed, waiting, assigned] = line.others();
    QueueDescription {
        name: name.to_owned(),
        paused: line.paused,
        ready: line.ready() as u64,
        delayed,
        assigned,
        waiting,
        dead: line.dead.len() as u64,
        bytes: line.bytes,
        oldest_ms: line.messages().get_min().map_or(0, |(_, it)| it.published_ms),
        counts: Some(line.counts),
        policy: Some(line.policy.clone()),
        consumers: line
            .consumers
            .iter()
            .map(|((server, app), it)| QueueConsumer {
                server: server.to_string(),
                app: app.to_string(),
                window: it.window,
                assigned: it.assigned,
            })
            .collect(),
        now_ms,
        published_per_s: None,
        settled_per_s: None,
    }
}
