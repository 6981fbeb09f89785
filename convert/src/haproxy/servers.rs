//! `server`: where the servers of a backend are, and how they are spoken to.

use super::parse::{Line as Words, Section};
use crate::{
    backends::{Backend, Backends, CONNECTIONS_MAX, NO_BACKEND, SOCKET_TLS, TOO_MANY},
    left::Remarks,
    value::host_port,
};

/// The servers of a backend.
#[derive(Debug)]
pub(super) struct Servers<'a> {
    pub(super) lines: Vec<&'a Words>,
    pub(super) backends: Backends,
    /// Of the one that may have the most.
    pub(super) connections: Option<u64>,
    /// The first with TLS.
    pub(super) tls: Option<&'a Words>,
    pub(super) scheme: &'static str,
    /// Which PROXY header each of them hears.
    headers: Vec<(&'a Words, Option<&'static str>)>,
}

/// Words of a server that say nothing more here, with and without a value.
const WITH_VALUE: [&str; 18] = [
    "inter",
    "rise",
    "fall",
    "fastinter",
    "downinter",
    "cookie",
    "id",
    "port",
    "verify",
    "ca-file",
    "sni",
    "verifyhost",
    "alpn",
    "check-alpn",
    "check-proto",
    "check-sni",
    "pool-max-conn",
    "pool-purge-delay",
];
const ALONE: [&str; 5] = ["check", "enabled", "no-check", "check-ssl", "check-send-proxy"];

impl<'a> Servers<'a> {
    pub(super) fn of(
        section: &'a Section,
        is_http: bool,
        comments: &mut Vec<String>,
        remarks: &mut Remarks,
    ) -> Self {
        let lines = section.lines_of(&["server"]);
        let defaults = section.line_of(&["default-server"]);
        let mut servers = Self {
            lines: Vec::new(),
            backends: Backends::default(),
            connections: None,
            tls: None,
            scheme: if is_http { "http" } else { "" },
            headers: Vec::new(),
        };
        for line in lines {
            let Some(new) = server(line, defaults, is_http, comments, remarks) else { continue };
            if !servers.backends.add(new.backend) {
                comments.push(remarks.leave(&line.place, "server", TOO_MANY));
                break;
            }
            servers.lines.push(line);
            servers.connections = servers.connections.max(new.connections);
            servers.scheme = new.scheme;
            if matches!(new.scheme, "https" | "h2" | "tls") {
                servers.tls = servers.tls.or(Some(line));
            }
            servers.headers.push((line, new.header));
        }
        if servers.tls.is_some() && servers.backends.has_sockets() {
            // One scheme is that of all, and of sockets there is none with TLS.
            servers.backends = Backends::default();
        }
        servers
    }

    /// The version of the PROXY header that all of them hear.
    pub(super) fn proxy_header(
        &self,
        comments: &mut Vec<String>,
        remarks: &mut Remarks,
    ) -> Option<&'static str> {
        let (line, version) = self.headers.iter().find_map(|(line, it)| Some((line, (*it)?)))?;
        let why = if self.scheme.starts_with("h2") {
            "many clients share a connection in HTTP/2: backends learn of them by `X-Forwarded-For`"
        } else if self.headers.iter().any(|(_, it)| *it != Some(version)) {
            "all backends of a rule hear a PROXY header of one version, or none: none here. Write a rule of their own for those that do"
        } else {
            return Some(version);
        };
        comments.push(remarks.leave(&line.place, "server send-proxy", why));
        None
    }
}

struct Server {
    backend: Backend,
    connections: Option<u64>,
    scheme: &'static str,
    header: Option<&'static str>,
}

fn server(
    line: &Words,
    defaults: Option<&Words>,
    is_http: bool,
    comments: &mut Vec<String>,
    remarks: &mut Remarks,
) -> Option<Server> {
    let mut leave =
        |what: &str, why: &str| comments.push(remarks.leave(&line.place, &format!("server {what}"), why));
    let text = line.word(2);
    let Some(mut backend) = backend(text, is_http) else {
        leave(text, NO_BACKEND);
        return None;
    };
    let (mut connections, mut tls, mut h2, mut header) = (None, false, false, None);
    let of_defaults = defaults.map(|it| &it.words[1..]).unwrap_or_default();
    let mut words = of_defaults.iter().chain(line.words.iter().skip(3)).map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "weight" => backend.weight = words.next().and_then(|it| it.parse().ok()).unwrap_or(1).min(256),
            "maxconn" => {
                connections = words
                    .next()
                    .and_then(|it| it.parse().ok())
                    .filter(|it| (1..=CONNECTIONS_MAX).contains(it));
            }
            "proto" => h2 = words.next() == Some("h2"),
            "ssl" => tls = true,
            "backup" => backend.backup = true,
            "disabled" => return None,
            "send-proxy" => header = Some("v1"),
            "send-proxy-v2" => header = Some("v2"),
            "send-proxy-v2-ssl" | "send-proxy-v2-ssl-cn" => {
                header = Some("v2");
                leave(word, "the header of version 2 says nothing of TLS and certificates");
            }
            "no-send-proxy" | "no-send-proxy-v2" => header = None,
            word if WITH_VALUE.contains(&word) => _ = words.next(),
            word if ALONE.contains(&word) => {}
            word => {
                let (why, has_value) = other(word, is_http);
                leave(word, why);
                if has_value {
                    words.next();
                }
            }
        }
    }
    let scheme = match (tls, h2 && is_http) {
        (false, false) if is_http => "http",
        (false, false) => "",
        (false, true) => "h2c",
        (true, false) if is_http => "https",
        (true, false) => "tls",
        (true, true) => "h2",
    };
    if tls && backend.is_socket() {
        leave("ssl", SOCKET_TLS);
        return None;
    }
    (backend.weight > 0).then_some(Server { backend, connections, scheme, header })
}

/// Where a server is.
fn backend(text: &str, is_http: bool) -> Option<Backend> {
    let path = text.strip_prefix("unix@").unwrap_or(text);
    if path.starts_with('/') {
        return Backend::socket(path);
    }
    let text = ["ipv4@", "ipv6@"].into_iter().find_map(|it| text.strip_prefix(it)).unwrap_or(text);
    // In TCP it is the port that a client has connected to, which may be any of several.
    let (host, port) = host_port(text, if is_http { 80 } else { 0 })?;
    Backend::at(&host?, port)
}

/// Why a word is left, and whether a value stands behind it.
fn other(word: &str, is_http: bool) -> (&'static str, bool) {
    match word {
        "observe" | "on-error" | "error-limit" if is_http => {
            ("write `outlier-detection`: servers that fail more than others rest", true)
        }
        "observe" | "on-error" | "error-limit" => (
            "a backend that can't be connected to, or breaks before anything has passed, is left alone by itself: `recover-time` says how long at most",
            true,
        ),
        "resolvers" if is_http => {
            ("names are looked up again by themselves; `resolver` names other name servers", true)
        }
        "resolvers" => ("names are looked up again by themselves, by the system's resolver", true),
        "crt" => ("write `cert` and `key` under `tls`", true),
        "slowstart" => ("write `warmup-time`", true),
        "addr" => ("a check asks the backend itself, at another `port` if need be", true),
        "agent-port" | "agent-inter" | "agent-addr" | "agent-send" => ("there are no agents", true),
        "agent-check" => ("there are no agents: write `health-check`", false),
        "on-marked-down" | "on-marked-up" if !is_http => {
            ("connections that are open stay so, whatever a check finds: `idle-timeout` ends them", true)
        }
        "on-marked-down" | "on-marked-up" | "maxqueue" | "minconn" | "init-addr" | "source" | "track"
        | "resolve-prefer" | "resolve-net" | "resolve-opts" => (
            "there is nothing like it: failures are noticed by requests, and names are looked up again by themselves",
            true,
        ),
        _ => ("there is nothing like it", false),
    }
}
