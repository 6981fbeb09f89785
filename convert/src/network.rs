//! Sets of addresses: whom `allow` and `deny` let in when the first line that fits decides.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where IPv4 lies among the addresses of IPv6 (RFC 4291 §2.5.5.2), as Copal counts them.
const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

/// More ranges are not reckoned with.
const RANGES_MAX: usize = 4096;

/// Some addresses: ranges in order, with gaps between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Addresses(Vec<(u128, u128)>);

impl Addresses {
    pub(crate) fn everybody() -> Self {
        Self(vec![(0, u128::MAX)])
    }

    /// An address or a network; bits beyond the prefix do not count, as with both peers.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(it, prefix)| (it, Some(prefix)));
        let address: IpAddr = address.parse().ok()?;
        let (first, width) = match address {
            IpAddr::V4(it) => (MAPPED.0 | u128::from(it.to_bits()), 32),
            IpAddr::V6(it) => (it.to_bits(), 128),
        };
        let bits = match prefix {
            Some(digits) if digits.is_empty() || !digits.bytes().all(|it| it.is_ascii_digit()) => {
                return None;
            }
            Some(digits) => digits.parse::<u32>().ok().filter(|it| *it <= width)?,
            None => width,
        };
        let beyond = u128::MAX.checked_shr(128 - (width - bits)).unwrap_or(0);
        let all = Self(vec![(first & !beyond, first | beyond)]);
        // A network of IPv6 says nothing of clients with IPv4.
        let whole = address.is_ipv6() && !(MAPPED.0..=MAPPED.1).contains(&first);
        Some(if whole { all.minus(&Self(vec![MAPPED])) } else { all })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there are too many to go on.
    pub(crate) fn is_long(&self) -> bool {
        self.0.len() > RANGES_MAX
    }

    pub(crate) fn and(&self, other: &Self) -> Self {
        let (mut all, mut at, mut there) = (Vec::new(), 0, 0);
        while let (Some(one), Some(two)) = (self.0.get(at), other.0.get(there)) {
            let both = (one.0.max(two.0), one.1.min(two.1));
            if both.0 <= both.1 {
                all.push(both);
            }
            if one.1 < two.1 { at += 1 } else { there += 1 }
        }
        Self(all)
    }

    pub(crate) fn or(&self, other: &Self) -> Self {
        let mut ranges: Vec<_> = self.0.iter().chain(&other.0).copied().collect();
        ranges.sort_unstable();
        ranges.dedup_by(|next, last| {
            let joins = next.0 <= last.1.saturating_add(1);
            if joins {
                last.1 = last.1.max(next.1);
            }
            joins
        });
        Self(ranges)
    }

    /// All others.
    pub(crate) fn others(&self) -> Self {
        let (mut gaps, mut from) = (Vec::new(), Some(0));
        for (first, last) in &self.0 {
            if let Some(from) = from.filter(|from| from < first) {
                gaps.push((from, first - 1));
            }
            from = last.checked_add(1);
        }
        gaps.extend(from.map(|from| (from, u128::MAX)));
        Self(gaps)
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        self.and(&other.others())
    }

    /// As networks.
    pub(crate) fn networks(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (first, last) in &self.0 {
            // IPv4 is written as such, unless all of it is in a range of IPv6.
            let whole = *first < MAPPED.0 && *last > MAPPED.1;
            let cuts: &[(u128, u128)] = if whole {
                &[(0, u128::MAX)]
            } else {
                &[(0, MAPPED.0 - 1), MAPPED, (MAPPED.1 + 1, u128::MAX)]
            };
            for cut in cuts {
                let (from, to) = ((*first).max(cut.0), (*last).min(cut.1));
                if from <= to {
                    range(from, to, &mut all);
                }
            }
        }
        all
    }
}

/// The networks that a range is made of, the largest that fit.
fn range(mut from: u128, to: u128, all: &mut Vec<String>) {
    loop {
        let mut beyond = if from == 0 { u128::MAX } else { (1 << from.trailing_zeros()) - 1 };
        while from.checked_add(beyond).is_none_or(|last| last > to) {
            beyond >>= 1;
        }
        all.push(network(from, beyond));
        match from.checked_add(beyond).and_then(|last| last.checked_add(1)).filter(|next| *next <= to) {
            Some(next) => from = next,
            None => return,
        }
    }
}

fn network(first: u128, beyond: u128) -> String {
    let bits = beyond.count_ones();
    let v4 = u32::try_from(first ^ MAPPED.0).ok().filter(|_| bits <= 32);
    match (v4, bits) {
        (Some(v4), 0) => Ipv4Addr::from_bits(v4).to_string(),
        (Some(v4), _) => format!("{}/{}", Ipv4Addr::from_bits(v4), 32 - bits),
        (None, 0) => Ipv6Addr::from_bits(first).to_string(),
        (None, _) => format!("{}/{}", Ipv6Addr::from_bits(first), 128 - bits),
    }
}

/// Who is let in, as lines are read of which the first that fits decides.
#[derive(Debug)]
pub(crate) struct Access {
    /// Of whom nothing has been said yet.
    rest: Addresses,
    refused: Addresses,
    /// All but those whom lines refuse that are for all others.
    named: Addresses,
}

impl Default for Access {
    fn default() -> Self {
        Self { rest: Addresses::everybody(), refused: Addresses::default(), named: Addresses::everybody() }
    }
}

impl Access {
    pub(crate) fn allow(&mut self, who: &Addresses) {
        self.rest = self.rest.minus(who);
    }

    pub(crate) fn deny(&mut self, who: &Addresses) {
        self.deny_after_all(&self.rest.and(who));
    }

    /// Those whom a later stage refuses, whatever has been said before.
    pub(crate) fn deny_after_all(&mut self, who: &Addresses) {
        // Nobody names the last address there is: these are all but some.
        if who.0.last().is_some_and(|it| it.1 == u128::MAX) {
            self.named = self.named.minus(who);
        }
        self.refused = self.refused.or(who);
        self.rest = self.rest.minus(who);
    }

    /// Whether there are too many ranges to go on.
    pub(crate) fn is_long(&self) -> bool {
        self.rest.is_long() || self.refused.is_long()
    }

    /// `allow` and `deny` of a listener, in few networks. `None`: nobody is let in.
    pub(crate) fn lists(&self) -> Option<(Vec<String>, Vec<String>)> {
        if self.refused.is_empty() {
            return Some((Vec::new(), Vec::new()));
        }
        let let_in = self.refused.others();
        if let_in.is_empty() {
            return None;
        }
        let both = (self.named.networks(), self.named.and(&self.refused).networks());
        let ways = [(Vec::new(), self.refused.networks()), (let_in.networks(), Vec::new()), both];
        ways.into_iter().min_by_key(|(allow, deny)| allow.len() + deny.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::cidr::{Cidr, CidrSet};
    use proptest::prelude::*;

    #[test]
    fn few_networks_say_who_is_let_in() {
        let lists = |lines: &str| {
            let mut access = Access::default();
            for line in lines.split(' ') {
                let who =
                    if line.len() == 1 { Addresses::everybody() } else { Addresses::of(&line[1..]).unwrap() };
                if line.starts_with('+') { access.allow(&who) } else { access.deny(&who) }
            }
            access.lists().map(|(allow, deny)| format!("+{} -{}", allow.join(","), deny.join(",")))
        };
        assert_eq!(lists("-10.0.0.0/8").unwrap(), "+ -10.0.0.0/8");
        assert_eq!(lists("+10.1.2.3/8 +::1 -").unwrap(), "+::1,10.0.0.0/8 -");
        assert_eq!(lists("-10.0.0.5 +10.0.0.0/8 -").unwrap(), "+10.0.0.0/8 -10.0.0.5");
        assert_eq!(lists("+10.0.0.0/9 -10.0.0.0/8").unwrap(), "+ -10.128.0.0/9");
        assert_eq!(lists("+10.0.0.1").unwrap(), "+ -");
        assert_eq!(
            lists("-10.99.0.0/16 +10.0.0.0/8 +192.168.0.0/16 -").unwrap(),
            "+10.0.0.0/8,192.168.0.0/16 -10.99.0.0/16"
        );
        assert_eq!(lists("-"), None);
        assert_eq!(lists("-0.0.0.0/0").unwrap(), "+ -0.0.0.0/0");
    }

    fn network() -> impl Strategy<Value = String> {
        prop_oneof![
            (any::<u32>(), 0..=32_u32).prop_map(|(bits, prefix)| {
                let cut = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
                format!("{}/{prefix}", Ipv4Addr::from_bits(bits & cut & 0x0303_0303))
            }),
            (0..8_u128, 96..=128_u32).prop_map(|(bits, prefix)| {
                let cut = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
                format!("{}/{prefix}", Ipv6Addr::from_bits(bits & cut))
            }),
        ]
    }

    proptest! {
        /// As Copal reads the lists, each client is let in whom the first line that fits lets in.
        #[test]
        fn the_lists_say_what_the_lines_do(
            lines in proptest::collection::vec((any::<bool>(), network()), 0..8),
            last: bool,
            v4: u32,
            v6 in 0..16_u128,
        ) {
            let mut access = Access::default();
            for (allows, who) in &lines {
                let who = Addresses::of(who).unwrap();
                if *allows { access.allow(&who) } else { access.deny(&who) }
            }
            if last {
                access.deny(&Addresses::everybody());
            }
            let clients = [IpAddr::from(Ipv4Addr::from_bits(v4 & 0x0303_0303)), Ipv6Addr::from_bits(v6).into()];
            for client in clients {
                let fits = |text: &str| {
                    let network: Cidr = text.parse().unwrap();
                    client.is_ipv4() == network.address().is_ipv4() && network.contains(client)
                };
                let expected = lines.iter().find(|it| fits(&it.1)).map_or(!last, |it| it.0);
                let found = access.lists().is_some_and(|(allow, deny)| {
                    let set = |list: &[String]| -> CidrSet { list.iter().map(|it| it.parse::<Cidr>().unwrap()).collect() };
                    (allow.is_empty() || set(&allow).contains(client)) && !set(&deny).contains(client)
                });
                prop_assert_eq!(found, expected, "{:?} {:?}", client, access.lists());
            }
        }
    }
}
