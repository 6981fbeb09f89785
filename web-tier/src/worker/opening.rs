//! Connections over QUIC that shake hands: who sends the first packet of one need not be where it says it comes from, and each costs a
//! signature.

use super::Worker;
use std::rc::Rc;

/// With so many under way a client has first to show that it gets what is sent to it (RFC 9000 §8.1.2).
const RETRY_FROM: usize = 32;

/// So many there may be.
const MAX: usize = 1024;

/// One of them.
pub(crate) struct Opening(Rc<Worker>);

impl Opening {
    /// One more, if there may be one.
    pub(crate) fn begin(worker: &Rc<Worker>) -> Option<Self> {
        let count = worker.opening.get();
        if count >= MAX {
            return None;
        }
        worker.opening.set(count + 1);
        Some(Self(worker.clone()))
    }

    /// Whether so many are under way that addresses are to be proved.
    pub(crate) fn are_many(worker: &Worker) -> bool {
        worker.opening.get() >= RETRY_FROM
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.opening.set(self.0.opening.get() - 1);
    }
}
