//! How many bytes of answers QUIC may hold beyond what each connection has room for, over all connections of a worker: what a client
//! has not acknowledged may have to be sent again.

use std::cell::Cell;

/// What there is.
const ALL: u64 = 256 * 1024 * 1024;

/// What a worker has not given out.
#[derive(Debug)]
pub(crate) struct SendRoom(Cell<u64>);

impl Default for SendRoom {
    fn default() -> Self {
        Self(Cell::new(ALL))
    }
}

impl SendRoom {
    /// Takes as many bytes as there are, `wanted` at most.
    pub(crate) fn take(&self, wanted: u64) -> u64 {
        let taken = wanted.min(self.0.get());
        self.0.set(self.0.get() - taken);
        taken
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.0.set(self.0.get() + bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_so_much_and_no_more() {
        let room = SendRoom::default();
        assert_eq!((room.take(ALL - 1), room.take(9), room.take(9)), (ALL - 1, 1, 0));
        room.give_back(5);
        assert_eq!(room.take(9), 5);
    }
}
