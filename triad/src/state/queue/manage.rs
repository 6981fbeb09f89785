//! What people and apps do to queues as a whole, and what they see of them.

use super::{
    Queues,
    line::Line,
    message::{Fixed, Message, Status},
};
use crate::state::change::Change;
use proto::hub::v1::{
    BrowseQueue, BrowsedMessage, ManageQueue, QueueConsumer, QueueDescription, QueueManaged,
    browse_queue::Which, manage_queue::Action, message_reply,
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
        let (count, more) = match call.action {
            Some(Action::Pause(paused)) => {
                self.change(&queue, |line| line.paused = paused);
                (0, false)
            }
            Some(Action::Purge(purge)) => self.purge(&queue, purge.dead, (last, limit), now_ms, changes),
            Some(Action::Replay(replay)) => {
                let chosen = |id: &u64| *id <= last && (replay.ids.is_empty() || replay.ids.contains(id));
                let line = self.all.get(&queue);
                let ids = line
                    .into_iter()
                    .flat_map(|it| it.dead.keys().copied())
                    .filter(chosen)
                    .take(limit.saturating_add(1));
                let mut ids: Vec<u64> = ids.collect();
                let more = ids.len() > limit;
                ids.truncate(limit);
                let replayed = ids.into_iter().filter(|id| {
                    let order = self.next();
                    self.change(&queue, |line| line.replay(*id, order, now_ms)).unwrap_or_default()
                });
                let replayed = replayed.count();
                // Those that can't be would be met again and again.
                (replayed, more && replayed > 0)
            }
            None => (0, false),
        };
        self.hand_out(&queue, now_ms, changes);
        QueueManaged { count: count as u64, more, last, unknown: false }
    }

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
            if let Some(fixed) = purged.flatten() {
                self.gone(&fixed);
                let outcome = message_reply::Outcome::Failed("an operator has purged the queue".to_owned());
                self.reply(id, &fixed, outcome, (now_ms, changes));
            }
        }
        (count, more)
    }

    /// Each of them, in numbers.
    pub(crate) fn describe(&self, now_ms: u64) -> impl Iterator<Item = QueueDescription> {
        self.all.iter().map(move |(name, line)| describe(name, line, now_ms))
    }

    /// Some messages of one; `None`: there is no such queue.
    pub(crate) fn browse(&self, call: &BrowseQueue) -> Option<Vec<BrowsedMessage>> {
        let line = self.all.get(&*call.queue)?;
        let limit = usize::try_from(call.limit).unwrap_or(usize::MAX);
        let told = |id: u64, fixed: &Fixed, attempts: u32| {
            let mut message = fixed.told(&call.queue);
            let body_bytes = message.body.len() as u64;
            message.body.truncate(usize::try_from(call.body_max).unwrap_or(usize::MAX));
            let why = line.why(id).map(ToString::to_string).unwrap_or_default();
            let (published_ms, message) = (fixed.published_ms, Some(message));
            BrowsedMessage {
                id,
                attempts,
                published_ms,
                message,
                body_bytes,
                why,
                ..BrowsedMessage::default()
            }
        };
        if call.which() == Which::Dead {
            let dead = line.dead.range(call.after + 1..).take(limit);
            let told = dead
                .map(|(id, it)| BrowsedMessage { at_ms: it.died_ms, ..told(*id, &it.fixed, it.attempts) });
            return Some(told.collect());
        }
        let is_meant = |it: &Message| match it.status {
            Status::Ready => call.which() == Which::Ready,
            Status::Delayed(_) => call.which() == Which::Delayed,
            Status::Waiting(_) => call.which() == Which::Waiting,
            Status::Assigned(_) => call.which() == Which::Assigned,
        };
        let meant = line.messages().range(call.after + 1..).filter(|(_, it)| is_meant(it)).take(limit);
        let told = meant.map(|(id, it)| {
            let told = told(*id, &it.fixed, it.attempts);
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
        oldest_ms: line.messages().get_min().map_or(0, |(_, it)| it.fixed.published_ms),
        counts: Some(line.counts),
        policy: Some(line.policy),
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
    }
}
