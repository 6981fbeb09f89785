//! `upstream`, and what `proxy_pass` points to.

use super::{directive::Directive, reasons};
use crate::{
    left::Remarks,
    output::Entries,
    value::{host_port, nginx_duration},
    yaml::Yaml,
};
use std::collections::BTreeMap;

/// The backends of a name.
#[derive(Debug, Clone, Default)]
pub(super) struct Upstream {
    /// Addresses without a scheme, and weights.
    backends: Vec<(String, u64)>,
    strategy: &'static str,
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
    pub(super) fn named(&self, name: &str) -> Option<Upstream> {
        if let Some(known) = self.0.get(name) {
            return Some(known.clone());
        }
        let (host, port) = host_port(name, 80)?;
        let backends = vec![(address(&host?, port), 1)];
        Some(Upstream { backends, strategy: "round-robin", ..Upstream::default() })
    }
}

fn address(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl Upstream {
    fn read(directive: &Directive, remarks: &mut Remarks) -> Self {
        let mut upstream = Self { strategy: "round-robin", ..Self::default() };
        for inner in directive.inside() {
            let mut leave = |why: &str| {
                let comment = remarks.leave(&inner.place, &inner.name, why);
                upstream.remarks.push(comment);
            };
            match inner.name.as_str() {
                "server" => upstream.server(inner, remarks),
                "least_conn" => upstream.strategy = "least-connection",
                "ip_hash" | "hash" | "sticky" => {
                    leave(
                        "a client is held by a cookie, not by a hash: use `insert-cookie` or `session-cookie`; they take turns here",
                    );
                }
                "random" | "least_time" => upstream.strategy = "adaptive",
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
        let mut weight = 1;
        for word in server.arguments.iter().skip(1) {
            match word.split_once('=').unwrap_or((word, "")) {
                ("weight", value) => weight = value.parse().unwrap_or(1).clamp(1, 10_000),
                ("down", _) => return,
                ("backup", _) => {
                    return leave(
                        "backup",
                        "there are no servers that only stand in: it is left out; give it a small `weight` if it may take part",
                    );
                }
                ("fail_timeout", value) => self.recover_time = nginx_duration(value),
                ("max_fails" | "resolve", _) => {}
                ("max_conns", _) => leave("max_conns", "write `connection-max` for all of the backends"),
                (other, _) => leave(other, "there is nothing like it"),
            }
        }
        let text = server.argument(0);
        match host_port(text, 80).filter(|_| !text.starts_with("unix:")) {
            Some((Some(host), port)) => {
                let address = address(&host, port);
                // One that stands twice has both shares.
                match self.backends.iter_mut().find(|(known, _)| *known == address) {
                    Some((_, known)) => *known = (*known + weight).min(10_000),
                    None => self.backends.push((address, weight)),
                }
            }
            _ => leave(text, "backends are reached over TCP: let it listen on an address of loopback"),
        }
    }

    /// The keys of a rule `http-proxy` to these backends. `None`: there is none.
    pub(super) fn keys(&self, scheme: &str) -> Option<Entries> {
        let most = self.backends.iter().map(|(_, weight)| *weight).max()?;
        let factor = (10_000 / most).clamp(1, 100);
        let backends = self.backends.iter().map(|(address, weight)| {
            let mut entries = vec![("address", Yaml::text(format!("{scheme}://{address}")))];
            if weight * factor != 100 {
                entries.push(("weight", Yaml::plain((weight * factor).min(10_000))));
            }
            Yaml::Map(entries)
        });
        let mut entries = vec![("backends", Yaml::List(backends.collect()))];
        if self.backends.len() > 1 {
            entries.push(("strategy", Yaml::text(self.strategy)));
        }
        entries.extend(self.recover_time.as_ref().map(|it| ("recover-time", Yaml::plain(it))));
        Some(entries)
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
