//! Tests of places: time is an argument.

use super::*;
use crate::upstream::pool::owner::Holder;
use futures_util::FutureExt;
use std::net::{IpAddr, Ipv4Addr};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A request that has waited for its client for so long.
#[derive(Debug, Default)]
struct Request {
    kept_waiting: Option<Duration>,
    asked: Cell<bool>,
}

impl Holder for Request {
    fn kept_waiting(&self, _: Instant) -> Option<Duration> {
        self.kept_waiting
    }

    fn make_room(&self) {
        self.asked.set(true);
    }
}

fn asker(number: u8, request: &Rc<Request>) -> Asker {
    Asker { owner: IpAddr::from(Ipv4Addr::new(192, 0, 2, number)).into(), holder: request.clone() }
}

/// A request of one of some clients.
fn of(number: u8) -> Asker {
    asker(number, &Rc::default())
}

#[test]
fn places_go_to_waiters_in_order() {
    let (places, now) = (Places::new(2, TIMEOUT), Instant::now());
    let (one, two) = (places.try_take(&of(1)).unwrap(), places.try_take(&of(1)).unwrap());
    assert!(places.try_take(&of(1)).is_none());
    let (first, second) = (places.queue(&of(1), now).unwrap(), places.queue(&of(1), now).unwrap());
    let (mut first, mut second) = (Box::pin(first), Box::pin(second));
    drop(one);
    assert!(second.as_mut().now_or_never().is_none());
    let place = first.as_mut().now_or_never().flatten().unwrap();
    drop((place, two));
    assert!(second.as_mut().now_or_never().flatten().is_some());
    assert_eq!(places.free.get(), 2);
}

#[test]
fn clients_take_turns() {
    let (places, now) = (Places::new(4, TIMEOUT), Instant::now());
    let mut taken: Vec<_> = (0..4).map(|_| places.try_take(&of(1)).unwrap()).collect();
    let mut waiting: Vec<_> =
        [1, 1, 1, 2].map(|number| Box::pin(places.queue(&of(number), now).unwrap())).into();
    let mut served = Vec::new();
    while let Some(place) = taken.pop() {
        drop(place);
        let next = waiting
            .iter_mut()
            .enumerate()
            .find_map(|(which, it)| it.as_mut().now_or_never().flatten().map(|place| (which, place)));
        let (which, place) = next.unwrap();
        drop(waiting.remove(which));
        served.push((which, place));
    }
    let order: Vec<_> = served.iter().map(|(which, _)| *which).collect();
    // The first of the first, the only one of the second, and the others.
    assert_eq!(order, [0, 2, 0, 0]);
}

#[test]
fn a_waiter_who_gives_up_loses_no_place() {
    let (places, now) = (Places::new(1, TIMEOUT), Instant::now());
    let place = places.try_take(&of(1)).unwrap();
    let early = places.queue(&of(1), now).unwrap();
    drop(early);
    let waiting = places.queue(&of(1), now).unwrap();
    drop(place);
    // It was sent to `waiting`, which is dropped before it looks.
    drop(waiting);
    assert_eq!(places.free.get(), 1);
    assert!(places.slots.borrow().taken(now).is_empty());
}

#[test]
fn the_queue_is_bounded_and_nobody_fills_it_alone() {
    let (places, now) = (Places::new(2, TIMEOUT), Instant::now());
    let _taken = (places.try_take(&of(1)).unwrap(), places.try_take(&of(1)).unwrap());
    let _first = places.queue(&of(1), now).unwrap();
    let mut last = Box::pin(places.queue(&of(1), now).unwrap());
    assert!(places.queue(&of(1), now).is_none());
    let _other = places.queue(&of(2), now).unwrap();
    assert!(matches!(last.as_mut().now_or_never(), Some(None)), "it has made room");
    assert!(places.queue(&of(3), now).is_none(), "each has one");
}

#[test]
fn while_someone_waits_the_slow_make_room() {
    let (places, now) = (Places::new(2, TIMEOUT), Instant::now());
    let slow = Rc::new(Request { kept_waiting: Some(TIMEOUT), asked: Cell::new(false) });
    let _taken = (places.try_take(&asker(1, &slow)).unwrap(), places.try_take(&of(1)).unwrap());
    places.share(now + TIMEOUT);
    assert!(!slow.asked.get(), "nobody waits");
    let _own = places.queue(&of(1), now).unwrap();
    places.share(now + TIMEOUT);
    assert!(!slow.asked.get(), "nobody else waits");
    let _other = places.queue(&of(2), now).unwrap();
    places.share(now + PATIENCE / 2);
    assert!(!slow.asked.get(), "not for long");
    places.share(now + PATIENCE);
    assert!(slow.asked.get());
}
