//! Memory that a worker uses over and over: buffers, and heads with the room for their fields. A connection that waits for its
//! next request holds none of it.

use std::{
    cell::RefCell,
    fmt,
    ops::{Deref, DerefMut},
    rc::Rc,
};

/// Kept for the next requests; what is used at once beyond that is allocated and freed again.
const KEPT_MAX: usize = 256;

/// Things that are used over and over.
pub(crate) struct Shelf<T>(Rc<RefCell<Vec<T>>>);

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self(Rc::default())
    }
}

impl<T> Shelf<T> {
    /// One of them, as its last user left it, or a new one.
    pub(crate) fn take(&self, new: impl FnOnce() -> T) -> Shelved<T> {
        let thing = self.0.borrow_mut().pop().unwrap_or_else(new);
        Shelved { thing: Some(thing), home: self.0.clone() }
    }
}

impl<T> fmt::Debug for Shelf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shelf({} free)", self.0.borrow().len())
    }
}

/// A thing that returns to its shelf when it is dropped.
pub(crate) struct Shelved<T> {
    thing: Option<T>,
    home: Rc<RefCell<Vec<T>>>,
}

impl<T> Deref for Shelved<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.thing.as_ref().expect("there until it is dropped")
    }
}

impl<T> DerefMut for Shelved<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.thing.as_mut().expect("there until it is dropped")
    }
}

impl<T> Drop for Shelved<T> {
    fn drop(&mut self) {
        let mut home = self.home.borrow_mut();
        if home.len() < KEPT_MAX {
            home.extend(self.thing.take());
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Shelved<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_used_again() {
        let shelf = Shelf::default();
        let mut first = shelf.take(|| vec![0]);
        first.push(1);
        drop(first);
        let again = shelf.take(Vec::new);
        assert_eq!((again.as_slice(), shelf.take(Vec::new).len()), (&[0, 1][..], 0));
    }
}
