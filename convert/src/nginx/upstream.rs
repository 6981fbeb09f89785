//! `upstream`, and what `proxy_pass` points to.

use super::{directive::Directive, reasons};
use crate::{
    backends::{Backend, Backends, Balance},
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
    /// What is left, for the rules that use it.
    pub(super) remarks: Vec<String>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Upstreams(BTreeMap<String, Upstream>);

impl Upstreams {
    pub(super) fn read(http: &[Directive], remarks: &mut Remarks, left: &mut Vec<String>) -> Self {
        let mut all = BTreeMap::new();
        for directive in http.iter().filter(|it| it.name == "upstream") {
            let upstream = Upstream::read(directive, remarks);
            left.extend(upstream.remarks.iter().cloned());
            all.insert(directive.argument(0).to_owned(), upstream);
        }
        Self(all)
    }

    /// The upstream of a name, or the one server of this address.
    pub(super) fn named(&self, name: &str, default: u16) -> Option<Upstream> {
        if let Some(known) = self.0.get(name) {
            return Some(known.clone());
        }
        let (host, port) = host_port(name, default)?;
        let mut upstream = Upstream::default();
        upstream.backends.add(Backend::new(&host?, port));
        Some(upstream)
    }
}

/// The key of `hash`.
fn hash(text: &str) -> Option<Balance> {
    let name = text.strip_prefix('$')?;
    match name {
        "remote_addr" | "binary_remote_addr" => Some(Balance::Hash(Yaml::text("remote-addr"))),
        "uri" | "request_uri" => Some(Balance::Hash(Yaml::text("path"))),
        _ => match (name.strip_prefix("http_"), name.strip_prefix("cookie_")) {
            (Some(header), _) => Balance::by("header", &header.replace('_', "-")),
            (_, Some(cookie)) => Balance::by("cookie", cookie),
            _ => None,
        },
    }
}

impl Upstream {
    fn read(directive: &Directive, remarks: &mut Remarks) -> Self {
        let mut upstream = Self::default();
        for inner in directive.inside() {
            let mut leave = |why: &str| {
                let comment = remarks.leave(&inner.place, &inner.name, why);
                upstream.remarks.push(comment);
            };
            match inner.name.as_str() {
                "server" => upstream.server(inner, remarks),
                "least_conn" => upstream.balance = Balance::Strategy("least-connection"),
                "random" | "least_time" => upstream.balance = Balance::Strategy("adaptive"),
                "ip_hash" => upstream.balance = Balance::Hash(Yaml::text("remote-addr")),
                "hash" => match hash(inner.argument(0)) {
                    Some(found) => upstream.balance = found,
                    None => leave(
                        "`hash-by` takes one of the client's address, the path, a header or a cookie: they take turns here",
                    ),
                },
                "sticky" => leave("write `insert-cookie` or `session-cookie`: they take turns here"),
                "keepalive" | "keepalive_timeout" | "keepalive_requests" | "zone" | "keepalive_time" => {}
                name => leave(reasons::why(name).unwrap_or("it has no meaning here")),
            }
        }
        upstream
    }

    fn server(&mut self, server: &Directive, remarks: &mut Remarks) {
        let mut leave = |what: &str, why: &str| {
            let comment = remarks.leave(&server.place, &format!("server {what}"), why);
            self.remarks.push(comment);
        };
        let text = server.argument(0);
        let found = host_port(text, 80).filter(|_| !text.starts_with("unix:"));
        let Some((Some(host), port)) = found else {
            return leave(text, "a Unix socket is written as `address: unix:/path` among the `backends`");
        };
        let mut backend = Backend::new(&host, port);
        for word in server.arguments.iter().skip(1) {
            match word.split_once('=').unwrap_or((word, "")) {
                ("weight", value) => backend.weight = value.parse().unwrap_or(1).clamp(1, 10_000),
                ("down", _) => return,
                ("backup", _) => backend.backup = true,
                ("fail_timeout", value) => self.recover_time = nginx_duration(value),
                ("max_fails" | "resolve", _) => {}
                ("max_conns", _) => leave("max_conns", "write `connection-max` for all of the backends"),
                (other, _) => leave(other, "there is nothing like it"),
            }
        }
        self.backends.add(backend);
    }

    /// The keys of a rule `http-proxy` to these backends. `None`: there is none.
    pub(super) fn keys(&self, scheme: &str) -> Option<Entries> {
        let mut keys = self.backends.keys(scheme, &self.balance)?;
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
        let (name, uri) = rest.find('/').map_or((rest, None), |at| (&rest[..at], Some(&rest[at..])));
        Some(Self { scheme, name, uri })
    }
}
