//! The PROXY protocol as a sender: what is said first on a connection to a server that wants to know whose it is.

use super::v2;
use common::config::ProxyProtocolVersion;
use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
};

/// A client's address, and the one that it connected to.
pub(crate) type Endpoints = (SocketAddr, SocketAddr);

/// Appends a header to `out`: 107 bytes at most. `addresses` are the client's and the one that it connected to; without them the
/// connection is our own (`UNKNOWN` in version 1, `LOCAL` in version 2), such as a health check. IPv4 addresses that are mapped into
/// IPv6 are said as what they are. Of two families the IPv4 one is mapped into IPv6, as neither version has a form for both.
pub(crate) fn write(version: ProxyProtocolVersion, addresses: Option<Endpoints>, out: &mut Vec<u8>) {
    let addresses = addresses.map(|(from, to)| one_family(from, to));
    match version {
        ProxyProtocolVersion::V1 => write_v1(addresses, out),
        ProxyProtocolVersion::V2 => write_v2(addresses, out),
    }
}

fn write_v1(addresses: Option<Endpoints>, out: &mut Vec<u8>) {
    let Some((from, to)) = addresses else {
        out.extend_from_slice(b"PROXY UNKNOWN\r\n");
        return;
    };
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    // A vector takes everything.
    let _ = write!(out, "PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port());
}

fn write_v2(addresses: Option<Endpoints>, out: &mut Vec<u8>) {
    out.extend_from_slice(v2::SIGNATURE);
    let Some((from, to)) = addresses else {
        out.extend_from_slice(&[v2::LOCAL, v2::UNSPECIFIED, 0, 0]);
        return;
    };
    let (family, length) =
        if from.is_ipv4() { (v2::TCP4, v2::TCP4_LENGTH) } else { (v2::TCP6, v2::TCP6_LENGTH) };
    out.extend_from_slice(&[v2::PROXY, family, 0, length]);
    for address in [from, to] {
        match address.ip() {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
    }
    for address in [from, to] {
        out.extend_from_slice(&address.port().to_be_bytes());
    }
}

/// The same addresses, both of IPv4 if they are, else both of IPv6.
fn one_family(from: SocketAddr, to: SocketAddr) -> Endpoints {
    let plain = |it: SocketAddr| SocketAddr::new(it.ip().to_canonical(), it.port());
    let mapped = |it: SocketAddr| match it.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), it.port()),
        IpAddr::V6(_) => it,
    };
    let (from, to) = (plain(from), plain(to));
    if from.is_ipv4() == to.is_ipv4() { (from, to) } else { (mapped(from), mapped(to)) }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Source, Step, parse},
        *,
    };
    use proptest::prelude::*;
    use std::net::Ipv6Addr;

    const VERSIONS: [ProxyProtocolVersion; 2] = [ProxyProtocolVersion::V1, ProxyProtocolVersion::V2];

    fn written(version: ProxyProtocolVersion, addresses: Option<(&str, &str)>) -> Vec<u8> {
        let mut out = Vec::new();
        let parsed = addresses.map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap()));
        write(version, parsed, &mut out);
        out
    }

    #[test]
    fn lines_are_as_the_specification_has_them() {
        let line = |addresses| String::from_utf8(written(ProxyProtocolVersion::V1, addresses)).unwrap();
        assert_eq!(line(None), "PROXY UNKNOWN\r\n");
        assert_eq!(
            line(Some(("192.0.2.1:56324", "198.51.100.1:443"))),
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"
        );
        assert_eq!(line(Some(("[2001:db8::7]:80", "[::1]:443"))), "PROXY TCP6 2001:db8::7 ::1 80 443\r\n");
        // A listener of IPv6 that takes IPv4 too.
        assert_eq!(
            line(Some(("[::ffff:192.0.2.1]:1", "[::ffff:198.51.100.1]:2"))),
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 2\r\n"
        );
        assert_eq!(
            line(Some(("192.0.2.1:1", "[2001:db8::1]:2"))),
            "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 1 2\r\n"
        );
        let longest = Ipv6Addr::from([0xff; 16]);
        let longest = format!("[{longest}]:65535");
        assert!(line(Some((&longest, &longest))).len() <= 107);
    }

    #[test]
    fn bytes_are_as_the_specification_has_them() {
        let header = |addresses| {
            let bytes = written(ProxyProtocolVersion::V2, addresses);
            bytes.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n").expect("the signature").to_vec()
        };
        assert_eq!(header(None), [0x20, 0, 0, 0]);
        let v4 = [0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];
        assert_eq!(header(Some(("192.0.2.1:56324", "198.51.100.1:443"))), v4);
        let v6 = header(Some(("[2001:db8::7]:80", "[::1]:443")));
        assert_eq!((&v6[..4], v6.len()), (&[0x21, 0x21, 0, 36][..], 4 + 36));
        assert_eq!((&v6[36..], v6[19], v6[35]), (&[0, 80, 1, 187][..], 7, 1));
    }

    proptest! {
        /// What is written is read as what it was.
        #[test]
        fn a_receiver_reads_what_was_meant(from: IpAddr, to: IpAddr, from_port: u16, to_port: u16) {
            let (from, to) = (SocketAddr::new(from, from_port), SocketAddr::new(to, to_port));
            for version in VERSIONS {
                let mut out = b"before".to_vec();
                write(version, Some((from, to)), &mut out);
                let header = out.strip_prefix(b"before").unwrap();
                let Ok(Step::Header { length, source: Source::Client { from: read, to: and } }) = parse(header) else {
                    panic!("{version:?}: {header:?}");
                };
                prop_assert_eq!(length, header.len());
                prop_assert!(length <= 107);
                let plain = |it: SocketAddr| (it.ip().to_canonical(), it.port());
                prop_assert_eq!((plain(read), plain(and)), (plain(from), plain(to)));
                prop_assert_eq!(read.is_ipv4(), and.is_ipv4());
            }
        }
    }

    #[test]
    fn a_receiver_knows_our_own_connections() {
        for version in VERSIONS {
            let header = written(version, None);
            assert_eq!(parse(&header), Ok(Step::Header { length: header.len(), source: Source::Proxy }));
        }
    }
}
