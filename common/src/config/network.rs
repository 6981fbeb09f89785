//! Networks in CIDR notation (RFC 4632, RFC 4291 §2.3).

use std::{fmt, net::IpAddr};

/// A network, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No address, or no number behind the slash.
    #[error("expected an IP address or a network such as 10.0.0.0/8, found `{0}`")]
    Form(String),
    /// More bits than an address has.
    #[error("the network `{0}` has a prefix of {1} bits: expected at most {2}")]
    Prefix(String, u64, u8),
    /// Bits beyond the prefix are set.
    #[error("the network `{0}` has bits set beyond its prefix: write `{1}`")]
    HostBits(String, Network),
}

impl Network {
    /// Reads `address` or `address/bits`. A mapped IPv4 address (`::ffff:10.0.0.1`) is the IPv4 address.
    ///
    /// # Errors
    /// Anything else, and addresses that have bits set behind the prefix: one of the two is a slip.
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let form = || NetworkError::Form(text.to_owned());
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| form())?;
        let address = if bits.is_none() { address.to_canonical() } else { address };
        let most = width(address);
        let prefix = match bits {
            None => most,
            Some(digits) if digits.is_empty() || !digits.bytes().all(|it| it.is_ascii_digit()) => {
                return Err(form());
            }
            Some(digits) => {
                let bits = digits.parse().unwrap_or(u64::MAX);
                let fitting = u8::try_from(bits).ok().filter(|bits| *bits <= most);
                fitting.ok_or_else(|| NetworkError::Prefix(text.to_owned(), bits, most))?
            }
        };
        let network = Self { address: masked(address, prefix), prefix };
        if network.address == address {
            Ok(network)
        } else {
            Err(NetworkError::HostBits(text.to_owned(), network))
        }
    }

    /// Whether an address lies in it; a mapped IPv4 address counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix) == self.address
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address with the bits behind the first `prefix` ones cleared.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let cleared = u32::from(width(address).saturating_sub(prefix));
    match address {
        IpAddr::V4(it) => IpAddr::V4((it.to_bits() & u32::MAX.checked_shl(cleared).unwrap_or(0)).into()),
        IpAddr::V6(it) => IpAddr::V6((it.to_bits() & u128::MAX.checked_shl(cleared).unwrap_or(0)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contains(network: &str, address: &str) -> bool {
        Network::parse(network).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn an_address_is_in_its_network_alone() {
        assert!(contains("10.0.0.0/8", "10.255.1.2"));
        assert!(!contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("10.1.2.3", "10.1.2.3") && !contains("10.1.2.3", "10.1.2.2"));
        assert!(contains("0.0.0.0/0", "255.1.2.3") && !contains("0.0.0.0/0", "2001:db8::1"));
        assert!(
            contains("2001:db8::/33", "2001:db8:7fff::1") && !contains("2001:db8::/33", "2001:db8:8000::1")
        );
        assert!(contains("::/0", "::1") && !contains("::/0", "127.0.0.1"));
        assert!(contains("192.168.0.0/24", "::ffff:192.168.0.9"));
        assert!(contains("::ffff:192.168.0.9", "192.168.0.9"));
    }

    #[test]
    fn what_is_no_network_is_told() {
        let told = |text: &str| Network::parse(text).unwrap_err().to_string();
        for text in ["", "10.0.0", "10.0.0.0/", "10.0.0.0/x", "10.0.0.0/+8", "/8", "localhost", "::/0/0"] {
            assert_eq!(
                told(text),
                format!("expected an IP address or a network such as 10.0.0.0/8, found `{text}`")
            );
        }
        assert_eq!(
            told("10.0.0.0/33"),
            "the network `10.0.0.0/33` has a prefix of 33 bits: expected at most 32"
        );
        assert_eq!(
            told("10.1.0.0/8"),
            "the network `10.1.0.0/8` has bits set beyond its prefix: write `10.0.0.0/8`"
        );
        assert!(told("::/129").contains("at most 128"));
    }

    proptest! {
        #[test]
        fn the_first_bits_decide(one: u32, other: u32, prefix in 0_u8..=32) {
            let network = Network { address: masked(IpAddr::V4(one.into()), prefix), prefix };
            let same = (one ^ other).leading_zeros() >= u32::from(prefix);
            prop_assert_eq!(network.contains(IpAddr::V4(other.into())), same);
            prop_assert_eq!(Network::parse(&network.to_string()).unwrap(), network);
        }

        #[test]
        fn no_text_panics(text in "[0-9a-f:./]{0,24}") {
            let _ = Network::parse(&text).map(|it| it.to_string());
        }
    }
}
