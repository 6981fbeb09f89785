//! `upstream`, and what `proxy_pass` points to.

use super::{directive::Directive, reasons};
use crate::{
    backends::{Backend, Backends, Balance, CONNECTIONS_MAX, NO_BACKEND, TOO_MANY},
    left::Remarks,
    output::Entries,
    value::{host_port, nginx_duration},
    yaml::Yaml,
};
use std::collections::BTreeMap;

/// The backends of a name.
#[derive(Debug, Clone, Default)]
pub(super) struct Upstream {
    backends: Backends,
    balance: Balance,
    recover_time: Option<String>,
    /// Of the server that may have the most.
    connections: Option<u64>,
    /// What is left, for the rules that use it.
    pub(super) remarks: Vec<String>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Upstreams(BTreeMap<String, Upstream>);

impl Upstreams {
    /// Reads those of `http`, or of `stream`.
    pub(super) fn read(
        inside: &[Directive],
        is_http: bool,
        remarks: &mut Remarks,
        left: &mut Vec<String>,
    ) -> Self {
        let mut all = BTreeMap::new();
        for directive in inside.iter().filter(|it| it.name == "upstream") {
            let upstream = Upstream::read(directive, is_http, remarks);
            left.extend(upstream.remarks.iter().cloned());
            all.insert(directive.argument(0).to_owned(), upstream);
        }
        Self(all)
    }

    /// How many servers a name stands for.
    pub(super) fn count(&self, name: &str) -> usize {
        self.0.get(name).map_or(1, |it| it.backends.count())
    }

    /// The upstream of a name, or the one server of this address.
    pub(super) fn named(&self, name: &str, default: u16) -> Option<Upstream> {
        if let Some(known) = self.0.get(name) {
            return Some(known.clone());
        }
        let mut upstream = Upstream::default();
        upstream.backends.add(backend(name, default)?);
        Some(upstream)
    }
}

/// A server by its address: a Unix socket, or a host and a port, which is `default` where there is none.
fn backend(text: &str, default: u16) -> Option<Backend> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Backend::socket(path);
    }
    let (host, port) = host_port(text, default)?;
    Backend::at(&host?, port)
}

/// The key of `hash`.
fn hash(text: &str) -> Option<Balance> {
    let name = text.strip_prefix('$')?;
    match name {
        "remote_addr" | "binary_remote_addr" => Some(Balance::by_client()),
        "uri" | "request_uri" => Some(Balance::Hash(Yaml::text("path"))),
        _ => match (name.strip_prefix("http_"), name.strip_prefix("cookie_")) {
            (Some(header), _) => Balance::by("header", &header.replace('_', "-")),
            (_, Some(cookie)) => Balance::by("cookie", cookie),
            _ => None,
        },
    }
}

impl Upstream {
    fn read(directive: &Directive, is_http: bool, remarks: &mut Remarks) -> Self {
        let mut upstream = Self::default();
        for inner in directive.inside() {
            let mut leave = |why: &str| {
                let comment = remarks.leave(&inner.place, &inner.name, why);
                upstream.remarks.push(comment);
            };
            match inner.name.as_str() {
                // In `stream` there is no usual port.
                "server" => upstream.server(inner, if is_http { 80 } else { 0 }, remarks),
                "least_conn" => upstream.balance = Balance::Strategy("least-connection"),
                "random" | "least_time" => upstream.balance = Balance::Strategy("adaptive"),
                "ip_hash" => upstream.balance = Balance::by_client(),
                "hash" => match hash(inner.argument(0)).filter(|it| is_http || it.is_of_tcp()) {
                    Some(found) => upstream.balance = found,
                    None if is_http => leave(
                        "`hash-by` takes one of the client's address, the path, a header or a cookie: they take turns here",
                    ),
                    None => leave("`hash-by` takes the client's address: they take turns here"),
                },
                "sticky" => leave("write `insert-cookie` or `session-cookie`: they take turns here"),
                "keepalive" | "keepalive_timeout" | "keepalive_requests" | "zone" | "keepalive_time" => {}
                name => leave(reasons::why(name).unwrap_or("it has no meaning here")),
            }
        }
        upstream
    }

    fn server(&mut self, server: &Directive, default: u16, remarks: &mut Remarks) {
        let mut leave = |what: &str, why: &str| {
            let comment = remarks.leave(&server.place, format!("server {what}").trim_end(), why);
            self.remarks.push(comment);
        };
        let text = server.argument(0);
        let Some(mut backend) = backend(text, default) else { return leave(text, NO_BACKEND) };
        let mut most = None;
        for word in server.arguments.iter().skip(1) {
            match word.split_once('=').unwrap_or((word, "")) {
                ("weight", value) => backend.weight = value.parse().unwrap_or(1).clamp(1, 10_000),
                ("down", _) => return,
                ("backup", _) => backend.backup = true,
                ("fail_timeout", value) => self.recover_time = nginx_duration(value),
                ("max_fails" | "resolve", _) => {}
                ("max_conns", value) => {
                    most = value.parse().ok().filter(|it| (1..=CONNECTIONS_MAX).contains(it));
                }
                (other, _) => leave(other, "there is nothing like it"),
            }
        }
        if !self.backends.add(backend) {
            return leave("", TOO_MANY);
        }
        if self.backends.count() > 1 && most != self.connections {
            leave("max_conns", "`connection-max` is one for all of the backends: the largest");
        }
        self.connections = self.connections.max(most);
    }

    /// Whether one of the servers is behind a Unix socket.
    pub(super) fn has_sockets(&self) -> bool {
        self.backends.has_sockets()
    }

    /// The keys of a rule `http-proxy` to these backends. `None`: there is none.
    pub(super) fn keys(&self, scheme: &str) -> Option<Entries> {
        let mut keys = self.backends.keys(scheme, &self.balance)?;
        keys.extend(self.connections.map(|it| ("connection-max", Yaml::plain(it))));
        keys.extend(self.recover_time.as_ref().map(|it| ("recover-time", Yaml::plain(it))));
        Some(keys)
    }
}

/// A `proxy_pass` taken apart.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) scheme: &'a str,
    /// A name of an upstream, or host and port.
    pub(super) name: &'a str,
    /// What takes the place of the location's path.
    pub(super) uri: Option<&'a str>,
}

impl<'a> Target<'a> {
    pub(super) fn of(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        // The path of a socket ends with a colon, if something comes behind it.
        if let Some(path) = rest.strip_prefix("unix:") {
            let (name, uri) = match path.split_once(':') {
                Some((path, uri)) => (&rest[.."unix:".len() + path.len()], Some(uri)),
                None => (rest, None),
            };
            return Some(Self { scheme, name, uri: uri.filter(|it| !it.is_empty()) });
        }
        let (name, uri) = rest.find('/').map_or((rest, None), |at| (&rest[..at], Some(&rest[at..])));
        Some(Self { scheme, name, uri })
    }
}
