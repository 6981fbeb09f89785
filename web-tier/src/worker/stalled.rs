//! Answers of servers that clients of HTTP/2 do not take. Each holds a socket to its server as long as its client likes, and a
//! connection has many of them; so a worker has a bounded number. Beyond it the connection with the most loses the one that it has
//! not taken for the longest time.

use crate::observe::rate_limited_log::RateLimitedLog;
use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    fmt,
    rc::Rc,
    task::Waker,
};

/// The part of the connections of clients that there may be.
const PART: usize = 4;

/// Those of a worker.
#[derive(Debug)]
pub(crate) struct StalledAnswers {
    max: usize,
    count: Cell<usize>,
    /// By the number of the client's connection; the one that has stalled for the longest time is the first.
    connections: RefCell<HashMap<usize, VecDeque<Rc<Entry>>>>,
    /// What is to be said of those that end.
    pub(crate) said: RateLimitedLog,
}

struct Entry {
    connection: usize,
    shed: Cell<bool>,
    waker: Waker,
}

/// One of them, while its client takes nothing.
pub(crate) struct Stalled {
    all: Rc<StalledAnswers>,
    entry: Rc<Entry>,
}

impl StalledAnswers {
    /// Of a worker with so many connections of clients.
    pub(crate) fn new(clients_max: usize) -> Rc<Self> {
        Rc::new(Self {
            max: (clients_max / PART).max(1),
            count: Cell::default(),
            connections: RefCell::default(),
            said: RateLimitedLog::default(),
        })
    }

    /// An answer on `connection` has stalled; `waker` is its task's.
    pub(crate) fn begin(self: &Rc<Self>, connection: usize, waker: &Waker) -> Stalled {
        let entry = Rc::new(Entry { connection, shed: Cell::new(false), waker: waker.clone() });
        self.connections.borrow_mut().entry(connection).or_default().push_back(entry.clone());
        self.count.set(self.count.get() + 1);
        if self.count.get() > self.max {
            self.shed();
        }
        Stalled { all: self.clone(), entry }
    }

    fn shed(&self) {
        let connections = self.connections.borrow();
        let most = connections.values().max_by_key(|answers| answers.len());
        let Some(oldest) = most.and_then(VecDeque::front).cloned() else { return };
        drop(connections);
        self.remove(&oldest);
        oldest.shed.set(true);
        oldest.waker.wake_by_ref();
    }

    fn remove(&self, entry: &Rc<Entry>) {
        let mut connections = self.connections.borrow_mut();
        let Some(answers) = connections.get_mut(&entry.connection) else { return };
        let Some(place) = answers.iter().position(|it| Rc::ptr_eq(it, entry)) else { return };
        answers.remove(place);
        if answers.is_empty() {
            connections.remove(&entry.connection);
        }
        self.count.set(self.count.get() - 1);
    }
}

impl Stalled {
    /// Whether it is to end, for others.
    pub(crate) fn is_shed(&self) -> bool {
        self.entry.shed.get()
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        self.all.remove(&self.entry);
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("shed", &self.shed).finish_non_exhaustive()
    }
}

impl fmt::Debug for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entry.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_most_loses_the_oldest() {
        let all = StalledAnswers::new(4 * PART);
        let begin = |connection| all.begin(connection, Waker::noop());
        let few = begin(7);
        let many: Vec<_> = (0..5).map(|_| begin(8)).collect();
        let shed: Vec<_> = many.iter().map(Stalled::is_shed).collect();
        assert_eq!(shed, [true, true, false, false, false]);
        assert!(!few.is_shed());
        assert_eq!(all.count.get(), 4);
    }

    #[test]
    fn one_that_moves_makes_room() {
        let all = StalledAnswers::new(0);
        for connection in 0..3 {
            let stalled = all.begin(connection, Waker::noop());
            assert!(!stalled.is_shed());
        }
        let [first, second] = [5, 5].map(|connection| all.begin(connection, Waker::noop()));
        assert!(first.is_shed() && !second.is_shed());
        drop((first, second));
        assert_eq!((all.count.get(), all.connections.borrow().len()), (0, 0), "nothing is left of them");
    }
}
