//! Whose word on a client is believed: `trusted-proxies`, and the client's address by `X-Forwarded-For`. They are asked for each request,
//! so that a proxy that a reload has taken off the list is not believed any more on connections that it had before.

use crate::http1::Fields;
use common::cidr::CidrSet;
use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Who a client was, by a proxy that is trusted.
const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// How the client came to a proxy.
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";

/// Who has opened a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Who connected, or whom a PROXY header names.
    address: IpAddr,
    /// The same, written once.
    pub(crate) text: Box<str>,
    port: u16,
    /// Where it has connected to, if somebody wants to know. In a box: each connection has one of these.
    to: Option<Box<SocketAddr>>,
    /// Who sent the PROXY header.
    proxy: Option<IpAddr>,
}

impl Peer {
    /// `proxy`: who says so, in a PROXY header.
    pub(crate) fn new(from: SocketAddr, to: Option<SocketAddr>, proxy: Option<IpAddr>) -> Self {
        let address = from.ip().to_canonical();
        Self { address, text: address.to_string().into(), port: from.port(), to: to.map(Box::new), proxy }
    }

    /// What a server is told of the connection of a client with this address, which is this one's or that of somebody behind it: the port
    /// of the latter is not known. `port` is the listener's.
    pub(crate) fn endpoints(&self, address: IpAddr, port: u16) -> (SocketAddr, SocketAddr) {
        let from = SocketAddr::new(address, if address == self.address { self.port } else { 0 });
        let anywhere = || match address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        (from, self.to.as_deref().copied().unwrap_or_else(|| SocketAddr::new(anywhere(), port)))
    }
}

/// Who asks, as far as it is believed.
#[derive(Debug)]
pub(crate) struct Asker<'a> {
    /// It is one of the `trusted-proxies`: its word on its client counts.
    pub(crate) trusted: bool,
    /// The client.
    pub(crate) address: IpAddr,
    /// The same as text.
    pub(crate) text: Cow<'a, str>,
    /// The client came over TLS.
    pub(crate) secure: bool,
}

impl<'a> Asker<'a> {
    /// By the fields of a request on a connection of `peer`, over `tls` or not.
    pub(crate) fn of(trusted: &CidrSet, peer: &'a Peer, fields: &Fields, tls: bool) -> Self {
        // Who is not believed any more has named nobody.
        let doubted = peer.proxy.map(|proxy| proxy.to_canonical()).filter(|proxy| !trusted.contains(*proxy));
        let at = doubted.unwrap_or(peer.address);
        let believed = trusted.contains(at);
        let address = if believed {
            let lines: Vec<_> = fields.named(X_FORWARDED_FOR).collect();
            client_of(trusted, at, lines)
        } else {
            at
        };
        let is_peers = address == peer.address;
        let text = if is_peers { Cow::Borrowed(&*peer.text) } else { address.to_string().into() };
        Self { trusted: believed, address, text, secure: is_secure(believed, fields, tls) }
    }

    /// This web tier itself, in the name of a client who came over TLS or not.
    pub(crate) fn of_ours(secure: bool) -> Self {
        let text = Cow::Borrowed("");
        Self { trusted: false, address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), text, secure }
    }
}

/// Whether the client came over TLS. A proxy that is trusted knows of its own client; where it says nothing, and of anyone else,
/// it is this connection that counts. Of a list the first entry is the client's, and a WebSocket's scheme may be `wss`.
fn is_secure(trusted: bool, fields: &Fields, tls: bool) -> bool {
    let said = if trusted { fields.named(X_FORWARDED_PROTO).next() } else { None };
    said.map_or(tls, |said| {
        let first = said.split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
        first.eq_ignore_ascii_case(b"https") || first.eq_ignore_ascii_case(b"wss")
    })
}

/// The client behind trusted proxies.
///
/// `peer` is who connected (or whom its PROXY header names), `lines` the values of the request's `X-Forwarded-For` headers in
/// order. Each proxy adds at the right whom it was called by, so the list is walked from the right for as long as the last
/// known hop is trusted; the first that is not is the client. What stands left of it was written by the client, or by
/// strangers: it is not looked at. An entry that is no address ends the walk at the hop that wrote it.
///
/// An entry is an IP address, with or without a port, an IPv6 address with or without brackets. An IPv4 address that is mapped
/// into IPv6 is given as what it is. Allocates nothing.
fn client_of<'a, I>(trusted: &CidrSet, peer: IpAddr, lines: I) -> IpAddr
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
            stranger: Ipv4Addr,
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
