//! Public listeners: address, port, TLS, PROXY protocol, and whose word on clients' addresses is believed.

use super::{
    decode::{Context, Fields},
    defaults::DEFAULTS,
    endpoint::{address, shifted},
    file_path::CertificateFiles,
    keys,
    model::{ClientAuth, Http3, HttpListener, ListenerTls, MetricsListener, Server, TlsVersion},
    node::{Node, Value},
    source::Span,
    tls_choices,
};
use crate::cidr::Cidr;
use std::time::Duration;

/// More than any client remembers.
const ALT_SVC_AGE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

const AUTHENTICATIONS: [(&str, ClientAuth); 3] =
    [("none", ClientAuth::None), ("optional", ClientAuth::Optional), ("required", ClientAuth::Required)];

/// The words of `min-version`.
pub(super) const VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];

/// `http` of a server, each with the place of its port.
pub(super) fn http(fields: &Fields<'_>, port_offset: u16) -> Vec<(HttpListener, Span)> {
    let mut listeners = Vec::new();
    for item in fields.items("http") {
        let Some(http) = Fields::open(fields.context, item, &keys::HTTP) else { continue };
        let given = http.get("address").map(|node| address(http.context, node, true));
        let tls = http.get("tls").and_then(|node| tls(http.context, node));
        let proxy_protocol = http.boolean("proxy-protocol").unwrap_or(false);
        let h2c = http.boolean("h2c").unwrap_or(false);
        let http3 = http3(&http, proxy_protocol);
        let Some(node) = http.required("port", "give the port to listen on") else { continue };
        let port = http.context.integer(node, 1..=65_535);
        let Some(port) = port.and_then(|port| shifted(http.context, port, port_offset, node.span)) else {
            continue;
        };
        let address = given.flatten().unwrap_or_else(|| DEFAULTS.http_address.to_owned());
        let http3 = http3.map(|it| it(port));
        listeners.push((HttpListener { address, port, tls, proxy_protocol, h2c, http3 }, node.span));
    }
    listeners
}

/// `http3` of a listener and what goes with it, once its port is known.
fn http3(http: &Fields<'_>, proxy_protocol: bool) -> Option<impl FnOnce(u16) -> Http3 + use<>> {
    let wanted = http.boolean("http3").unwrap_or(false);
    let alt_svc_port = http.integer("alt-svc-port", 1..=65_535);
    let alt_svc_age = http.duration("alt-svc-age", Duration::ZERO..=ALT_SVC_AGE_MAX);
    if !wanted {
        for key in ["alt-svc-port", "alt-svc-age"].into_iter().filter(|key| http.get(key).is_some()) {
            let message =
                format!("`{key}` does nothing: it tells clients of HTTP/3, and `http3` is not `true`");
            http.context.report.warning(http.span(key), message);
        }
        return None;
    }
    if http.get("tls").is_none() && !http.context.in_default {
        http.context.error(http.span("http3"), "HTTP/3 is never without TLS: give the listener `tls`");
    }
    if proxy_protocol {
        let message =
            "HTTP/3 comes over UDP, which has no PROXY header: take `http3` or `proxy-protocol` away";
        http.context.error(http.span("http3"), message);
    }
    let alt_svc_age = alt_svc_age.unwrap_or(DEFAULTS.alt_svc_age);
    Some(move |port| Http3 { alt_svc_port: alt_svc_port.unwrap_or(port), alt_svc_age })
}

/// `metrics` of a server, with the place of its port.
pub(super) fn metrics(fields: &Fields<'_>, port_offset: u16) -> Option<(MetricsListener, Span)> {
    let metrics = Fields::open(fields.context, fields.get("metrics")?, &keys::METRICS)?;
    let given = metrics.get("address").map(|node| address(metrics.context, node, true));
    let node = metrics.required("port", "give the port to listen on")?;
    let port = shifted(metrics.context, metrics.context.integer(node, 1..=65_535)?, port_offset, node.span)?;
    let address = given.flatten().unwrap_or_else(|| DEFAULTS.metrics_address.to_owned());
    Some((MetricsListener { address, port }, node.span))
}

/// `tls`. What the files hold is not looked at: they are on the servers that listen.
fn tls(context: Context<'_>, node: &Node) -> Option<ListenerTls> {
    let fields = Fields::open(context, node, &keys::TLS)?;
    let acme = fields.boolean("acme").unwrap_or(false);
    let certs = if acme {
        fields.get("certs")
    } else {
        fields.required("certs", "list certificates as {cert: file, key: file}, or write `acme: true`")
    };
    if let Some(list) = certs
        && (matches!(&list.value, Value::List(items) if items.is_empty()) || list.is_null())
    {
        context.error(list.span, "`certs` is empty: list at least one {cert: file, key: file}");
    }
    let certificates = fields.items("certs").iter().filter_map(|item| certificate(context, item)).collect();
    let client_ca = fields.get("client-ca").and_then(|node| context.file_path(node));
    let given = fields.choice("client-auth", &AUTHENTICATIONS);
    let has_ca = fields.get("client-ca").is_some();
    match given {
        Some(ClientAuth::Optional | ClientAuth::Required) if !has_ca && !context.in_default => {
            let message = "client certificates need a `client-ca`: name the file of those who sign them";
            context.error(fields.span("client-auth"), message);
        }
        Some(ClientAuth::None) if has_ca => {
            let message = "`client-ca` does nothing: `client-auth` is `none`";
            context.report.warning(fields.span("client-ca"), message);
        }
        _ => {}
    }
    let min_version = fields.choice("min-version", &VERSIONS).unwrap_or(TlsVersion::Tls12);
    let default = if has_ca { ClientAuth::Required } else { ClientAuth::None };
    Some(ListenerTls {
        certificates,
        acme,
        client_ca,
        client_auth: given.unwrap_or(default),
        min_version,
        ocsp_stapling: fields.boolean("ocsp-stapling").unwrap_or(true),
        choices: tls_choices::decode(&fields, min_version),
    })
}

fn certificate(context: Context<'_>, node: &Node) -> Option<CertificateFiles> {
    let fields = Fields::open(context, node, &keys::CERTIFICATE)?;
    let cert = fields.required("cert", "name the file of the certificate and its chain (PEM)");
    let key = fields.required("key", "name the file of its private key (PEM)");
    // Both, so that faults of both are told.
    let (cert, key) =
        (cert.and_then(|node| context.file_path(node)), key.and_then(|node| context.file_path(node)));
    Some(CertificateFiles { cert: cert?, key: key? })
}

/// `trusted-proxies` of a cluster.
pub(super) fn trusted_proxies(fields: &Fields<'_>) -> Vec<Cidr> {
    let context = fields.context;
    let mut networks = Vec::new();
    for item in fields.items("trusted-proxies") {
        let check = |text: &str| text.parse::<Cidr>().map(|_| ()).map_err(|cause| cause.to_string());
        let Some(network) = context.checked(item, check).and_then(|text| text.parse::<Cidr>().ok()) else {
            continue;
        };
        if network.is_everyone() {
            let message =
                format!("`{network}` is everyone: any client can then claim any address in X-Forwarded-For");
            context.report.warning(item.span, message);
        }
        networks.push(network);
    }
    networks
}

/// A PROXY header is taken from trusted proxies alone: without any, such a listener refuses everyone.
pub(super) fn check_proxy_protocol(fields: &Fields<'_>, servers: &[Server]) {
    let trusts = fields.get("trusted-proxies").is_some_and(|node| !node.is_empty());
    let mut servers = servers.iter();
    let server = servers.find(|server| {
        server.http.iter().any(|it| it.proxy_protocol) || server.tcp.iter().any(|it| it.proxy_protocol)
    });
    if let (Some(server), false, false) = (server, trusts, fields.context.in_default) {
        let message = format!(
            "the server `{}` listens with `proxy-protocol`, and the cluster has no `trusted-proxies`: every connection \
             would be refused; list the addresses of the balancers before it",
            server.id
        );
        fields.context.error(fields.span("id"), message);
    }
}
