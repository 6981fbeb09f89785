//! Version 2: a signature, version and command, family, length, addresses, attributes.

use super::{HEADER_MAX, ProxyProtocolError, Source, Step};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// What it begins with.
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and transport, length.
const FIXED: usize = 16;

/// Version and command: the proxy's own connection, and a client's.
pub(super) const LOCAL: u8 = 0x20;
pub(super) const PROXY: u8 = 0x21;

/// Family and transport.
pub(super) const UNSPECIFIED: u8 = 0x00;
pub(super) const TCP4: u8 = 0x11;
pub(super) const TCP6: u8 = 0x21;
const UNIX: u8 = 0x31;

/// Bytes of addresses and ports.
pub(super) const TCP4_LENGTH: u8 = 12;
pub(super) const TCP6_LENGTH: u8 = 36;

/// `bytes` begin with [`SIGNATURE`], as far as there are any.
pub(super) fn parse(bytes: &[u8]) -> Result<Step, ProxyProtocolError> {
    let after = bytes.get(SIGNATURE.len()..).unwrap_or_default();
    let Some(command) = after.first().copied() else { return Ok(Step::More) };
    if !matches!(command, LOCAL | PROXY) {
        return Err(ProxyProtocolError::Command(command));
    }
    let Some(family) = after.get(1).copied() else { return Ok(Step::More) };
    let min = match family {
        UNSPECIFIED => 0,
        TCP4 => usize::from(TCP4_LENGTH),
        TCP6 => usize::from(TCP6_LENGTH),
        UNIX => 216,
        _ => return Err(ProxyProtocolError::Family(family)),
    };
    let Some(length) = after.get(2..4) else { return Ok(Step::More) };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    // The addresses of the proxy's own connections are to be passed over (§2.2); some proxies leave them out.
    let min = if command == LOCAL && length == 0 { 0 } else { min };
    let max = HEADER_MAX - FIXED;
    if !(min..=max).contains(&length) {
        return Err(ProxyProtocolError::Length { length, min, max });
    }
    let Some(body) = bytes.get(FIXED..FIXED + length) else { return Ok(Step::More) };
    let (addresses, attributes) = body.split_at(min);
    check_attributes(attributes)?;
    let source = if command == LOCAL { Source::Proxy } else { source(family, addresses) };
    Ok(Step::Header { length: FIXED + length, source })
}

/// The addresses of a family, as many bytes as it needs.
fn source(family: u8, addresses: &[u8]) -> Source {
    let port = |at: usize| u16::from_be_bytes([addresses[at], addresses[at + 1]]);
    let v4 = |at: usize| {
        let bytes: [u8; 4] = std::array::from_fn(|byte| addresses[at + byte]);
        Ipv4Addr::from(bytes)
    };
    let v6 = |at: usize| {
        let bytes: [u8; 16] = std::array::from_fn(|byte| addresses[at + byte]);
        Ipv6Addr::from(bytes)
    };
    let (from, to): (SocketAddr, SocketAddr) = match family {
        TCP4 => ((v4(0), port(8)).into(), (v4(4), port(10)).into()),
        TCP6 => ((v6(0), port(32)).into(), (v6(16), port(34)).into()),
        _ => return Source::Proxy,
    };
    Source::Client { from, to }
}

/// Attributes are type, length and value; together they fill what is left of the header.
fn check_attributes(mut left: &[u8]) -> Result<(), ProxyProtocolError> {
    while let [_, high, low, rest @ ..] = left {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        left = rest.get(length..).ok_or(ProxyProtocolError::Attribute { length, left: rest.len() })?;
    }
    if left.is_empty() { Ok(()) } else { Err(ProxyProtocolError::Attribute { length: 3, left: left.len() }) }
}
