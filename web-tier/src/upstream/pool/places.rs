//! Places for requests at one server: as many as there may be, handed on in [turn](super::queue), with as many waiters at most. While
//! some wait, clients that have more than their [share](super::share) and keep the server waiting make room.

use super::{
    TakeError,
    owner::{Asker, Owner},
    queue::{Queue, Waiter},
    share::{Taken, who_makes_room},
};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{sync::oneshot, time::timeout};

/// Who has waited for so long is to be made room for, unless the queue's own time-out is short: most places come free sooner.
const PATIENCE: Duration = Duration::from_secs(1);

/// The places of one pool.
#[derive(Debug)]
pub(crate) struct Places {
    free: Cell<usize>,
    /// Who has the others.
    slots: RefCell<Slots>,
    queue: RefCell<Queue>,
    /// Of places, and the most waiters.
    count: usize,
    timeout: Duration,
}

/// Who has which place.
#[derive(Debug, Default)]
struct Slots {
    askers: Vec<Option<Asker>>,
    free: Vec<usize>,
}

impl Slots {
    fn fill(&mut self, asker: &Asker) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.askers.push(None);
            self.askers.len() - 1
        });
        self.askers[slot] = Some(asker.clone());
        slot
    }

    fn clear(&mut self, slot: usize) {
        self.askers[slot] = None;
        self.free.push(slot);
    }

    fn taken(&self, now: Instant) -> Vec<Taken> {
        let asker = |(slot, asker): (usize, &Option<Asker>)| {
            let Asker { owner, holder } = asker.as_ref()?;
            Some(Taken { slot, owner: *owner, kept_waiting: holder.kept_waiting(now) })
        };
        self.askers.iter().enumerate().filter_map(asker).collect()
    }
}

/// A place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Rc<Places>,
    slot: usize,
}

impl Places {
    /// `count` free places, and as many waiters at most, each for `timeout`.
    pub(crate) fn new(count: usize, timeout: Duration) -> Rc<Self> {
        let (slots, queue) = (RefCell::default(), RefCell::default());
        Rc::new(Self { free: Cell::new(count), slots, queue, count, timeout })
    }

    /// How many there are, free or not.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// How many are taken.
    pub(crate) fn in_use(&self) -> usize {
        self.count - self.free.get()
    }

    /// How many requests wait for one.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.borrow().len()
    }

    /// Whether one is free.
    pub(crate) fn has_free(&self) -> bool {
        self.free.get() > 0
    }

    /// A place if one is free. Nobody waits then: a place that becomes free goes to the first who waits.
    pub(crate) fn try_take(self: &Rc<Self>, asker: &Asker) -> Option<Place> {
        let free = self.free.get().checked_sub(1)?;
        self.free.set(free);
        let slot = self.slots.borrow_mut().fill(asker);
        Some(Place { places: self.clone(), slot })
    }

    /// A place once one is free; `queued` is true meanwhile.
    pub(crate) async fn wait(&self, asker: &Asker, queued: &Cell<bool>) -> Result<Place, TakeError> {
        queued.set(true);
        let waiting = self.queue(asker, Instant::now()).ok_or(TakeError::QueueFull)?;
        let place = timeout(self.timeout, waiting).await;
        let place = place.map_err(|_| TakeError::QueueTimeout(self.timeout))?;
        // Without one, its room in the queue is another's.
        let place = place.ok_or(TakeError::QueueFull)?;
        queued.set(false);
        Ok(place)
    }

    /// The place that becomes free when it is its turn; `None` when too many wait.
    fn queue(&self, asker: &Asker, since: Instant) -> Option<impl Future<Output = Option<Place>> + use<>> {
        let (sender, receiver) = oneshot::channel();
        let waiter = Waiter { asker: asker.clone(), since, sender };
        let queued = self.queue.borrow_mut().push(waiter, self.count);
        queued.then_some(async move { receiver.await.ok() })
    }

    /// Asks who is in the way of those who wait to make room. To be called a few times a second.
    pub(crate) fn settle(&self) {
        if !self.queue.borrow().is_empty() {
            self.share(Instant::now());
        }
    }

    fn share(&self, now: Instant) {
        let patience = PATIENCE.min(self.timeout / 4);
        let Some(then) = now.checked_sub(patience) else { return };
        let waiting: Vec<Owner> = self.queue.borrow_mut().owners_since(then);
        if waiting.is_empty() {
            return;
        }
        let slots = self.slots.borrow();
        for slot in who_makes_room(&slots.taken(now), &waiting, self.count) {
            if let Some(asker) = &slots.askers[slot] {
                asker.holder.make_room();
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let places = self.places.clone();
        places.slots.borrow_mut().clear(self.slot);
        let next = places.queue.borrow_mut().pop();
        let Some(Waiter { asker, sender, .. }) = next else {
            return places.free.set(places.free.get() + 1);
        };
        let slot = places.slots.borrow_mut().fill(&asker);
        // Should it give up before it looks, the place in the channel is dropped, and so handed on.
        drop(sender.send(Self { places, slot }));
    }
}

#[cfg(test)]
mod tests;
