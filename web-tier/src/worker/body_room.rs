//! How many bodies clients of HTTP/2 may send ahead, over all connections of a worker.

use std::cell::Cell;

/// Bodies that the connections of a worker have room for beyond those, all together: 256 MiB. Where there are more, the bodies of a
/// connection share its window.
pub(crate) const MORE_MAX: u32 = 1024;

/// What a worker has given out of its room.
#[derive(Debug, Default)]
pub(crate) struct BodyRoom(Cell<u32>);

impl BodyRoom {
    /// Whether there was room for one more body.
    pub(crate) fn take(&self) -> bool {
        let taken = self.0.get();
        self.0.set((taken + 1).min(MORE_MAX));
        taken < MORE_MAX
    }

    /// How many bodies have some of it.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> u32 {
        self.0.get()
    }

    pub(crate) fn give_back(&self, count: u32) {
        self.0.set(self.0.get() - count);
    }
}
