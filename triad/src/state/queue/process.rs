//! Servers' processes: which one of a server counts, and what becomes of what a dead one had. A process may have had very many messages: they are others'
//! step by step, so that no command takes long.

use super::{Queues, delivery::consumers_of};
use crate::state::change::Change;
use std::sync::Arc;

/// Messages that one command takes from a dead process.
const STEP: u32 = 1000;

/// A server's process.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Process {
    pub(super) started_ms: u64,
    /// Of its last word on what it takes.
    pub(super) number: u64,
    /// How often what it had was given to others.
    pub(super) released: u64,
    /// Deliveries up to this number were those of a process before it.
    pub(super) released_upto: u64,
}

impl Queues {
    /// A process of a server has come, or is known; false: it is one that another has followed.
    pub(super) fn process(
        &mut self,
        server: &str,
        started_ms: u64,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) -> bool {
        let known = self.servers.get(server).map_or(0, |it| it.started_ms);
        if known < started_ms {
            self.release(server, now_ms, changes);
            let before = self.servers.get(server).cloned().unwrap_or_default();
            self.servers.insert(server.into(), Process { started_ms, number: 0, ..before });
        }
        known <= started_ms
    }

    /// A server runs another process than the one that is known, if any is.
    pub(crate) fn follows(&mut self, server: &str, started_ms: u64, now_ms: u64, changes: &mut Vec<Change>) {
        if self.servers.contains_key(server) {
            self.process(server, started_ms, now_ms, changes);
        }
    }

    /// A server's process is dead, or another has followed it: what it had is others'.
    pub(crate) fn release(&mut self, server: &str, now_ms: u64, changes: &mut Vec<Change>) {
        let Some((server, _)) = self.servers.get_key_value(server) else { return };
        let server = server.clone();
        let last = self.last;
        if let Some(process) = self.servers.get_mut(&server) {
            process.released += 1;
            process.number = 0;
            process.released_upto = last;
        }
        for queue in self.consumed_by(&server) {
            self.change(&queue, |line| {
                let here = consumers_of(line, &server);
                for it in &here {
                    line.consumers.remove(it);
                }
            });
        }
        self.stop_receiving_of(&server);
        self.forget_replies_of(&server);
        self.releasing.insert(server.clone());
        self.release_some(&server, STEP, now_ms, changes);
        changes.push(Change::Delivered(server));
    }

    /// Queues of which a server takes messages.
    pub(super) fn consumed_by(&self, server: &Arc<str>) -> Vec<Arc<str>> {
        let is_its = |line: &super::line::Line| !consumers_of(line, server).is_empty();
        self.all.iter().filter(|(_, line)| is_its(line)).map(|(name, _)| name.clone()).collect()
    }

    /// Goes on with what a dead process had, at most `limit` of it; how many there were.
    pub(super) fn release_some(
        &mut self,
        server: &Arc<str>,
        limit: u32,
        now_ms: u64,
        changes: &mut Vec<Change>,
    ) -> u32 {
        let upto = self.servers.get(server).map_or(0, |it| it.released_upto);
        let had = self.assigned.range((server.clone(), 0)..=(server.clone(), upto));
        let had: Vec<_> = had.map(|it| it.0.clone()).take(limit as usize).collect();
        for place in &had {
            self.failed(place, "its server has ended", Some(0), now_ms, changes);
        }
        let count = u32::try_from(had.len()).unwrap_or(limit);
        if count < limit {
            self.releasing.remove(server);
        }
        count
    }
}
