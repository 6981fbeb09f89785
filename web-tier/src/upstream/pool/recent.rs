//! The sockets that were in use a moment ago, the newest first: what a busy worker takes and gives back without asking bb8, whose
//! locks, clocks and counters cost a quarter of a microsecond a request. What rests here unused is bb8's again, and ages there.

use std::cell::{Cell, RefCell};

/// Things that were used a moment ago.
#[derive(Debug)]
pub(crate) struct Recent<T> {
    stack: RefCell<Vec<T>>,
    /// How few there have been since the last look: so many at the bottom were not used.
    fewest: Cell<usize>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { stack: RefCell::default(), fewest: Cell::new(0) }
    }
}

impl<T> Recent<T> {
    /// The one that was used last.
    pub(crate) fn pop(&self) -> Option<T> {
        let mut stack = self.stack.borrow_mut();
        let last = stack.pop();
        self.fewest.set(self.fewest.get().min(stack.len()));
        last
    }

    /// One that has been used now.
    pub(crate) fn push(&self, used: T) {
        self.stack.borrow_mut().push(used);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.stack.borrow().len()
    }

    /// Those that have not been used since the last call.
    pub(crate) fn take_unused(&self) -> Vec<T> {
        let mut stack = self.stack.borrow_mut();
        let unused: Vec<T> = stack.drain(..self.fewest.get()).collect();
        self.fewest.set(stack.len());
        unused
    }

    /// All of them.
    pub(crate) fn take_all(&self) -> Vec<T> {
        self.fewest.set(0);
        self.stack.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_comes_first_and_what_rests_is_taken() {
        let recent = Recent::default();
        for number in 1..=3 {
            recent.push(number);
        }
        assert!(recent.take_unused().is_empty(), "all were used since the start");
        let top = recent.pop().unwrap();
        recent.push(top);
        assert_eq!((top, recent.take_unused()), (3, vec![1, 2]));
        assert_eq!(recent.take_unused(), [3]);
        assert_eq!((recent.pop(), recent.len()), (None, 0));
    }

    proptest! {
        #[test]
        fn exactly_what_was_not_popped_or_pushed_is_unused(rounds in prop::collection::vec(prop::collection::vec(any::<bool>(), 0..20), 1..10)) {
            let recent = Recent::default();
            // What lies there, and whether it was touched since the last look.
            let mut model: Vec<(u32, bool)> = Vec::new();
            let mut next = 0;
            for round in rounds {
                for push in round {
                    if push {
                        recent.push(next);
                        model.push((next, true));
                        next += 1;
                    } else {
                        prop_assert_eq!(recent.pop(), model.pop().map(|(number, _)| number));
                    }
                }
                let unused: Vec<_> = model.iter().filter(|(_, used)| !used).map(|(number, _)| *number).collect();
                prop_assert_eq!(recent.take_unused(), unused);
                model.retain(|(_, used)| *used);
                model.iter_mut().for_each(|(_, used)| *used = false);
                prop_assert_eq!(recent.len(), model.len());
            }
        }
    }
}
