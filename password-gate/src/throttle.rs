//! Slows those who guess passwords: after a few failures an address has to wait, twice as long each time. Pure: the time is an
//! argument.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// Failures that cost nothing: people mistype.
const FREE: u32 = 5;

/// The first wait; each further failure doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Failures are forgotten when there was none for so long.
const FORGET: Duration = Duration::from_secs(15 * 60);

/// Addresses that are remembered; beyond them the one that has failed longest ago is forgotten.
const ADDRESSES: usize = 4096;

/// Who has failed, and how often.
#[derive(Debug, Default)]
pub(crate) struct Throttle(HashMap<IpAddr, Failures>);

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Throttle {
    /// Whether this address may try; begins nothing.
    ///
    /// # Errors
    /// How long it has to wait first.
    pub(crate) fn ask(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let Some(failures) = self.known(group(address), now) else { return Ok(()) };
        let left = wait(failures.count).saturating_sub(now.saturating_duration_since(failures.last));
        if left.is_zero() { Ok(()) } else { Err(left) }
    }

    /// A try begins. It counts as a failure until [`Throttle::succeeded`] is told, so that many at once are no way around.
    ///
    /// # Errors
    /// How long this address has to wait first.
    pub(crate) fn begin(&mut self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        self.ask(address, now)?;
        let address = group(address);
        let count = self.known(address, now).map_or(0, |it| it.count);
        if !self.0.contains_key(&address) {
            self.make_room(now);
        }
        self.0.insert(address, Failures { count: count.saturating_add(1), last: now });
        Ok(())
    }

    /// What is not forgotten of an address (a whole [`group`]).
    fn known(&self, address: IpAddr, now: Instant) -> Option<Failures> {
        let recent = |it: &&Failures| now.saturating_duration_since(it.last) < FORGET;
        self.0.get(&address).filter(recent).copied()
    }

    /// A try that has begun was none: its failure is taken back, older ones stay.
    pub(crate) fn succeeded(&mut self, address: IpAddr) {
        let address = group(address);
        if let Some(failures) = self.0.get_mut(&address) {
            failures.count = failures.count.saturating_sub(1);
            if failures.count == 0 {
                self.0.remove(&address);
            }
        }
    }

    fn make_room(&mut self, now: Instant) {
        if self.0.len() < ADDRESSES {
            return;
        }
        self.0.retain(|_, failures| now.saturating_duration_since(failures.last) < FORGET);
        if self.0.len() >= ADDRESSES
            && let Some(oldest) = self.0.iter().min_by_key(|(_, it)| it.last).map(|(address, _)| *address)
        {
            self.0.remove(&oldest);
        }
    }
}

/// How long to wait after so many failures.
fn wait(failures: u32) -> Duration {
    match failures.checked_sub(FREE) {
        None | Some(0) => Duration::ZERO,
        Some(over) => FIRST_WAIT.saturating_mul(1 << (over - 1).min(16)).min(WAIT_MAX),
    }
}

/// Who has one address of an IPv6 network has all of them.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) & (u128::MAX << 64)).into(),
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_sixth_failure_costs_a_second_and_each_one_more_twice_as_much() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let (guesser, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let mut now = start;
        for _ in 0..=FREE {
            assert_eq!(throttle.begin(guesser, now), Ok(()));
        }
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let whole = Duration::from_secs(seconds);
            assert_eq!(throttle.begin(guesser, now), Err(whole));
            now += whole;
            assert_eq!(throttle.begin(guesser, now), Ok(()));
        }
        assert_eq!(throttle.begin(other, now), Ok(()), "others do not wait");
        assert_eq!(throttle.begin(guesser, now + FORGET), Ok(()), "it is forgotten");
        assert_eq!(throttle.0.len(), 2);
    }

    #[test]
    fn who_signs_in_again_and_again_never_waits_and_leaves_nothing_behind() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(throttle.begin(address("::1"), now), Ok(()));
            throttle.succeeded(address("::1"));
        }
        assert!(throttle.0.is_empty());
    }

    #[test]
    fn an_ipv6_network_is_one_guesser() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for last in 0..=FREE {
            assert_eq!(throttle.begin(address(&format!("2001:db8::{last}")), now), Ok(()));
        }
        assert!(throttle.begin(address("2001:db8::ffff"), now).is_err());
        assert!(throttle.begin(address("2001:db8:0:1::1"), now).is_ok());
        assert_eq!(group(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }

    proptest! {
        #[test]
        fn it_never_remembers_more_than_it_may_and_never_asks_for_more_than_a_minute(tries in prop::collection::vec((any::<u32>(), 0u64..100), 0..200)) {
            let (mut throttle, mut now) = (Throttle::default(), Instant::now());
            for filler in 0..ADDRESSES as u32 {
                let _ = throttle.begin(Ipv4Addr::from(filler).into(), now);
            }
            for (ip, pause) in tries {
                now += Duration::from_secs(pause);
                if let Err(left) = throttle.begin(Ipv4Addr::from(ip % 5000).into(), now) {
                    prop_assert!(left <= WAIT_MAX);
                }
                prop_assert!(throttle.0.len() <= ADDRESSES);
            }
        }
    }
}
