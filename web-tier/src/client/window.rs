//! How much clients may send ahead (RFC 9113 §5.2, RFC 9000 §4). A body that nobody takes, because its server is slow or it waits for one, holds
//! its stream's window. The connection's window has room for those of all its bodies, so that no body is in another one's way: it
//! grows with their number, as far as the worker has memory for it.

use crate::worker::body_room::BodyRoom;
use std::{cell::Cell, rc::Rc};

/// What a client may send ahead of one body, in bytes.
pub(in crate::client) const STREAM: u32 = 256 * 1024;

/// Bodies that every connection has room for.
const BODIES: u32 = 4;

/// What a client may send ahead of all bodies of a connection at its beginning.
pub(in crate::client) const CONNECTION: u32 = BODIES * STREAM;

/// The window of a connection.
pub(super) struct Window {
    room: Rc<BodyRoom>,
    /// Bodies that are under way.
    bodies: Cell<u32>,
    /// What the connection has of the worker's room.
    taken: Cell<u32>,
    /// What the client had sent when the connection last had no more than it needs, or gave something back.
    sent: Cell<u64>,
    /// As it was said last.
    size: Cell<u32>,
}

impl Window {
    pub(super) fn new(room: &Rc<BodyRoom>) -> Self {
        Self {
            room: room.clone(),
            bodies: Cell::default(),
            taken: Cell::default(),
            sent: Cell::default(),
            size: Cell::new(CONNECTION),
        }
    }

    /// A body begins.
    pub(super) fn begin(&self) {
        self.bodies.set(self.bodies.get() + 1);
        while self.taken.get() < self.needed() && self.room.take() {
            self.taken.set(self.taken.get() + 1);
        }
    }

    /// A body has ended.
    pub(super) fn end(&self) {
        self.bodies.set(self.bodies.get() - 1);
    }

    fn needed(&self) -> u32 {
        self.bodies.get().saturating_sub(BODIES)
    }

    /// How large it is to be from now on, when the client has sent so many bytes of bodies, if that has changed. What it was allowed
    /// to send can't be taken back: the room for it is given back when it has been used.
    pub(super) fn change(&self, sent: u64) -> Option<u32> {
        while self.taken.get() > self.needed() && sent - self.sent.get() >= STREAM.into() {
            self.sent.set(self.sent.get() + u64::from(STREAM));
            self.taken.set(self.taken.get() - 1);
            self.room.give_back(1);
        }
        if self.taken.get() <= self.needed() {
            self.sent.set(sent);
        }
        let size = (BODIES + self.taken.get().min(self.needed())) * STREAM;
        (self.size.replace(size) != size).then_some(size)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.room.give_back(self.taken.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::body_room::MORE_MAX;

    #[test]
    fn it_grows_with_the_bodies_and_shrinks_with_them() {
        let room = Rc::default();
        let window = Window::new(&room);
        (0..4).for_each(|_| window.begin());
        assert_eq!(window.change(0), None, "four always fit");
        (0..3).for_each(|_| window.begin());
        assert_eq!((window.change(0), window.change(0)), (Some(7 * STREAM), None));
        window.end();
        assert_eq!(window.change(0), Some(6 * STREAM));
        window.begin();
        assert_eq!((window.change(0), room.taken()), (Some(7 * STREAM), 3), "what it had is enough");
        drop(window);
        assert_eq!(room.taken(), 0);
    }

    #[test]
    fn room_that_a_client_may_still_use_is_not_given_to_others() {
        let room = Rc::default();
        let window = Window::new(&room);
        let part = u64::from(STREAM);
        (0..6).for_each(|_| window.begin());
        window.change(0);
        (0..6).for_each(|_| window.end());
        assert_eq!((window.change(part / 2), room.taken()), (Some(CONNECTION), 2));
        window.change(part);
        assert_eq!(room.taken(), 1);
        window.change(9 * part);
        assert_eq!(room.taken(), 0);
        (0..6).for_each(|_| window.begin());
        window.change(9 * part);
        (0..6).for_each(|_| window.end());
        window.change(9 * part + 1);
        assert_eq!(room.taken(), 2, "what was sent before counts for nothing");
    }

    #[test]
    fn the_room_of_a_worker_has_an_end() {
        let room = Rc::default();
        let [first, second] = [Window::new(&room), Window::new(&room)];
        (0..MORE_MAX + 9).for_each(|_| first.begin());
        (0..9).for_each(|_| second.begin());
        assert_eq!(first.change(0), Some((BODIES + MORE_MAX) * STREAM));
        assert_eq!((second.change(0), room.taken()), (None, MORE_MAX));
        drop(first);
        second.begin();
        assert_eq!(second.change(0), Some(10 * STREAM));
    }
}
