//! A host with or without a port, as `Host` and request targets have it, and when two of them are the same.

use std::net::Ipv6Addr;

/// RFC 3986 §3.2.2 with a port: a name (unreserved, sub-delims, percent-escapes), or an IPv6 address in brackets. No `@`: a user
/// name has no place there. Empty is what HTTP/1.0 may leave out.
pub(super) fn is_host(host: &[u8]) -> bool {
    parts(host).is_some()
}

/// Whether two authorities name the same host and port for a scheme that stands for `default_port` (RFC 9110 §4.2.3): the case of a
/// name, escapes that need not be any, the way of writing an IPv6 address and the default port make no difference (RFC 3986 §6.2).
pub(crate) fn same_authority(one: &[u8], other: &[u8], default_port: u16) -> bool {
    one.eq_ignore_ascii_case(other)
        || match (parts(one), parts(other)) {
            (Some((one, port)), Some((other, other_port))) => {
                let number = |port: &[u8]| match port {
                    [] => u32::from(default_port),
                    digits => digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')),
                };
                one.is(&other) && number(port) == number(other_port)
            }
            _ => false,
        }
}

/// What stands before a port.
#[derive(Debug, PartialEq, Eq)]
enum Host<'a> {
    Name(&'a [u8]),
    Address(Ipv6Addr),
}

impl Host<'_> {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(one), Self::Name(other)) => plain(one) == plain(other),
            (one, other) => one == other,
        }
    }
}

/// The host, and the digits of the port; `None`: it is no valid one.
fn parts(authority: &[u8]) -> Option<(Host<'_>, &[u8])> {
    let place = |of: u8| authority.iter().position(|byte| *byte == of);
    let (host, port) = match authority.strip_prefix(b"[") {
        Some(rest) => {
            let (address, port) = rest.split_at(place(b']')? - 1);
            (Host::Address(str::from_utf8(address).ok()?.parse().ok()?), &port[1..])
        }
        None => {
            let (name, port) = authority.split_at(place(b':').unwrap_or(authority.len()));
            (Host::Name(is_name(name).then_some(name)?), port)
        }
    };
    let digits = match port.strip_prefix(b":") {
        Some(digits) => digits,
        None if port.is_empty() => port,
        None => return None,
    };
    let is_port = digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit);
    is_port.then_some((host, digits))
}

fn is_name(name: &[u8]) -> bool {
    let mut bytes = name.iter().copied();
    while let Some(byte) = bytes.next() {
        let valid = match byte {
            b'%' => {
                let mut digit = || bytes.next().is_some_and(|it| it.is_ascii_hexdigit());
                digit() && digit()
            }
            _ => is_unreserved(byte) || b"!$&'()*+,;=".contains(&byte),
        };
        if !valid {
            return false;
        }
    }
    true
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// A valid name in lower case, without the escapes that need not be any.
fn plain(name: &[u8]) -> String {
    let lower = String::from_utf8_lossy(name).to_ascii_lowercase();
    let mut pieces = lower.split('%');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (escape, rest) = piece.split_at(piece.len().min(2));
        match u8::from_str_radix(escape, 16) {
            Ok(byte) if is_unreserved(byte) => plain.push(char::from(byte.to_ascii_lowercase())),
            _ => plain.extend(['%'].into_iter().chain(escape.chars())),
        }
        plain.push_str(rest);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_host_is_written_in_many_ways() {
        let same = |one: &str, other: &str, port| {
            let both = [(one, other), (other, one)];
            let [there, back] =
                both.map(|(one, other)| same_authority(one.as_bytes(), other.as_bytes(), port));
            assert_eq!(there, back, "{one} {other}");
            there
        };
        for (one, other) in [
            ("h", "H"),
            ("h:80", "h"),
            ("h:", "h"),
            ("h:0080", "h:80"),
            ("%68%2d%C3%bc", "H-%c3%BC"),
            ("h%2E:80", "h."),
            ("[::1]", "[0:0::0001]:80"),
            ("[2001:DB8::1]:8080", "[2001:db8::1]:8080"),
            ("", ":80"),
        ] {
            assert!(same(one, other, 80), "{one} {other}");
        }
        assert!(same("h:443", "h", 443) && !same("h:443", "h", 80) && !same("h:80", "h", 443));
        for (one, other) in [
            ("h", "h2"),
            ("h", "h."),
            ("h", ""),
            ("h:81", "h"),
            ("h%2f", "h/"),
            ("h%3a80", "h:80"),
            ("h%2f", "h"),
            ("%21", "!"),
            ("u@h", "h"),
            ("h:x", "h"),
            ("[::1]", "::1"),
            ("[::1]", "[::2]"),
            ("127.0.0.1", "[::ffff:127.0.0.1]"),
        ] {
            assert!(!same(one, other, 80), "{one} {other}");
        }
    }
}
