//! Reads `address` of a backend: a scheme and where the server is, by name, by IP address or by a Unix socket's path; or the name of a
//! service, of which DNS says where its servers are.

use super::super::{
    backend_tls,
    decode::Context,
    names,
    node::Node,
    quoted::quoted,
    rule::{BackendAddress, BackendProtocol},
};
use std::{
    net::{IpAddr, Ipv6Addr},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

/// The schemes of addresses: the protocol, whether over TLS, and the port without one.
const SCHEMES: [(&str, BackendProtocol, bool, u16); 4] = [
    ("http", BackendProtocol::Http1, false, 80),
    ("https", BackendProtocol::Http1, true, 443),
    ("h2c", BackendProtocol::Http2, false, 80),
    ("h2", BackendProtocol::Http2, true, 443),
];

/// What stands before the path of a Unix socket, and what is spoken there.
const SOCKETS: [(&str, BackendProtocol); 2] =
    [("unix:", BackendProtocol::Http1), ("h2c+unix:", BackendProtocol::Http2)];

/// What stands before the name of a service: what its servers speak, and whether over TLS.
const SERVICES: [(&str, BackendProtocol, bool); 4] = [
    ("srv:", BackendProtocol::Http1, false),
    ("https+srv:", BackendProtocol::Http1, true),
    ("h2c+srv:", BackendProtocol::Http2, false),
    ("h2+srv:", BackendProtocol::Http2, true),
];

/// The longest path that a Unix socket can have: `sun_path` of `sockaddr_un` with the zero at its end.
const PATH_MAX: usize = 107;

/// What an `address` says: `https://host:port`, `unix:/run/app.sock` and the like.
#[derive(Debug)]
pub(in crate::config) struct Address {
    pub(super) protocol: BackendProtocol,
    pub(super) tls: bool,
    pub(in crate::config) at: BackendAddress,
}

/// Reads an address.
pub(in crate::config) fn decode(context: Context<'_>, node: &Node) -> Option<Address> {
    let text = context.checked(node, |text| Address::parse(text).map(drop))?;
    let mut address = Address::parse(&text).ok()?;
    let BackendAddress::Socket(path) = &address.at else { return Some(address) };
    let prefix = SOCKETS.iter().find(|(prefix, _)| text.starts_with(prefix)).map_or("", |(prefix, _)| prefix);
    context.report.path_behind(node.span, prefix);
    let path = context.absolute(path, node.span);
    let length = path.as_os_str().as_bytes().len();
    if length > PATH_MAX {
        let shown = quoted(&path.to_string_lossy());
        let message = format!("the path of a Unix socket has at most {PATH_MAX} bytes, {shown} has {length}");
        context.error(node.span, message);
        return None;
    }
    address.at = BackendAddress::Socket(path);
    Some(address)
}

impl Address {
    /// A path is as it stands there.
    fn parse(text: &str) -> Result<Self, String> {
        let socket =
            SOCKETS.iter().find_map(|(prefix, protocol)| Some((text.strip_prefix(prefix)?, *protocol)));
        if let Some((path, protocol)) = socket {
            return Ok(Self { protocol, tls: false, at: BackendAddress::Socket(socket_path(text, path)?) });
        }
        for (prefix, protocol, tls) in SERVICES {
            if let Some(name) = text.strip_prefix(prefix) {
                let at = BackendAddress::Service(service_name(name)?);
                return Ok(Self { protocol, tls, at });
            }
        }
        let found = text.split_once("://").and_then(|(scheme, rest)| {
            SCHEMES.iter().find(|(name, ..)| *name == scheme).map(|known| (known, rest))
        });
        let Some((&(scheme, protocol, tls, usual_port), rest)) = found else {
            return Err(format!(
                "expected http://host:port or https://host:port, for HTTP/2 and gRPC h2c://host:port (without TLS) or h2://host:port (with TLS), unix:PATH of a socket (for HTTP/2 h2c+unix:PATH), or srv:NAME of a service in DNS, found {}",
                quoted(text)
            ));
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        // As nginx has it.
        if let Some(path) = rest.strip_prefix("unix:") {
            let path = path.split(':').next().unwrap_or_default();
            let kind = if scheme == "h2c" { "h2c+unix" } else { "unix" };
            let shown = quoted(&format!("{kind}:{path}"));
            return Err(format!(
                "a Unix socket has no scheme before it: expected {shown}, found {}",
                quoted(text)
            ));
        }
        if rest.contains(['/', '?', '#']) {
            return Err(format!(
                "expected {scheme}://host:port without a path, found {}: `forward` changes paths",
                quoted(text)
            ));
        }
        let (host, port) = authority(rest)?;
        if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
            return Err(format!("{} means every interface: give the address of one server", quoted(text)));
        }
        if tls {
            backend_tls::server_name(&host)?;
        }
        let port = port.unwrap_or(usual_port);
        Ok(Self { protocol, tls, at: BackendAddress::Host { host, port } })
    }
}

/// A name that has SRV records, in lower case (RFC 2782; the labels of RFC 1035 §2.3.4, with `_`).
fn service_name(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_'))
    };
    if name.len() <= 253 && name.split('.').all(is_label) && name.contains('.') {
        return Ok(name.to_ascii_lowercase());
    }
    if let Some((name, _)) = text.rsplit_once(':') {
        let shown = quoted(&format!("srv:{name}"));
        return Err(format!("DNS says the ports of a service's servers: expected {shown} without one"));
    }
    Err(format!(
        "expected the full name of a service, such as srv:_http._tcp.shop.internal, found {}",
        quoted(text)
    ))
}

/// `unix:///run/app.sock` is as good as `unix:/run/app.sock`; of `unix://run/app.sock` nobody knows which is meant.
fn socket_path(text: &str, path: &str) -> Result<PathBuf, String> {
    let plain = match path.strip_prefix("//") {
        Some(rest) if rest.starts_with('/') => rest,
        Some(_) => {
            let message = "has two slashes before the path of a Unix socket: give it one (from the root) or none (from this file's folder)";
            return Err(format!("{} {message}", quoted(text)));
        }
        None => path,
    };
    if plain.is_empty() || plain.ends_with('/') || plain.contains('\0') {
        return Err(format!(
            "expected the path of a Unix socket, such as unix:/run/app.sock, found {}",
            quoted(text)
        ));
    }
    Ok(plain.into())
}

/// The host, its brackets taken off, and the port of `host` or `host:port`.
pub(in crate::config) fn authority(text: &str) -> Result<(String, Option<u16>), String> {
    let refuse = || format!("expected a host, or a host and a port (host:port), found {}", quoted(text));
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let digits = !port.is_empty() && port.bytes().all(|it| it.is_ascii_digit());
            let port = port.parse::<u16>().ok().filter(|port| digits && *port > 0);
            (host, Some(port.ok_or_else(refuse)?))
        }
        _ => (text, None),
    };
    if let Some(ip) = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        return if ip.parse::<Ipv6Addr>().is_ok() { Ok((ip.to_owned(), port)) } else { Err(refuse()) };
    }
    if host.contains(':') || names::address(host, true).is_err() {
        return Err(refuse());
    }
    Ok((host.to_owned(), port))
}
