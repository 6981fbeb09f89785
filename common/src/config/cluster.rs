//! A cluster and its servers.

use super::{
    access_log, acme,
    bounds::{TIMEOUT, WAIT},
    caches,
    check::{Facts, Listening},
    compression,
    decode::{Context, Fields},
    defaults::DEFAULTS,
    endpoint::{address, shifted},
    host, keys,
    layers::{Layers, layered, refuse_id},
    listener,
    model::{Cluster, RequestLimits, Server},
    names,
    node::Node,
    outlier_detection, proxy_cache,
    quoted::quoted,
    source::Span,
    tcp_proxy,
    units::format_duration,
};
use crate::id::{ClusterId, ServerId, ServerIndex};
use std::{
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    ops::RangeInclusive,
};

/// The most servers of a cluster: two characters of a session id name the home server.
const SERVERS_MAX: usize = 64 * 64;

impl<'a> Layers<'a> {
    /// Puts a mapping's own defaults above those that are there, once each was checked by itself.
    pub(super) fn add(&mut self, fields: &Fields<'a>, port_offset: u16) {
        let alone = fields.context.alone();
        if let Some(node) = fields.get("server-default") {
            refuse_id(alone, node);
            server(alone, node, port_offset, ServerIndex(0), &mut Facts::default());
            self.server.insert(0, node);
        }
        if let Some(node) = fields.get("host-default") {
            refuse_id(alone, node);
            host::decode(alone, node, &Layers::default(), &mut Facts::default());
            self.host.insert(0, node);
        }
        self.add_web_app(fields);
    }
}

/// Reads a cluster.
pub(super) fn decode(
    context: Context<'_>,
    node: &Node,
    layers: &Layers<'_>,
    port_offset: u16,
    facts: &mut Facts,
) -> Option<Cluster> {
    let fields = Fields::open(context, node, &keys::CLUSTER)?;
    let id_node = fields.required("id", "give the cluster a name");
    let id = id_node.and_then(|node| context.checked(node, names::id)).unwrap_or_default();
    let id_span = fields.span("id");
    facts.cluster(context, &id, id_span);
    let context = if context.in_default { context } else { context.in_cluster(&id) };
    let fields = fields.with(context);
    let mut layers = layers.clone();
    layers.add(&fields, port_offset);

    let servers = servers(&fields, &layers, port_offset, facts);
    let listed = fields.get("servers").is_some_and(|node| !node.is_empty());
    if !listed && !context.in_default {
        context
            .error(id_span, format!("the cluster `{id}` has no servers: list at least one under `servers`"));
    }
    let trusted_proxies = listener::trusted_proxies(&fields);
    listener::check_proxy_protocol(&fields, &servers);
    let acme = acme::decode(&fields);
    acme::check(&fields, acme.as_ref(), &servers);
    let session_cookie =
        fields.get("session-cookie").and_then(|node| context.checked(node, names::cookie_name));
    let mut hosts = Vec::new();
    for item in fields.items("hosts") {
        let merged = layered(item, &layers.host);
        hosts.extend(host::decode(context, &merged, &layers, facts));
    }
    facts.end_cluster(&hosts);
    Some(Cluster {
        id: ClusterId::from(id.as_str()),
        servers,
        session_cookie: session_cookie.unwrap_or_else(|| DEFAULTS.session_cookie.to_owned()),
        workers: workers(&fields).unwrap_or(DEFAULTS.workers),
        access_log: access_log::decode(&fields, DEFAULTS.access_log_format.clone()),
        trusted_proxies,
        acme,
        proxy_cache: proxy_cache::decode(&fields),
        compression: compression::decode(&fields),
        outlier_detection: outlier_detection::decode(&fields),
        caches: caches::decode(&fields),
        hosts,
    })
}

#[expect(clippy::option_option, reason = "no key, `auto`, or a number")]
fn workers(fields: &Fields<'_>) -> Option<Option<NonZeroUsize>> {
    let number = |text: &str| text.parse().ok().filter(|number| (1..=1024).contains(number));
    let text = fields.context.checked(fields.get("workers")?, |text| {
        if text == "auto" || number(text).is_some() {
            return Ok(());
        }
        Err(format!("expected `auto` or a whole number from 1 to 1024, found {}", quoted(text)))
    })?;
    Some(number(&text).and_then(NonZeroUsize::new))
}

fn servers(fields: &Fields<'_>, layers: &Layers<'_>, port_offset: u16, facts: &mut Facts) -> Vec<Server> {
    let items = fields.items("servers");
    if let Some(beyond) = items.get(SERVERS_MAX) {
        let message = format!("a cluster has at most {SERVERS_MAX} servers, this one has {}", items.len());
        fields.context.error(beyond.span, message);
    }
    let mut servers = Vec::new();
    for (index, item) in items.iter().take(SERVERS_MAX).enumerate() {
        let merged = layered(item, &layers.server);
        let index = ServerIndex(u16::try_from(index).unwrap_or(u16::MAX));
        servers.extend(server(fields.context, &merged, port_offset, index, facts));
    }
    servers
}

fn server(
    context: Context<'_>,
    node: &Node,
    port_offset: u16,
    index: ServerIndex,
    facts: &mut Facts,
) -> Option<Server> {
    let fields = Fields::open(context, node, &keys::SERVER)?;
    let id_node = fields.required("id", "give the server a name");
    let id = id_node.and_then(|node| context.checked(node, names::id)).unwrap_or_default();
    let id_span = fields.span("id");
    let context = if context.in_default { context } else { context.in_server(&id) };
    let fields = fields.with(context);
    let (address, address_span) = own_address(&fields);
    let own_port = port(&fields, port_offset);
    let http = listener::http(&fields, port_offset);
    let tcp = tcp_proxy::decode(&fields, port_offset, facts);
    let public = http.iter().map(|(it, span)| (&*it.address, it.port, *span));
    let public = public.chain(tcp.iter().map(|(it, span)| (&*it.address, it.port, *span)));
    let metrics = listener::metrics(&fields, port_offset);
    facts.server(
        context,
        Listening {
            id: &id,
            id_span,
            address: address.as_deref(),
            address_span,
            port: own_port.map(|(port, span)| (port, span.unwrap_or(address_span))),
            http: !http.is_empty(),
            public: public.collect(),
            metrics: metrics.as_ref().map(|(it, span)| (it.address.as_str(), it.port, *span)),
        },
    );
    let time = |key: &str, bounds, default| fields.duration(key, bounds).unwrap_or(default);
    let keepalive_timeout = time("keepalive-timeout", TIMEOUT, DEFAULTS.keepalive_timeout);
    let server = Server {
        id: ServerId::from(id.as_str()),
        index,
        address: address.unwrap_or_default(),
        port: own_port.map_or(DEFAULTS.port, |(port, _)| port),
        http: http.into_iter().map(|(listener, _)| listener).collect(),
        tcp: tcp.into_iter().map(|(listener, _)| listener).collect(),
        connect_timeout: time("load-balance-connect-timeout", TIMEOUT, DEFAULTS.connect_timeout),
        balance_socket_timeout: time("load-balance-socket-timeout", TIMEOUT, DEFAULTS.balance_socket_timeout),
        balance_idle_time: time(
            "load-balance-idle-time",
            TIMEOUT,
            DEFAULTS.balance_idle_time.min(keepalive_timeout / 2),
        ),
        recover_time: time("load-balance-recover-time", TIMEOUT, DEFAULTS.recover_time),
        busy_recover_time: time("load-balance-busy-recover-time", TIMEOUT, DEFAULTS.busy_recover_time),
        warmup_time: time("load-balance-warmup-time", WAIT, DEFAULTS.warmup_time),
        connection_max: fields
            .integer("load-balance-connection-max", 1..=1_000_000)
            .unwrap_or(DEFAULTS.connection_max),
        queue_timeout: time("load-balance-queue-timeout", WAIT, DEFAULTS.queue_timeout),
        weight: fields.integer("load-balance-weight", 1..=10_000).unwrap_or(DEFAULTS.weight),
        keepalive_timeout,
        socket_timeout: time("socket-timeout", TIMEOUT, DEFAULTS.socket_timeout),
        request_header_timeout: time("request-header-timeout", TIMEOUT, DEFAULTS.request_header_timeout),
        request_limits: request_limits(&fields),
        shutdown_wait_max: time("shutdown-wait-max", WAIT, DEFAULTS.shutdown_wait_max),
        metrics: metrics.map(|(listener, _)| listener),
    };
    check_idle_time(&fields, &server);
    Some(server)
}

/// `address`, and its place.
fn own_address(fields: &Fields<'_>) -> (Option<String>, Span) {
    let node = fields.required("address", "give the IP address or host name where the others reach it");
    (node.and_then(|node| address(fields.context, node, false)), fields.span("address"))
}

fn request_limits(fields: &Fields<'_>) -> RequestLimits {
    const HEADER_BYTES: RangeInclusive<u64> = 1024..=1024 * 1024;
    let defaults = DEFAULTS.request_limits;
    let header = fields.get("header-max");
    let header = header.and_then(|node| Fields::open(fields.context, node, &keys::HEADER_MAX));
    let header_bytes = header
        .as_ref()
        .and_then(|header| header.size("bytes", HEADER_BYTES))
        .unwrap_or(defaults.header_bytes);
    let limits = RequestLimits {
        header_count: header
            .as_ref()
            .and_then(|header| header.integer("count", 1..=256))
            .unwrap_or(defaults.header_count),
        header_bytes,
        uri: fields.size("uri-max", 64..=1024 * 1024).unwrap_or(defaults.uri.min(header_bytes)),
        body: fields.size("body-max", 0..=u64::MAX).map_or(defaults.body, NonZeroU64::new),
        rate_min: fields.size("request-rate-min", 0..=1 << 30).map_or(defaults.rate_min, NonZeroU32::new),
        keepalive: fields
            .integer("keepalive-max", 0..=1_000_000_000_000)
            .map_or(defaults.keepalive, NonZeroU64::new),
    };
    if limits.uri > limits.header_bytes && !fields.context.in_default {
        let message = format!(
            "`uri-max` ({}) is above the `bytes` of `header-max` ({}), and a request target is one of its lines",
            limits.uri, limits.header_bytes
        );
        let given = fields.entry("uri-max").or(fields.entry("header-max"));
        fields.context.error(given.map_or(fields.node.span, |entry| entry.value.span), message);
    }
    limits
}

/// A web-tier must let go of an idle socket before its server does, or a request meets a closing connection.
fn check_idle_time(fields: &Fields<'_>, server: &Server) {
    let (idle, keepalive) = (server.balance_idle_time, server.keepalive_timeout);
    if fields.context.in_default || idle < keepalive {
        return;
    }
    let given = fields.entry("load-balance-idle-time").or(fields.entry("keepalive-timeout"));
    let message = format!(
        "`load-balance-idle-time` ({}) must be below `keepalive-timeout` ({}) of the server `{}`",
        format_duration(idle),
        format_duration(keepalive),
        server.id
    );
    fields.context.error(given.map_or(fields.node.span, |entry| entry.value.span), message);
}

/// The cluster port with `port_offset` added, and its place when it is given; `None` after an error.
fn port(fields: &Fields<'_>, port_offset: u16) -> Option<(u16, Option<Span>)> {
    let node = fields.get("port");
    let own = match node {
        Some(node) => fields.context.integer(node, 1..=65_535)?,
        None => DEFAULTS.port.into(),
    };
    let span = node.map(|node| node.span);
    let port = shifted(fields.context, own, port_offset, span.unwrap_or(fields.node.span))?;
    Some((port, span))
}
