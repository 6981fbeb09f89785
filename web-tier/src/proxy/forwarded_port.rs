//! `X-Forwarded-Port`: the port of the URL that a client has asked for.

use crate::http1::Fields;

/// What a proxy that is trusted says of it: a port, or nothing.
pub(super) fn forwarded_port(fields: &Fields) -> Option<u16> {
    fields.named("x-forwarded-port").next().and_then(port)
}

/// The port of a `Host`, if it has one.
pub(super) fn port_of(host: &[u8]) -> Option<u16> {
    // Behind the brackets of an IPv6 address; one without brackets has no port.
    let (name, digits) = host.split_at_checked(host.iter().rposition(|byte| *byte == b':')?)?;
    if name.contains(&b':') && !name.ends_with(b"]") { None } else { port(&digits[1..]) }
}

/// A port from 1 to 65535 in plain decimal.
fn port(text: &[u8]) -> Option<u16> {
    let is_plain =
        matches!(text, [b'1'..=b'9', ..]) && text.len() <= 5 && text.iter().all(u8::is_ascii_digit);
    if !is_plain {
        return None;
    }
    let sum = text.iter().fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    u16::try_from(sum).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_a_host() {
        for (host, port) in [
            ("shop.example", None),
            ("shop.example:8443", Some(8443)),
            ("192.0.2.1:1", Some(1)),
            ("[2001:db8::1]:65535", Some(65_535)),
            ("[2001:db8::1]", None),
            ("2001:db8::1", None),
            ("2001:db8::1:80", None),
            ("h:", None),
            ("h:0", None),
            ("h:080", None),
            ("h:65536", None),
            ("h:+80", None),
            ("h:80a", None),
            (":80", Some(80)),
            ("", None),
        ] {
            assert_eq!(port_of(host.as_bytes()), port, "{host}");
        }
    }
}
