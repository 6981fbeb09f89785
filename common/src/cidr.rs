//! Networks in CIDR notation (RFC 4632, RFC 4291 §2.3), and sets of them that are fast to ask.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Where IPv4 lies in the space of IPv6 (RFC 4291 §2.5.5.2): its first address and the length of its prefix.
const MAPPED: u128 = 0xffff_0000_0000;
const MAPPED_PREFIX: u8 = 96;

/// A network: an address and how many of its leading bits count. `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// No address, or no prefix length after the slash.
    #[error("expected a network such as 10.0.0.0/8 or an IP address, found `{0}`")]
    Syntax(String),
    /// A prefix longer than the address.
    #[error("the prefix length of `{text}` is {prefix}: expected at most {max}")]
    Prefix {
        /// The whole text.
        text: String,
        /// What stands after the slash.
        prefix: String,
        /// 32 or 128.
        max: u8,
    },
    /// Bits beyond the prefix: one of the two is a slip.
    #[error("`{text}` has bits beyond its prefix: the network is `{network}`, the address alone `{address}`")]
    HostBits {
        /// The whole text.
        text: String,
        /// The network that the address is in.
        network: Cidr,
        /// The address alone.
        address: IpAddr,
    },
}

impl Cidr {
    /// The network's first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits count: up to 32 of an IPv4 address, up to 128 of an IPv6 address.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether it holds every address of its family.
    pub fn is_everyone(&self) -> bool {
        self.prefix == 0
    }

    /// Whether an address lies in it; an IPv4 address that is mapped into IPv6 counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (first, last) = self.range();
        (first..=last).contains(&bits(address))
    }

    /// Its first and last address.
    fn range(&self) -> (u128, u128) {
        let (first, used) = match self.address {
            IpAddr::V4(_) => (bits(self.address), self.prefix + MAPPED_PREFIX),
            IpAddr::V6(_) => (bits(self.address), self.prefix),
        };
        (first, first | !mask(used))
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let syntax = || CidrError::Syntax(text.chars().take(60).collect());
        let (address, prefix) = text.split_once('/').map_or((text, None), |(it, prefix)| (it, Some(prefix)));
        let mut address: IpAddr = address.parse().map_err(|_| syntax())?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let mut length = max;
        if let Some(prefix) = prefix {
            let digits = (1..=9).contains(&prefix.len()) && prefix.bytes().all(|it| it.is_ascii_digit());
            if !digits || prefix.len() > 1 && prefix.starts_with('0') {
                return Err(syntax());
            }
            length = prefix.parse().ok().filter(|it| *it <= max).ok_or_else(|| CidrError::Prefix {
                text: text.to_owned(),
                prefix: prefix.to_owned(),
                max,
            })?;
        }
        if let IpAddr::V6(v6) = address
            && let (Some(v4), MAPPED_PREFIX..) = (v6.to_ipv4_mapped(), length)
        {
            address = v4.into();
            length -= MAPPED_PREFIX;
        }
        let network = Self { address: masked(address, length), prefix: length };
        if network.address == address {
            Ok(network)
        } else {
            Err(CidrError::HostBits { text: text.to_owned(), network, address })
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A set of networks: what they cover, as ranges without overlap, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CidrSet {
    ranges: Box<[(u128, u128)]>,
}

impl CidrSet {
    /// Whether an address lies in one of the networks; an IPv4 address that is mapped into IPv6 counts as what it is.
    /// Takes time in proportion to the logarithm of their number.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = bits(address);
        let at = self.ranges.partition_point(|(first, _)| *first <= bits);
        at.checked_sub(1).is_some_and(|at| bits <= self.ranges[at].1)
    }

    /// Whether no address lies in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl FromIterator<Cidr> for CidrSet {
    fn from_iter<T: IntoIterator<Item = Cidr>>(networks: T) -> Self {
        let mut ranges: Vec<(u128, u128)> = networks.into_iter().map(|it| it.range()).collect();
        ranges.sort_unstable();
        ranges.dedup_by(|next, last| {
            let joins = next.0 <= last.1.saturating_add(1);
            if joins {
                last.1 = last.1.max(next.1);
            }
            joins
        });
        Self { ranges: ranges.into() }
    }
}

/// An address as a number, IPv4 where it lies in IPv6.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => MAPPED | u128::from(u32::from(v4)),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// The leading `prefix` bits of 128.
fn mask(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or_default()
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or_default();
            Ipv4Addr::from(u32::from(v4) & mask).into()
        }
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & mask(prefix)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap_or_else(|cause| panic!("{text}: {cause}"))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_are_read_and_written() {
        for (text, written) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ] {
            assert_eq!(cidr(text).to_string(), written);
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_why() {
        for text in [
            "",
            "/8",
            "10.0.0.0/",
            "10.0.0/8",
            "10.0.0.0/08",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "localhost",
            "010.0.0.0/8",
            "[::1]",
            "fe80::1%eth0",
            " 10.0.0.0/8",
            "10.0.0.0/8 ",
            "1.2.3.4:80",
            "10.0.0.0/255.0.0.0",
        ] {
            assert!(matches!(text.parse::<Cidr>(), Err(CidrError::Syntax(_))), "{text}");
        }
        let refused = |text: &str| text.parse::<Cidr>().unwrap_err().to_string();
        assert_eq!(refused("10.0.0.0/33"), "the prefix length of `10.0.0.0/33` is 33: expected at most 32");
        assert_eq!(refused("::/129"), "the prefix length of `::/129` is 129: expected at most 128");
        assert_eq!(
            refused("::/999999999"),
            "the prefix length of `::/999999999` is 999999999: expected at most 128"
        );
        assert_eq!(
            refused("10.1.2.3/8"),
            "`10.1.2.3/8` has bits beyond its prefix: the network is `10.0.0.0/8`, the address alone `10.1.2.3`"
        );
        assert!(refused("2001:db8::1/32").contains("the network is `2001:db8::/32`"));
    }

    #[test]
    fn an_address_lies_in_a_network_whatever_its_spelling() {
        let ten = cidr("10.0.0.0/8");
        assert!(ten.contains(ip("10.255.255.255")) && ten.contains(ip("::ffff:10.1.2.3")));
        assert!(
            !ten.contains(ip("11.0.0.0"))
                && !ten.contains(ip("9.255.255.255"))
                && !ten.contains(ip("::a00:1"))
        );
        let everyone = cidr("0.0.0.0/0");
        assert!(everyone.contains(ip("1.2.3.4")) && !everyone.contains(ip("2001:db8::1")));
        assert!(cidr("::/0").contains(ip("1.2.3.4")), "IPv4 lies in IPv6");
    }

    #[test]
    fn a_set_joins_what_overlaps_and_touches() {
        let set: CidrSet = ["10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16", "192.0.2.1", "2001:db8::/32"]
            .map(cidr)
            .into_iter()
            .collect();
        assert_eq!(set.ranges.len(), 3);
        assert!(
            set.contains(ip("10.200.0.1"))
                && set.contains(ip("192.0.2.1"))
                && set.contains(ip("2001:db8::5"))
        );
        assert!(
            !set.contains(ip("192.0.2.2")) && !set.contains(ip("2001:db9::")) && !set.contains(ip("9.9.9.9"))
        );
        assert!(CidrSet::default().is_empty() && !CidrSet::default().contains(ip("127.0.0.1")));
        let everyone: CidrSet = ["::/0", "255.255.255.255"].map(cidr).into_iter().collect();
        assert!(
            everyone.contains(ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")) && everyone.contains(ip("::"))
        );
    }

    proptest! {
        #[test]
        fn a_set_holds_what_one_of_its_networks_holds(
            networks in proptest::collection::vec((any::<bool>(), any::<u128>(), 0_u8..=128), 0..8),
            asked in any::<u128>(),
            of_four in any::<bool>(),
        ) {
            let address = |four: bool, bits: u128| -> IpAddr {
                if four { Ipv4Addr::from((bits & 0xffff_ffff) as u32).into() } else { Ipv6Addr::from(bits).into() }
            };
            let networks: Vec<Cidr> = networks
                .into_iter()
                .map(|(four, bits, prefix)| {
                    let prefix = if four { prefix / 4 } else { prefix };
                    Cidr { address: masked(address(four, bits), prefix), prefix }
                })
                .collect();
            let set: CidrSet = networks.iter().copied().collect();
            for asked in networks.iter().map(|it| it.address).chain([address(of_four, asked)]) {
                prop_assert_eq!(set.contains(asked), networks.iter().any(|it| it.contains(asked)));
            }
        }

        #[test]
        fn any_text_has_an_answer(text in "[0-9a-f:./]{0,40}") {
            if let Ok(network) = text.parse::<Cidr>() {
                prop_assert_eq!(cidr(&network.to_string()), network);
            }
        }
    }
}
