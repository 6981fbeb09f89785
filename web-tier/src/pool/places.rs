//! Places for requests at one server: as many as there may be, handed on in the order of asking, with as many waiters at most.

use super::TakeError;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};
use tokio::{sync::oneshot, time::timeout};

/// The places of one pool.
#[derive(Debug)]
pub(crate) struct Places {
    free: Cell<usize>,
    waiters: RefCell<VecDeque<oneshot::Sender<Place>>>,
    /// Of places, and the most waiters.
    count: usize,
    timeout: Duration,
}

/// A place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place(Rc<Places>);

impl Places {
    /// `count` free places, and as many waiters at most, each for `timeout`.
    pub(crate) fn new(count: usize, timeout: Duration) -> Rc<Self> {
        Rc::new(Self { free: Cell::new(count), waiters: RefCell::default(), count, timeout })
    }

    /// How many there are, free or not.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whether one is free.
    pub(crate) fn has_free(&self) -> bool {
        self.free.get() > 0
    }

    /// A place if one is free. Nobody waits then: a place that becomes free goes to the first who waits.
    pub(crate) fn try_take(self: &Rc<Self>) -> Option<Place> {
        let free = self.free.get().checked_sub(1)?;
        self.free.set(free);
        Some(Place(self.clone()))
    }

    /// A place once one is free; `queued` is true meanwhile.
    pub(crate) async fn wait(&self, queued: &Cell<bool>) -> Result<Place, TakeError> {
        queued.set(true);
        let waiting = self.queue().ok_or(TakeError::QueueFull)?;
        let place = timeout(self.timeout, waiting).await;
        let place = place.ok().flatten().ok_or(TakeError::QueueTimeout(self.timeout))?;
        queued.set(false);
        Ok(place)
    }

    /// The place that becomes free after everyone who waits already has had one; `None` when too many wait.
    fn queue(&self) -> Option<impl Future<Output = Option<Place>> + use<>> {
        let mut waiters = self.waiters.borrow_mut();
        if waiters.len() >= self.count {
            waiters.retain(|waiter| !waiter.is_closed());
            if waiters.len() >= self.count {
                return None;
            }
        }
        let (sender, receiver) = oneshot::channel();
        waiters.push_back(sender);
        Some(async move { receiver.await.ok() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let places = self.0.clone();
        // A waiter who gave up hands its place back, to be offered to the next.
        let next = loop {
            let Some(waiter) = places.waiters.borrow_mut().pop_front() else { break None };
            if !waiter.is_closed() {
                break Some(waiter);
            }
        };
        match next {
            // Should it give up before it looks, the place in the channel is dropped, and so handed on.
            Some(waiter) => drop(waiter.send(Self(places))),
            None => places.free.set(places.free.get() + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn places_go_to_waiters_in_order() {
        let places = Places::new(2, PATIENCE);
        let (one, two) = (places.try_take().unwrap(), places.try_take().unwrap());
        assert!(places.try_take().is_none());
        let (mut first, mut second) = (Box::pin(places.queue().unwrap()), Box::pin(places.queue().unwrap()));
        drop(one);
        assert!(second.as_mut().now_or_never().is_none());
        let place = first.as_mut().now_or_never().flatten().unwrap();
        drop((place, two));
        assert!(second.as_mut().now_or_never().flatten().is_some());
        assert_eq!(places.free.get(), 2);
    }

    #[test]
    fn a_waiter_who_gives_up_loses_no_place() {
        let places = Places::new(1, PATIENCE);
        let place = places.try_take().unwrap();
        let early = places.queue().unwrap();
        drop(early);
        let waiting = places.queue().unwrap();
        assert!(places.waiters.borrow().len() <= 1);
        drop(place);
        // It was sent to `waiting`, which is dropped before it looks.
        drop(waiting);
        assert_eq!(places.free.get(), 1);
    }

    #[test]
    fn the_queue_is_bounded() {
        let places = Places::new(1, PATIENCE);
        let _place = places.try_take().unwrap();
        let _waiting = places.queue().unwrap();
        assert!(places.queue().is_none());
    }
}
