//! Whose word on a client's address is believed: `trusted-proxies`, and the client's address by `X-Forwarded-For`.

use common::cidr::CidrSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The client behind trusted proxies.
///
/// `peer` is who connected (or whom its PROXY header names), `lines` the values of the request's `X-Forwarded-For` headers in
/// order. Each proxy adds at the right whom it was called by, so the list is walked from the right for as long as the last
/// known hop is trusted; the first that is not is the client. What stands left of it was written by the client, or by
/// strangers: it is not looked at. An entry that is no address ends the walk at the hop that wrote it.
///
/// An entry is an IP address, with or without a port, an IPv6 address with or without brackets. An IPv4 address that is mapped
/// into IPv6 is given as what it is. Allocates nothing.
pub(crate) fn client_of<'a, I>(trusted: &CidrSet, peer: IpAddr, lines: I) -> IpAddr
where
    I: IntoIterator<Item = &'a [u8]>,
    I::IntoIter: DoubleEndedIterator,
{
    let mut client = peer.to_canonical();
    for line in lines.into_iter().rev() {
        for entry in line.rsplit(|byte| *byte == b',') {
            let entry = entry.trim_ascii();
            if !trusted.contains(client) {
                return client;
            }
            if entry.is_empty() {
                continue;
            }
            match address(entry) {
                Some(hop) => client = hop,
                None => return client,
            }
        }
    }
    client
}

/// The address of an entry.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let found = match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => text.parse::<IpAddr>().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip())),
    };
    found.map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(networks: &[&str]) -> CidrSet {
        networks.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn client(peer: &str, lines: &[&str]) -> String {
        let trusted = set(&["10.0.0.0/8", "2001:db8::/32", "127.0.0.1"]);
        client_of(&trusted, peer.parse().unwrap(), lines.iter().map(|line| line.as_bytes())).to_string()
    }

    #[test]
    fn a_stranger_is_the_client_whatever_it_says() {
        assert_eq!(client("192.0.2.1", &["10.0.0.1", "6.6.6.6"]), "192.0.2.1");
        assert_eq!(client("::ffff:192.0.2.1", &["6.6.6.6"]), "192.0.2.1");
        assert_eq!(client("11.0.0.1", &["6.6.6.6"]), "11.0.0.1");
    }

    #[test]
    fn the_first_hop_from_the_right_that_is_not_trusted_is_the_client() {
        for (peer, lines, expected) in [
            ("10.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
            ("::ffff:10.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
            // What the client wrote itself stands further left.
            ("10.0.0.1", vec!["6.6.6.6, 198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", vec!["10.9.9.9, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
            ("10.0.0.1", vec!["6.6.6.6", "198.51.100.7, 10.0.0.3", "10.0.0.2"], "198.51.100.7"),
            ("2001:db8::1", vec!["2001:db9::5,[2001:db8::2]"], "2001:db9::5"),
            // All of them trusted: the leftmost.
            ("127.0.0.1", vec!["10.0.0.9, 10.0.0.8"], "10.0.0.9"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["", " , ,"], "10.0.0.1"),
            ("10.0.0.1", vec!["198.51.100.7,,"], "198.51.100.7"),
        ] {
            assert_eq!(client(peer, &lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn entries_may_have_ports_and_brackets() {
        for (entry, expected) in [
            ("198.51.100.7:4711", "198.51.100.7"),
            ("[2001:db9::5]:4711", "2001:db9::5"),
            ("[2001:db9::5]", "2001:db9::5"),
            ("2001:db9::5", "2001:db9::5"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
            ("\t198.51.100.7 ", "198.51.100.7"),
        ] {
            assert_eq!(client("10.0.0.1", &[entry]), expected, "{entry}");
        }
    }

    #[test]
    fn what_is_no_address_ends_the_walk_at_the_hop_that_wrote_it() {
        for entry in [
            "unknown",
            "_hidden",
            "198.51.100",
            "198.51.100.7:x",
            "for=198.51.100.7",
            "\"198.51.100.7\"",
            "[1.2.3.4]",
            "a b",
        ] {
            assert_eq!(client("10.0.0.1", &[&format!("6.6.6.6, {entry}, 10.0.0.2")]), "10.0.0.2", "{entry}");
        }
        let raw: [&[u8]; 1] = [b"6.6.6.6, \xff\xfe"];
        let trusted = set(&["10.0.0.0/8"]);
        assert_eq!(client_of(&trusted, "10.0.0.1".parse().unwrap(), raw).to_string(), "10.0.0.1");
    }

    proptest! {
        #[test]
        fn whoever_is_not_trusted_wrote_nothing_that_counts(
            forged in "[ -~]{0,60}",
            stranger: std::net::Ipv4Addr,
            hops in 0_u8..4,
        ) {
            let trusted = set(&["10.0.0.0/8"]);
            prop_assume!(!trusted.contains(stranger.into()));
            let mut line = format!("{forged}, {stranger}");
            (0..hops).for_each(|hop| line.push_str(&format!(", 10.0.0.{hop}")));
            let found = client_of(&trusted, "10.0.0.99".parse().unwrap(), [line.as_bytes()]);
            prop_assert_eq!(found, IpAddr::from(stranger));
        }
    }
}
