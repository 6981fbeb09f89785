//! A loopback address for one cluster alone, so that clusters side by side use the same fixed ports.

use std::net::{Ipv4Addr, TcpListener};

/// Bound on a leased address by nothing else: whoever holds it has the address.
const GUARD_PORT: u16 = 20_999;

/// An address of 127.0.0.0/8, leased by binding its guard port.
#[derive(Debug)]
pub(crate) struct Address {
    ip: Ipv4Addr,
    _guard: TcpListener,
}

impl Address {
    pub(crate) fn lease() -> Self {
        loop {
            let [a, b, c]: [u8; 3] = rand::random();
            // Not the addresses that people and services use.
            let ip = Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254));
            if let Ok(guard) = TcpListener::bind((ip, GUARD_PORT)) {
                return Self { ip, _guard: guard };
            }
        }
    }

    pub(crate) fn ip(&self) -> Ipv4Addr {
        self.ip
    }
}
