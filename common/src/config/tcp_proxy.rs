//! `tcp-proxy` of a server: listeners whose connections are passed on as they are, to servers that the name in a TLS ClientHello
//! may choose.

use super::{
    backend_tls,
    bounds::{TIMEOUT, WAIT},
    check::Facts,
    decode::{Context, Fields},
    defaults::DEFAULTS,
    dispatch::{self, STRATEGIES},
    endpoint::{address, shifted},
    keys, limits,
    limits::{ConnectionLimit, RateLimit},
    names,
    node::Node,
    quoted::quoted,
    request_key::RequestKey,
    rule::{Backend, BackendAddress, BackendProtocol, HttpProxy, ProxyProtocolVersion, Strategy},
    source::Span,
};
use crate::cidr::Cidr;
use std::{collections::HashSet, net::IpAddr, time::Duration};

/// The most backends of a route.
const BACKENDS_MAX: usize = 4096;

/// The most routes of a listener.
const ROUTES_MAX: usize = 4096;

/// `client-hello-timeout` without one.
const CLIENT_HELLO: Duration = Duration::from_secs(5);

/// The values of `send-proxy-protocol`.
const VERSIONS: [(&str, ProxyProtocolVersion); 2] =
    [("v1", ProxyProtocolVersion::V1), ("v2", ProxyProtocolVersion::V2)];

/// `idle-timeout` without one: that of nginx.
const IDLE: Duration = Duration::from_secs(600);

/// A listener of `tcp-proxy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpListener {
    /// `address` (127.0.0.1).
    pub address: String,
    /// `port`.
    pub port: u16,
    /// `proxy-protocol` (false): each connection begins with a PROXY header, from one of the `trusted-proxies`.
    pub proxy_protocol: bool,
    /// `allow`: whose connections are taken; everybody's without it.
    pub allow: Vec<Cidr>,
    /// `deny`: whose are not, be they in `allow` or not.
    pub deny: Vec<Cidr>,
    /// `rate-limit`: connections in a time.
    pub rate_limits: Vec<RateLimit>,
    /// `connection-limit`: connections at a time.
    pub connection_limits: Vec<ConnectionLimit>,
    /// `client-hello-timeout` (5 s): for the beginning that tells a client's route.
    pub client_hello_timeout: Duration,
    /// `routes`, in file order.
    pub routes: Vec<TcpRoute>,
    /// `backends` and what goes with them: where connections go that no route takes.
    pub default: Option<HttpProxy>,
}

/// A route of a `tcp-proxy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpRoute {
    /// `server-name`, in lower case: names, and `*.` with a name, which is all names below it. Empty: any name, or none.
    pub server_names: Vec<String>,
    /// `alpn`: one of these is among the protocols that the client offers. Empty: any.
    pub alpn: Vec<String>,
    /// Where such connections go. Its `socket_timeout` is `idle-timeout`.
    pub servers: HttpProxy,
}

impl TcpListener {
    /// `address:port`, as the file has them.
    pub fn name(&self) -> String {
        let bracketed = if self.address.contains(':') { ["[", "]"] } else { ["", ""] };
        format!("{}{}{}:{}", bracketed[0], self.address, bracketed[1], self.port)
    }

    /// All servers that it passes connections on to, route by route.
    pub fn targets(&self) -> impl Iterator<Item = &HttpProxy> {
        self.routes.iter().map(|route| &route.servers).chain(&self.default)
    }
}

/// `tcp-proxy` of a server, each listener with the place of its port.
pub(super) fn decode(fields: &Fields<'_>, port_offset: u16, facts: &mut Facts) -> Vec<(TcpListener, Span)> {
    let mut listeners = Vec::new();
    for item in fields.items("tcp-proxy") {
        let Some(fields) = Fields::open(fields.context, item, &keys::TCP_PROXY) else { continue };
        listeners.extend(listener(&fields, port_offset, facts));
    }
    listeners
}

fn listener(fields: &Fields<'_>, port_offset: u16, facts: &mut Facts) -> Option<(TcpListener, Span)> {
    let context = fields.context;
    let given = fields.get("address").map(|node| address(context, node, true));
    let routes = routes(fields);
    let default = servers(fields);
    if fields.get("backends").is_none() && !context.in_default {
        if routes.is_empty() && fields.get("routes").is_none_or(Node::is_empty) {
            let message = "a `tcp-proxy` listener needs `backends`, `routes` or both: where is it to pass connections on to?";
            context.error(fields.node.span, message);
        }
        unused_without_backends(fields);
    }
    let limited = |key| fields.get(key).map_or(&[][..], |node| context.one_or_more(node));
    let rate_limits =
        limited("rate-limit").iter().filter_map(|node| rate_limit(context, node, facts)).collect();
    let connection_limits = limited("connection-limit");
    let connection_limits =
        connection_limits.iter().filter_map(|node| connection_limit(context, node, facts)).collect();
    let (allow, deny) = (networks(fields, "allow"), networks(fields, "deny"));
    let proxy_protocol = fields.boolean("proxy-protocol").unwrap_or(false);
    let client_hello_timeout = fields.duration("client-hello-timeout", TIMEOUT).unwrap_or(CLIENT_HELLO);
    let node = fields.required("port", "give the port to listen on")?;
    let port = shifted(context, context.integer(node, 1..=65_535)?, port_offset, node.span)?;
    let listener = TcpListener {
        address: given.flatten().unwrap_or_else(|| DEFAULTS.http_address.to_owned()),
        port,
        proxy_protocol,
        allow,
        deny,
        rate_limits,
        connection_limits,
        client_hello_timeout,
        routes,
        default,
    };
    Some((listener, node.span))
}

/// Keys of the listener that say how its own `backends` are reached.
fn unused_without_backends(fields: &Fields<'_>) {
    for key in keys::TCP_SERVERS.iter().filter(|key| **key != "backends") {
        if let Some(node) = fields.get(key) {
            let message = format!("`{key}` has no effect without `backends` beside it: a route has its own");
            fields.context.error(node.span, message);
        }
    }
}

fn routes(fields: &Fields<'_>) -> Vec<TcpRoute> {
    let context = fields.context;
    let items = fields.items("routes");
    if let Some(beyond) = items.get(ROUTES_MAX) {
        let message =
            format!("a `tcp-proxy` listener has at most {ROUTES_MAX} routes, this one has {}", items.len());
        context.error(beyond.span, message);
    }
    let mut taken = HashSet::new();
    let mut routes = Vec::new();
    for item in items.iter().take(ROUTES_MAX) {
        let Some(route) = Fields::open(context, item, &keys::TCP_ROUTE) else { continue };
        let texts = |key, check: fn(&str) -> Result<(), String>| {
            let items = route.get(key).map_or(&[][..], |node| context.one_or_more(node));
            let read: Vec<_> = items.iter().map(|item| context.checked(item, check)).collect();
            read.into_iter().collect::<Option<Vec<_>>>()
        };
        let (server_names, alpn) = (texts("server-name", server_name), texts("alpn", protocol));
        let hint = "list at least one server, such as {address: '10.1.0.5:5432'}";
        route.required("backends", hint);
        let servers = servers(&route);
        let (Some(server_names), Some(alpn), Some(servers)) = (server_names, alpn, servers) else { continue };
        let server_names: Vec<_> = server_names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let any = [String::new()];
        for name in if server_names.is_empty() { &any } else { &server_names[..] } {
            // A route that takes all of a name leaves nothing for those after it.
            if taken.contains(name) {
                let shown = if name.is_empty() { "every name".to_owned() } else { quoted(name) };
                let message = format!("an earlier route takes {shown} already: this one gets nothing");
                context.error(route.span("server-name"), message);
            } else if alpn.is_empty() {
                taken.insert(name.clone());
            }
        }
        routes.push(TcpRoute { server_names, alpn, servers });
    }
    routes
}

/// A name, or `*.` and a name.
fn server_name(text: &str) -> Result<(), String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    if names::is_host_name(name) && name.parse::<IpAddr>().is_err() {
        return Ok(());
    }
    let hint = match text {
        "*" => ": a route without `server-name` takes every name",
        _ if !text.is_ascii() => ": write it in its ASCII form (xn--…)",
        _ => "",
    };
    Err(format!("expected a name such as db.example.org or *.example.org, found {}{hint}", quoted(text)))
}

/// The name of a protocol (RFC 7301 §3.1: 1 to 255 bytes).
fn protocol(text: &str) -> Result<(), String> {
    if (1..=255).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_graphic()) {
        return Ok(());
    }
    Err(format!("expected the name of a protocol such as h2 or http/1.1, found {}", quoted(text)))
}

fn networks(fields: &Fields<'_>, key: &str) -> Vec<Cidr> {
    let context = fields.context;
    let items = fields.get(key).map_or(&[][..], |node| context.one_or_more(node));
    let check = |text: &str| text.parse::<Cidr>().map(drop).map_err(|cause| cause.to_string());
    items.iter().filter_map(|item| context.checked(item, check)?.parse().ok()).collect()
}

fn rate_limit(context: Context<'_>, node: &Node, facts: &mut Facts) -> Option<RateLimit> {
    let fields = Fields::open(context, node, &keys::TCP_RATE_LIMIT)?;
    let limit = limits::rate_limit(&fields, facts)?;
    by_address(&fields, &limit.by).then_some(limit)
}

fn connection_limit(context: Context<'_>, node: &Node, facts: &mut Facts) -> Option<ConnectionLimit> {
    let fields = Fields::open(context, node, &keys::TCP_CONNECTION_LIMIT)?;
    let limit = limits::connection_limit(&fields, facts)?;
    by_address(&fields, &limit.by).then_some(limit)
}

/// Of a connection that nobody reads there is nothing else to count by.
fn by_address(fields: &Fields<'_>, by: &RequestKey) -> bool {
    let known = matches!(by, RequestKey::RemoteAddr | RequestKey::All);
    if !known {
        fields.context.error(fields.span("by"), "connections are counted by `remote-addr` or `all`");
    }
    known
}

/// Who the servers are, and how they are reached. `None` without a good one.
fn servers(fields: &Fields<'_>) -> Option<HttpProxy> {
    let defaults = HttpProxy::default();
    let backends = backends(fields);
    let time = |key: &str, bounds, default| fields.duration(key, bounds).unwrap_or(default);
    let strategy = fields.choice("strategy", &STRATEGIES).unwrap_or(Strategy::LeastConnection);
    let hash_by = fields.choice("hash-by", &[("remote-addr", ())]).map(|()| RequestKey::RemoteAddr);
    if let (Some(node), Some(_)) = (fields.get("hash-by"), fields.get("strategy")) {
        let message = "`hash-by` chooses the server, and so does `strategy`: leave one of them out";
        fields.context.error(node.span, message);
    }
    let servers = HttpProxy {
        tls: backend_tls::decode(fields, &backends).map(Box::new),
        health_check: fields
            .get("health-check")
            .and_then(|node| dispatch::health_check::decode_of_tcp(fields.context, node, &backends)),
        proxy_protocol: fields.choice("send-proxy-protocol", &VERSIONS),
        strategy,
        hash_by,
        warmup_time: time("warmup-time", WAIT, defaults.warmup_time),
        connect_timeout: time("connect-timeout", TIMEOUT, defaults.connect_timeout),
        socket_timeout: time("idle-timeout", TIMEOUT, IDLE),
        recover_time: time("recover-time", TIMEOUT, defaults.recover_time),
        connection_max: fields.integer("connection-max", 1..=1_000_000).unwrap_or(defaults.connection_max),
        queue_timeout: time("queue-timeout", WAIT, defaults.queue_timeout),
        backends,
        ..defaults
    };
    (!servers.backends.is_empty()).then_some(servers)
}

fn backends(fields: &Fields<'_>) -> Vec<Backend> {
    let context = fields.context;
    let Some(list) = fields.get("backends") else { return Vec::new() };
    let items = context.items(list);
    if items.is_empty() {
        context.error(
            list.span,
            "`backends` is empty: list at least one server, such as {address: '10.1.0.5:5432'}",
        );
    } else if let Some(beyond) = items.get(BACKENDS_MAX) {
        context.error(
            beyond.span,
            format!("there are at most {BACKENDS_MAX} backends, here are {}", items.len()),
        );
    }
    let (mut seen, mut backends) = (HashSet::new(), Vec::new());
    for item in items.iter().take(BACKENDS_MAX) {
        let Some(backend) = backend(context, item) else { continue };
        if seen.insert(backend.name()) {
            backends.push(backend);
        } else {
            context.error(item.span, format!("the backend {} stands twice here", backend.name()));
        }
    }
    if !backends.is_empty() && backends.iter().all(|it| it.backup) {
        let message = "every backend is a `backup`: of whom? Leave the key out on those that come first";
        context.error(list.span, message);
    }
    backends
}

fn backend(context: Context<'_>, node: &Node) -> Option<Backend> {
    let fields = Fields::open(context, node, &keys::TCP_BACKEND)?;
    let hint = "give it as host:port, with TLS as tls://host:port, or as unix:PATH of a socket";
    let place = fields.required("address", hint).and_then(|node| place(context, node));
    let weight = fields.integer("weight", 1..=10_000).unwrap_or(DEFAULTS.weight);
    let backup = fields.boolean("backup").unwrap_or(false);
    let (tls, at) = place?;
    Some(Backend { at, protocol: BackendProtocol::Tcp, tls, weight, backup })
}

/// Whether a backend is reached with TLS, and where it is.
fn place(context: Context<'_>, node: &Node) -> Option<(bool, BackendAddress)> {
    let text = context
        .checked(node, |text| if text.starts_with("unix:") { Ok(()) } else { parse(text).map(drop) })?;
    if text.starts_with("unix:") {
        return dispatch::backend_address(context, node).map(|it| (false, it.at));
    }
    let (tls, host, port) = parse(&text).ok()?;
    Some((tls, BackendAddress::Host { host, port }))
}

/// `host:port`, `tcp://host:port` or `tls://host:port`: whether with TLS, the host and the port.
fn parse(text: &str) -> Result<(bool, String, u16), String> {
    let (tls, rest) = match text.split_once("://") {
        None => (false, text),
        Some(("tcp", rest)) => (false, rest),
        Some(("tls", rest)) => (true, rest),
        Some(_) => {
            return Err(format!(
                "expected host:port, with TLS tls://host:port, or unix:PATH of a socket, found {}",
                quoted(text)
            ));
        }
    };
    let (host, port) = dispatch::authority(rest)?;
    let Some(port) = port else {
        return Err(format!("expected host:port, found {}: a `tcp-proxy` knows no usual port", quoted(text)));
    };
    if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
        return Err(format!("{} means every interface: give the address of one server", quoted(text)));
    }
    if tls {
        backend_tls::server_name(&host)?;
    }
    Ok((tls, host, port))
}
