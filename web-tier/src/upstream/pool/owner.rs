//! For whom a request has its place at a server: whose share it is counted to, and whom to ask when others want it.

use std::{
    fmt::Debug,
    net::IpAddr,
    rc::Rc,
    time::{Duration, Instant},
};

/// Whose share: a client by its IPv4 address or, as one customer has a whole one, its IPv6 /64 (RFC 6177).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Owner(u64);

impl Owner {
    /// A number of its own.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

impl From<IpAddr> for Owner {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => u32::from(address).into(),
            IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
        })
    }
}

/// The request that has a place.
pub(crate) trait Holder: Debug {
    /// How long it waits for its client at `now`, beyond what that has sent or taken is worth; `None` if it waits for something else.
    fn kept_waiting(&self, now: Instant) -> Option<Duration>;

    /// Others wait for its place: it is to end, if it still waits for its client.
    fn make_room(&self);
}

/// Who asks for a place.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(crate) owner: Owner,
    pub(crate) holder: Rc<dyn Holder>,
}

#[cfg(test)]
impl Asker {
    /// Whoever it is, it waits for nothing.
    pub(crate) fn anybody() -> Self {
        #[derive(Debug)]
        struct Nobody;
        impl Holder for Nobody {
            fn kept_waiting(&self, _: Instant) -> Option<Duration> {
                None
            }

            fn make_room(&self) {}
        }
        Self { owner: Owner(0), holder: Rc::new(Nobody) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_is_an_address_or_a_network() {
        let owner = |text: &str| Owner::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(owner("192.0.2.1"), owner("::ffff:192.0.2.1"));
        assert_ne!(owner("192.0.2.1"), owner("192.0.2.2"));
        assert_eq!(owner("2001:db8::1"), owner("2001:db8::ffff:1"));
        assert_ne!(owner("2001:db8::1"), owner("2001:db8:0:1::1"));
    }
}
