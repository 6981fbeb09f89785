//! Version 1: a line of text, `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n`.

use super::{ProxyProtocolError, Source, Step, shown};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What it begins with.
pub(super) const PREFIX: &[u8] = b"PROXY ";

/// The longest line, its CRLF included (§2.1).
const LINE_MAX: usize = 107;

/// `bytes` begin with [`PREFIX`], as far as there are any.
pub(super) fn parse(bytes: &[u8]) -> Result<Step, ProxyProtocolError> {
    let window = &bytes[..bytes.len().min(LINE_MAX)];
    let Some(end) = window.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
        return if window.len() == LINE_MAX { Err(ProxyProtocolError::Line) } else { Ok(Step::More) };
    };
    match window[end..] {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if window.len() < LINE_MAX => return Ok(Step::More),
        _ => return Err(ProxyProtocolError::Line),
    }
    let line = &window[PREFIX.len().min(end)..end];
    let source = fields(line).ok_or_else(|| ProxyProtocolError::Fields(shown(&window[..end])))?;
    Ok(Step::Header { length: end + 2, source })
}

/// The fields after `PROXY `, exactly one space between them.
fn fields(line: &[u8]) -> Option<Source> {
    let text = std::str::from_utf8(line).ok().filter(|text| text.is_ascii())?;
    // What follows UNKNOWN must be ignored, whatever it is (§2.1).
    if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        return Some(Source::Proxy);
    }
    let mut fields = text.split(' ');
    let address: fn(&str) -> Option<IpAddr> = match fields.next()? {
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        "TCP6" => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => return None,
    };
    let (from, to) = (address(fields.next()?)?, address(fields.next()?)?);
    let (from_port, to_port) = (port(fields.next()?)?, port(fields.next()?)?);
    fields.next().is_none().then_some(Source::Client {
        from: SocketAddr::new(from, from_port),
        to: SocketAddr::new(to, to_port),
    })
}

/// A port in decimal, without sign or leading zero.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|it| it.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}
