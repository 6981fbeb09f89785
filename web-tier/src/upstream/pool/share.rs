//! Who makes room when requests wait for a place at a server: those who keep it waiting, of clients that have more than others.

use super::owner::Owner;
use std::{cmp::Reverse, collections::HashMap, time::Duration};

/// Who keeps a server waiting for so long is in the way, if his client has more places than one who waits.
const SLOW: Duration = Duration::from_secs(1);

/// So many places one client may fill at the speed it likes, however few there are.
const FREE_MAX: usize = 8;

/// A place that is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub(super) slot: usize,
    pub(super) owner: Owner,
    /// How long it waits for its client, if it does.
    pub(super) kept_waiting: Option<Duration>,
}

/// The slots of those who are to make room for `waiting`, one for each at most; of `count` places in all.
///
/// Shares are max-min fair: who has the fewest gets one from who has the most, until they differ by one. Only those make room that wait
/// for their own clients: who waits for the server is served. One that moves on makes room only where its client has more than half
/// of all places.
pub(super) fn who_makes_room(taken: &[Taken], waiting: &[Owner], count: usize) -> Vec<usize> {
    let mut shares: HashMap<Owner, usize> = HashMap::new();
    for it in taken {
        *shares.entry(it.owner).or_default() += 1;
    }
    let share = |owner: &Owner| shares.get(owner).copied().unwrap_or(0);
    let Some(fewest) = waiting.iter().map(share).min() else { return Vec::new() };
    let mut candidates: Vec<_> = taken.iter().filter_map(|it| Some((it, it.kept_waiting?))).collect();
    candidates.sort_by_key(|(it, kept_waiting)| Reverse((share(&it.owner), *kept_waiting)));
    let mut chosen = Vec::new();
    for (it, kept_waiting) in candidates {
        let Some(share) = shares.get_mut(&it.owner) else { continue };
        let in_the_way = kept_waiting >= SLOW || *share > FREE_MAX.max(count / 2);
        if chosen.len() < waiting.len() && in_the_way && *share > fewest + 1 {
            *share -= 1;
            chosen.push(it.slot);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn owner(number: u8) -> Owner {
        Owner::from(IpAddr::from(Ipv4Addr::new(192, 0, 2, number)))
    }

    /// Places by their owners' numbers, and how many seconds they are kept waiting.
    fn taken(places: &[(u8, Option<u64>)]) -> Vec<Taken> {
        let of = |(slot, (number, seconds)): (usize, &(u8, Option<u64>))| Taken {
            slot,
            owner: owner(*number),
            kept_waiting: seconds.map(Duration::from_secs),
        };
        places.iter().enumerate().map(of).collect()
    }

    #[test]
    fn the_slowest_of_who_has_most_makes_room() {
        let places = taken(&[(1, Some(3)), (1, Some(9)), (2, Some(20)), (1, None)]);
        assert_eq!(who_makes_room(&places, &[owner(3)], 4), [1]);
        assert_eq!(who_makes_room(&places, &[owner(3), owner(4)], 4), [1, 0]);
        // Three of one and one of another: each may have two.
        assert_eq!(who_makes_room(&places, &[owner(2)], 4), [1]);
        assert!(who_makes_room(&places, &[owner(1)], 4).is_empty(), "nobody pays for himself");
        assert!(who_makes_room(&places, &[], 4).is_empty());
    }

    #[test]
    fn who_waits_for_the_server_or_has_his_share_is_served() {
        assert!(who_makes_room(&taken(&[(1, None), (1, None), (1, None)]), &[owner(2)], 3).is_empty());
        assert!(who_makes_room(&taken(&[(1, Some(60)), (2, Some(60))]), &[owner(3)], 2).is_empty());
    }

    #[test]
    fn who_moves_on_makes_room_only_beyond_half_of_many() {
        let moving = |count: usize| taken(&vec![(1, Some(0)); count]);
        assert!(who_makes_room(&moving(8), &[owner(2)], 8).is_empty());
        assert_eq!(who_makes_room(&moving(20), &[owner(2)], 20).len(), 1);
        assert!(who_makes_room(&moving(20), &[owner(2)], 40).is_empty());
    }
}
