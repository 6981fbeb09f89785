//! Connections over QUIC that shake hands: who sends the first packet of one need not be where it says it comes from, and each costs a
//! signature.

use super::Worker;
use crate::upstream::pool::Owner;
use std::{cell::RefCell, collections::HashMap, net::IpAddr, rc::Rc};

/// With so many under way a client has first to show that it gets what is sent to it (RFC 9000 §8.1.2).
const RETRY_FROM: usize = 32;

/// So many there may be.
const MAX: usize = 1024;

/// So many of one client, and a quarter of the room that is left at most: a few cannot take all of it. More than [`RETRY_FROM`], so that nobody
/// can use up another one's.
const OF_ONE: usize = 128;

/// Those of a worker.
#[derive(Debug, Default)]
pub(super) struct Openings(RefCell<Count>);

#[derive(Debug, Default)]
struct Count {
    all: usize,
    of: HashMap<Owner, usize>,
}

/// Why there can't be one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// The client has its share.
    ByOne,
    /// There is no room for anybody.
    ByAll,
}

/// One of them.
pub(crate) struct Opening {
    worker: Rc<Worker>,
    owner: Owner,
}

impl Opening {
    /// One more of this client, if there may be one.
    pub(crate) fn begin(worker: &Rc<Worker>, client: IpAddr) -> Result<Self, Crowded> {
        let owner = Owner::from(client);
        worker.openings.add(owner).map(|()| Self { worker: worker.clone(), owner })
    }

    /// Whether so many are under way that addresses are to be proved.
    pub(crate) fn are_many(worker: &Worker) -> bool {
        worker.openings.0.borrow().all >= RETRY_FROM
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.worker.openings.remove(self.owner);
    }
}

impl Openings {
    fn add(&self, owner: Owner) -> Result<(), Crowded> {
        let count = &mut *self.0.borrow_mut();
        let of_one = count.of.get(&owner).copied().unwrap_or(0);
        let room = MAX - count.all;
        if room == 0 {
            return Err(Crowded::ByAll);
        }
        if of_one > 0 && of_one >= OF_ONE.min(room / 4) {
            return Err(Crowded::ByOne);
        }
        count.all += 1;
        count.of.insert(owner, of_one + 1);
        Ok(())
    }

    fn remove(&self, owner: Owner) {
        let count = &mut *self.0.borrow_mut();
        count.all -= 1;
        if let Some(of_one) = count.of.get_mut(&owner) {
            *of_one -= 1;
            if *of_one == 0 {
                count.of.remove(&owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(number: usize) -> Owner {
        Owner::from(IpAddr::from(u32::try_from(number).unwrap().to_be_bytes()))
    }

    #[test]
    fn one_client_leaves_room_for_others_and_all_have_an_end() {
        let openings = Openings::default();
        for _ in 0..OF_ONE {
            assert_eq!(openings.add(owner(0)), Ok(()));
        }
        assert_eq!((openings.add(owner(0)), openings.add(owner(1))), (Err(Crowded::ByOne), Ok(())));
        for number in 2..=MAX - OF_ONE {
            assert_eq!(openings.add(owner(number)), Ok(()));
        }
        assert_eq!(openings.add(owner(MAX)), Err(Crowded::ByAll), "there are {MAX}");
        openings.remove(owner(0));
        assert_eq!((openings.add(owner(0)), openings.add(owner(MAX))), (Err(Crowded::ByOne), Ok(())));
        openings.remove(owner(MAX));
        (1..OF_ONE).for_each(|_| openings.remove(owner(0)));
        (1..=MAX - OF_ONE).for_each(|number| openings.remove(owner(number)));
        let left = openings.0.borrow();
        assert!(left.all == 0 && left.of.is_empty(), "nothing is left of who has gone");
    }

    #[test]
    fn twenty_who_take_all_that_they_get_leave_room_for_those_who_want_one() {
        let openings = Openings::default();
        for number in 0..20 {
            while openings.add(owner(number)).is_ok() {}
        }
        for number in 20..25 {
            assert_eq!(openings.add(owner(number)), Ok(()));
        }
    }
}
