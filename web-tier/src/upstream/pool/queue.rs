//! Requests that wait for a place at a server: in turn over the clients that they are of, and within a client in the order of asking.
//! So who asks once does not wait for all of someone who asks a thousand times.

use super::{
    owner::{Asker, Owner},
    places::Place,
};
use std::{collections::VecDeque, time::Instant};
use tokio::sync::oneshot;

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) asker: Asker,
    pub(super) since: Instant,
    /// Gets the place; dropped without one when its room in the queue is another's.
    pub(super) sender: oneshot::Sender<Place>,
}

impl Waiter {
    fn has_left(&self) -> bool {
        self.sender.is_closed()
    }
}

/// Those of one client.
#[derive(Debug)]
struct Turn {
    owner: Owner,
    waiters: VecDeque<Waiter>,
}

/// All of them, in the order of turns.
#[derive(Debug, Default)]
pub(super) struct Queue {
    turns: VecDeque<Turn>,
}

impl Queue {
    /// Adds one, if there are fewer than `max`, or if a client has so many more than this one that its last has to leave.
    pub(super) fn push(&mut self, waiter: Waiter, max: usize) -> bool {
        let owner = waiter.asker.owner;
        if self.len() >= max {
            self.forget_those_who_left();
        }
        if self.len() >= max && !self.evict_for(owner) {
            return false;
        }
        match self.turns.iter_mut().find(|turn| turn.owner == owner) {
            Some(turn) => turn.waiters.push_back(waiter),
            None => self.turns.push_back(Turn { owner, waiters: VecDeque::from([waiter]) }),
        }
        true
    }

    /// The next one that still waits.
    pub(super) fn pop(&mut self) -> Option<Waiter> {
        while let Some(mut turn) = self.turns.pop_front() {
            while let Some(waiter) = turn.waiters.pop_front() {
                if waiter.has_left() {
                    continue;
                }
                if !turn.waiters.is_empty() {
                    self.turns.push_back(turn);
                }
                return Some(waiter);
            }
        }
        None
    }

    /// Whose requests have waited since before `then`.
    pub(super) fn owners_since(&mut self, then: Instant) -> Vec<Owner> {
        self.forget_those_who_left();
        let first = |turn: &Turn| turn.waiters.front().is_some_and(|waiter| waiter.since <= then);
        self.turns.iter().filter(|turn| first(turn)).map(|turn| turn.owner).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.turns.iter().map(|turn| turn.waiters.len()).sum()
    }

    fn forget_those_who_left(&mut self) {
        for turn in &mut self.turns {
            turn.waiters.retain(|waiter| !waiter.has_left());
        }
        self.turns.retain(|turn| !turn.waiters.is_empty());
    }

    /// The last of the client that has most of them leaves, if that has two more than `owner` at least.
    fn evict_for(&mut self, owner: Owner) -> bool {
        let own = self.turns.iter().find(|turn| turn.owner == owner).map_or(0, |turn| turn.waiters.len());
        let most = self.turns.iter_mut().max_by_key(|turn| turn.waiters.len());
        let Some(most) = most.filter(|turn| turn.waiters.len() > own + 1) else { return false };
        most.waiters.pop_back();
        true
    }
}
