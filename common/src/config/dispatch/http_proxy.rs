//! Reads `http-proxy`: servers that are not ours.

use super::{
    super::{
        backend_tls,
        bounds::{TIMEOUT, WAIT},
        decode::{Context, Fields},
        defaults::DEFAULTS,
        keys,
        node::Node,
        outlier_detection,
        quoted::quoted,
        rule::{Backend, BackendProtocol, HttpProxy, ProxyProtocolVersion},
    },
    STRATEGIES,
    backend_address::{self, Address},
    hash_by, health_check, sticky,
};
use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
};

/// The most name servers, as in `resolv.conf`.
const RESOLVERS_MAX: usize = 3;

/// Of a name server without a port.
const DNS_PORT: u16 = 53;

/// The most backends of a rule.
const BACKENDS_MAX: usize = 4096;

/// Reads the rule but for `regexp` and `if`. `None` without a good backend.
pub(super) fn decode(fields: &Fields<'_>) -> Option<HttpProxy> {
    let (cookie, proxy_protocol) = (sticky::decode(fields), proxy_protocol(fields));
    let (outlier_detection, resolver) = (outlier_detection::decode(fields), resolver(fields));
    let servers = servers(fields)?;
    let shared = servers.backends.iter().find(|it| it.protocol == BackendProtocol::Http2);
    if let Some(shared) = shared.filter(|_| proxy_protocol.is_some()) {
        let message = format!(
            "`proxy-protocol` says of each connection which client it is for, and the backend {} speaks HTTP/2, where many clients share one: it learns of them by `X-Forwarded-For`",
            shared.name()
        );
        fields.context.error(fields.span("proxy-protocol"), message);
    }
    Some(HttpProxy { cookie, outlier_detection, resolver, proxy_protocol, ..servers })
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
        outlier_detection: defaults.outlier_detection,
        resolver: defaults.resolver,
        proxy_protocol: defaults.proxy_protocol,
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

/// Reads `resolver`: an address or a list of them.
fn resolver(fields: &Fields<'_>) -> Vec<SocketAddr> {
    let context = fields.context;
    let items = fields.get("resolver").map(|node| context.one_or_more(node)).unwrap_or_default();
    if let Some(beyond) = items.get(RESOLVERS_MAX) {
        context.error(beyond.span, format!("at most {RESOLVERS_MAX} name servers are asked"));
    }
    let read = items.iter().take(RESOLVERS_MAX).filter_map(|item| {
        let text = context.checked(item, |text| name_server(text).map(drop))?;
        name_server(&text).ok()
    });
    read.collect()
}

fn name_server(text: &str) -> Result<SocketAddr, String> {
    let read = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT)).or_else(|_| text.parse());
    let refuse =
        || format!("expected the IP address of a name server, perhaps with a port, found {}", quoted(text));
    read.ok().filter(|it: &SocketAddr| !it.ip().is_unspecified() && it.port() != 0).ok_or_else(refuse)
}

/// Reads which header a connection begins with.
fn proxy_protocol(fields: &Fields<'_>) -> Option<ProxyProtocolVersion> {
    let versions = [("v1", ProxyProtocolVersion::V1), ("v2", ProxyProtocolVersion::V2)];
    fields.choice("proxy-protocol", &versions)
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
        if seen.insert(backend.name()) {
            backups += usize::from(backend.backup);
            backends.push(backend);
        } else {
            context.error(item.span, format!("the backend {} stands twice in this rule", backend.name()));
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
        "give it as http://host:port or https://host:port, for HTTP/2 as h2c://host:port or h2://host:port, or as unix:PATH of a socket",
    );
    let address = address.and_then(|node| backend_address::decode(context, node));
    let weight = fields.integer("weight", 1..=10_000).unwrap_or(DEFAULTS.weight);
    let backup = fields.boolean("backup").unwrap_or(false);
    let Address { protocol, tls, at } = address?;
    Some(Backend { at, protocol, tls, weight, backup })
}
