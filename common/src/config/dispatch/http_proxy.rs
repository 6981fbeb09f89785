//! Reads `http-proxy`: servers that are not ours.

use super::{
    super::{
        backend_tls,
        bounds::{TIMEOUT, WAIT},
        decode::{Context, Fields},
        defaults::DEFAULTS,
        keys, names,
        node::Node,
        quoted::quoted,
        rule::{Backend, BackendProtocol, HttpProxy},
    },
    STRATEGIES, hash_by, health_check, sticky,
};
use std::{
    collections::HashSet,
    net::{IpAddr, Ipv6Addr},
};

/// The most backends of a rule.
const BACKENDS_MAX: usize = 4096;

/// Reads the rule but for `regexp` and `if`. `None` without a good backend.
pub(super) fn decode(fields: &Fields<'_>) -> Option<HttpProxy> {
    Some(HttpProxy { cookie: sticky::decode(fields), ..servers(fields)? })
}

/// Reads who the servers are, and how they are reached.
pub(super) fn servers(fields: &Fields<'_>) -> Option<HttpProxy> {
    let defaults = HttpProxy::default();
    let backends = backends(fields);
    let time = |key: &str, bounds, default| fields.duration(key, bounds).unwrap_or(default);
    let proxy = HttpProxy {
        tls: backend_tls::decode(fields, &backends).map(Box::new),
        health_check: fields
            .get("health-check")
            .and_then(|node| health_check::decode(fields.context, node, &backends)),
        cookie: defaults.cookie,
        strategy: fields.choice("strategy", &STRATEGIES).unwrap_or(defaults.strategy),
        hash_by: hash_by(fields),
        warmup_time: time("warmup-time", WAIT, defaults.warmup_time),
        connect_timeout: time("connect-timeout", TIMEOUT, defaults.connect_timeout),
        socket_timeout: time("socket-timeout", TIMEOUT, defaults.socket_timeout),
        idle_time: time("idle-time", TIMEOUT, defaults.idle_time),
        recover_time: time("recover-time", TIMEOUT, defaults.recover_time),
        connection_max: fields.integer("connection-max", 1..=1_000_000).unwrap_or(defaults.connection_max),
        queue_timeout: time("queue-timeout", WAIT, defaults.queue_timeout),
        backends,
    };
    (!proxy.backends.is_empty()).then_some(proxy)
}

fn backends(fields: &Fields<'_>) -> Vec<Backend> {
    let context = fields.context;
    let hint = "list at least one server, such as {address: 'http://10.1.0.5:8080'}";
    let Some(list) = fields.required("backends", hint) else { return Vec::new() };
    let items = context.items(list);
    if items.is_empty() {
        context.error(list.span, format!("`http-proxy` has no backends: {hint}"));
    } else if let Some(beyond) = items.get(BACKENDS_MAX) {
        let message =
            format!("`http-proxy` has at most {BACKENDS_MAX} backends, this one has {}", items.len());
        context.error(beyond.span, message);
    }
    let (mut seen, mut backups) = (HashSet::new(), 0);
    let mut backends = Vec::new();
    for item in items.iter().take(BACKENDS_MAX) {
        let Some(backend) = backend(context, item) else { continue };
        if seen.insert(backend.authority()) {
            backups += usize::from(backend.backup);
            backends.push(backend);
        } else {
            context
                .error(item.span, format!("the backend {} stands twice in this rule", backend.authority()));
        }
    }
    if backups > 0 && backups == backends.len() {
        context.error(
            list.span,
            "every backend is a `backup`: of whom? Leave the key out on those that come first",
        );
    }
    backends
}

fn backend(context: Context<'_>, node: &Node) -> Option<Backend> {
    let fields = Fields::open(context, node, &keys::BACKEND)?;
    let address = fields.required(
        "address",
        "give it as http://host:port or https://host:port, for HTTP/2 as h2c://host:port or h2://host:port",
    );
    let address = address.and_then(|node| context.checked(node, |text| Address::parse(text).map(drop)));
    let weight = fields.integer("weight", 1..=10_000).unwrap_or(DEFAULTS.weight);
    let backup = fields.boolean("backup").unwrap_or(false);
    let Address { protocol, tls, host, port } = Address::parse(&address?).ok()?;
    Some(Backend { host, port, protocol, tls, weight, backup })
}

/// The schemes of addresses: the protocol, whether over TLS, and the port without one.
const SCHEMES: [(&str, BackendProtocol, bool, u16); 4] = [
    ("http", BackendProtocol::Http1, false, 80),
    ("https", BackendProtocol::Http1, true, 443),
    ("h2c", BackendProtocol::Http2, false, 80),
    ("h2", BackendProtocol::Http2, true, 443),
];

/// What a backend's `address` is: `https://host:port` and the like.
struct Address {
    protocol: BackendProtocol,
    tls: bool,
    host: String,
    port: u16,
}

impl Address {
    fn parse(text: &str) -> Result<Self, String> {
        let found = text.split_once("://").and_then(|(scheme, rest)| {
            SCHEMES.iter().find(|(name, ..)| *name == scheme).map(|known| (known, rest))
        });
        let Some((&(scheme, protocol, tls, usual_port), rest)) = found else {
            return Err(format!(
                "expected http://host:port or https://host:port, or for HTTP/2 and gRPC h2c://host:port (without TLS) or h2://host:port (with TLS), found {}",
                quoted(text)
            ));
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
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
        Ok(Self { protocol, tls, host, port: port.unwrap_or(usual_port) })
    }
}

/// The host, its brackets taken off, and the port of `host` or `host:port`.
pub(super) fn authority(text: &str) -> Result<(String, Option<u16>), String> {
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
