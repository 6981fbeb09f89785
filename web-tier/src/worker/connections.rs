//! The open connections of a worker.

use crate::worker::{Worker, deadline::SPARE_AFTER};
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Poll, Waker},
};
use tokio::sync::Notify;

/// Places in a block.
const BLOCK: usize = 256;

/// How many connections are asked at a time whether they are idle.
const LOOKED_AT: u32 = 256;

/// The open connections of a worker, so that a stop can reach and await them.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    places: RefCell<Places>,
    closing: Cell<bool>,
    empty: Notify,
    /// How many idle ones are to end, for others.
    shed: Cell<u32>,
    /// The place that was asked last whether it is one of them.
    hand: Cell<u32>,
}

impl Connections {
    /// Whether the worker stops: a connection ends with the request that it has.
    pub(crate) fn closing(&self) -> bool {
        self.closing.get()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.places.borrow().taken.into()
    }

    /// Makes all of them look at what has changed.
    pub(crate) fn wake(&self) {
        for waker in self.places.borrow().wakers() {
            waker.wake_by_ref();
        }
    }

    /// Makes one of them, or a stream of one, look at what has changed.
    pub(crate) fn wake_one(&self, place: u32) {
        if let Some(waker) = self.places.borrow().waker(place) {
            waker.wake_by_ref();
        }
    }

    /// Lets `count` of those end that nobody has asked anything by for a while; 0: no more. Looks at some further ones each time
    /// that it is called, in turn, so that it costs the same however many there are.
    pub(crate) fn shed(&self, count: u32) {
        self.shed.set(count);
        if count > 0 {
            let places = self.places.borrow();
            for _ in 0..places.used.min(LOOKED_AT) {
                let next = self.hand.get().saturating_add(1);
                self.hand.set(if next < places.used { next } else { 0 });
                if let Some(waker) = places.waker(self.hand.get()) {
                    waker.wake_by_ref();
                }
            }
        }
    }

    /// Closes the idle ones, lets the others finish their request, and returns when all are gone.
    pub(crate) async fn finish(&self) {
        self.closing.set(true);
        self.wake();
        self.gone().await;
    }

    /// Returns when all are gone, by themselves.
    pub(crate) async fn gone(&self) {
        while self.count() > 0 {
            self.empty.notified().await;
        }
    }
}

/// A waker for each open connection. They lie in blocks that do not move: with ten thousand connections a table that grows by
/// copying would hold more than twice as much.
#[derive(Debug, Default)]
struct Places {
    blocks: Vec<Box<[Option<Waker>; BLOCK]>>,
    /// Those that were given back, below `used`.
    free: Vec<u32>,
    used: u32,
    taken: u32,
}

impl Places {
    fn take(&mut self) -> u32 {
        self.taken += 1;
        self.free.pop().unwrap_or_else(|| {
            if self.used as usize == self.blocks.len() * BLOCK {
                self.blocks.push(Box::new([const { None }; BLOCK]));
            }
            self.used += 1;
            self.used - 1
        })
    }

    fn give_back(&mut self, place: u32) {
        *self.slot(place) = None;
        self.taken -= 1;
        self.free.push(place);
        if self.taken == 0 {
            *self = Self::default();
        }
    }

    fn slot(&mut self, place: u32) -> &mut Option<Waker> {
        let place = place as usize;
        &mut self.blocks[place / BLOCK][place % BLOCK]
    }

    fn waker(&self, place: u32) -> Option<&Waker> {
        let place = place as usize;
        self.blocks.get(place / BLOCK)?[place % BLOCK].as_ref()
    }

    fn wakers(&self) -> impl Iterator<Item = &Waker> {
        self.blocks.iter().flat_map(|block| block.iter()).flatten()
    }
}

/// A connection's place among the open ones, or that of a stream.
pub(crate) struct Entry {
    worker: Rc<Worker>,
    place: u32,
    is_stream: bool,
}

impl Entry {
    pub(crate) fn connection(worker: &Rc<Worker>) -> Self {
        worker.counters.connections.up();
        worker.counters.connections_open.up();
        Self::new(worker, false)
    }

    pub(crate) fn stream(worker: &Rc<Worker>) -> Self {
        Self::new(worker, true)
    }

    fn new(worker: &Rc<Worker>, is_stream: bool) -> Self {
        let place = worker.connections.places.borrow_mut().take();
        Self { worker: worker.clone(), place, is_stream }
    }

    /// Whether the connection is to end in favour of another one; `spare`: it may.
    pub(crate) fn is_shed(&self, spare: impl FnOnce() -> bool) -> bool {
        let wanted = &self.worker.connections.shed;
        let shed = wanted.get() > 0 && !self.is_stream && spare();
        if shed {
            wanted.set(wanted.get() - 1);
            self.worker.counters.connections_shed.up();
        }
        shed
    }

    /// Runs `opening` to its end, unless the worker stops before, or it takes long and others want its place.
    pub(crate) async fn unless_closing<T>(
        &self,
        mut opening: Pin<Box<impl Future<Output = T>>>,
    ) -> Option<T> {
        let begun = self.worker.now();
        let spare = || self.worker.now().saturating_duration_since(begun) >= SPARE_AFTER;
        poll_fn(|cx| {
            self.wake_by(cx.waker());
            match opening.as_mut().poll(cx) {
                Poll::Ready(opened) => Poll::Ready(Some(opened)),
                Poll::Pending if self.worker.connections.closing() || self.is_shed(spare) => {
                    Poll::Ready(None)
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Its number.
    pub(crate) fn place(&self) -> u32 {
        self.place
    }

    /// Says how the connection's task is woken.
    pub(crate) fn wake_by(&self, waker: &Waker) {
        *self.worker.connections.places.borrow_mut().slot(self.place) = Some(waker.clone());
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let connections = &self.worker.connections;
        connections.places.borrow_mut().give_back(self.place);
        if connections.count() == 0 {
            connections.empty.notify_one();
        }
        if !self.is_stream {
            self.worker.counters.connections_open.down();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_out_once_and_again_when_it_is_free() {
        let mut places = Places::default();
        let taken: Vec<_> = (0..600).map(|_| places.take()).collect();
        assert!(taken.iter().copied().eq(0..600), "each has its own");
        *places.slot(3) = Some(Waker::noop().clone());
        *places.slot(599) = Some(Waker::noop().clone());
        assert_eq!((places.wakers().count(), places.blocks.len()), (2, 3));
        places.give_back(3);
        assert_eq!((places.wakers().count(), places.taken, places.take()), (1, 599, 3));
        taken.into_iter().for_each(|place| places.give_back(place));
        assert_eq!((places.taken, places.blocks.len()), (0, 0), "nothing is held for nobody");
    }
}
