//! `backend`: servers, how one is chosen, checks, cookies.

use super::{
    check,
    parse::{Line as Words, Section},
    servers::Servers,
};
use crate::{
    backends::{Balance, CONNECTIONS_MAX, VERIFIED},
    left::Remarks,
    output::Entries,
    value::{LONGEST, haproxy_duration, host_port, milliseconds},
    yaml::Yaml,
};

/// What a backend's own lines give, beside what is said of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode<'a> {
    Http,
    /// With the `timeout client` of where the clients come in.
    Tcp(Option<&'a str>),
}

/// The keys of a rule to a backend, and what is left of it as comments.
///
/// # Errors
/// Why there can be none: the comment for it.
pub(super) fn keys(
    section: &Section,
    mode: Mode<'_>,
    comments: &mut Vec<String>,
    remarks: &mut Remarks,
) -> Result<Entries, String> {
    let servers = Servers::of(section, mode == Mode::Http, comments, remarks);
    let chosen = balance(section, mode, comments, remarks);
    let Some(mut keys) = servers.backends.keys(servers.scheme, &chosen) else {
        let name = format!("backend {}", section.name);
        return Err(remarks.leave(&section.place, &name, "none of its servers could be translated"));
    };
    if let Some(line) = servers.tls {
        backend_tls(line, section.line_of(&["default-server"]), &mut keys, comments, remarks);
    }
    let key = if mode == Mode::Http { "proxy-protocol" } else { "send-proxy-protocol" };
    keys.extend(servers.proxy_header(comments, remarks).map(|it| (key, Yaml::text(it))));
    if mode == Mode::Http {
        sticky(section, &mut keys, comments, remarks);
    }
    keys.extend(check::key(section, &servers, mode == Mode::Http, comments, remarks));
    let time = |name: &str| section.line_of(&["timeout", name]).and_then(|it| haproxy_duration(it.word(2)));
    keys.extend(time("connect").map(|it| ("connect-timeout", Yaml::plain(it))));
    match mode {
        Mode::Http => keys.extend(time("server").map(|it| ("socket-timeout", Yaml::plain(it)))),
        Mode::Tcp(client) => keys.push(("idle-timeout", Yaml::plain(idle(time, client)))),
    }
    keys.extend(time("queue").map(|it| ("queue-timeout", Yaml::plain(it))));
    // There is none without `maxconn`, and here a usual one, which connections that stay would soon reach.
    let most = servers.connections.or((mode != Mode::Http).then_some(CONNECTIONS_MAX));
    keys.extend(most.map(|it| ("connection-max", Yaml::plain(it))));
    Ok(keys)
}

/// How long nothing may move: with `tunnel` neither of the others counts, else whichever ends first.
fn idle(time: impl Fn(&str) -> Option<String>, client: Option<&str>) -> String {
    let sides = [client.map(str::to_owned), time("server")];
    let shorter = sides.into_iter().flatten().min_by_key(|it| milliseconds(it));
    time("tunnel").or(shorter).unwrap_or_else(|| LONGEST.to_owned())
}

/// `verify`, `ca-file` and the name that a backend's certificate is to bear.
fn backend_tls(
    line: &Words,
    defaults: Option<&Words>,
    keys: &mut Entries,
    comments: &mut Vec<String>,
    remarks: &mut Remarks,
) {
    let said = |word: &str| line.after(word).or_else(|| defaults?.after(word));
    let mut entries: Entries = Vec::new();
    if said("verify") == Some("none") || said("ca-file").is_none() {
        comments.push(remarks.leave(&line.place, "server ssl", VERIFIED));
    } else {
        entries.extend(
            said("ca-file")
                .filter(|it| !it.starts_with('@') && !it.is_empty())
                .map(|it| ("ca", Yaml::text(it))),
        );
    }
    let name = said("verifyhost").or_else(|| said("sni")?.strip_prefix("str(")?.strip_suffix(')'));
    let name = name.filter(|it| host_port(it, 1) == Some((Some((*it).to_owned()), 1)));
    entries.extend(name.map(|it| ("server-name", Yaml::text(it))));
    if !entries.is_empty() {
        keys.push(("tls", Yaml::Map(entries)));
    }
}

fn balance(section: &Section, mode: Mode<'_>, comments: &mut Vec<String>, remarks: &mut Remarks) -> Balance {
    let Some(line) = section.line_of(&["balance"]) else { return Balance::default() };
    let header = line.word(1).strip_prefix("hdr(").and_then(|it| it.strip_suffix(')'));
    let found = match line.word(1) {
        "roundrobin" | "static-rr" => Some(Balance::default()),
        "leastconn" => Some(Balance::Strategy("least-connection")),
        word if word == "random" || word.starts_with("random(") => Some(Balance::Strategy("adaptive")),
        "source" => Some(Balance::by_client()),
        "uri" => Some(Balance::Hash(Yaml::text("path"))),
        _ => header.and_then(|it| Balance::by("header", it)),
    };
    found.filter(|it| mode == Mode::Http || it.is_of_tcp()).unwrap_or_else(|| {
        let why = match mode {
            Mode::Http => {
                "`hash-by` takes the client's address, the path, a header or a cookie: they take turns here"
            }
            Mode::Tcp(_) => "`hash-by` takes the client's address: they take turns here",
        };
        comments.push(remarks.leave(&line.place, &format!("balance {}", line.word(1)), why));
        Balance::default()
    })
}

fn sticky(section: &Section, keys: &mut Entries, comments: &mut Vec<String>, remarks: &mut Remarks) {
    let Some(line) = section.line_of(&["cookie"]) else { return };
    let name = line.word(1);
    let good = !name.is_empty()
        && name.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.'));
    if !good || !line.says("insert") {
        let why = "a cookie is inserted (`insert-cookie`), or the app's own is followed (`session-cookie`)";
        return comments.push(remarks.leave(&line.place, "cookie", why));
    }
    let mut entries = vec![("name", Yaml::text(name))];
    entries.extend(line.after("domain").map(|it| ("domain", Yaml::text(it.trim_start_matches('.')))));
    if line.says("secure") {
        entries.push(("secure", Yaml::plain(true)));
    }
    if line.says("maxidle") || line.says("maxlife") {
        comments.push(remarks.leave(&line.place, "cookie maxidle", "write `max-age` under `insert-cookie`"));
    }
    let value = if entries.len() == 1 { Yaml::text(name) } else { Yaml::Map(entries) };
    keys.push(("insert-cookie", value));
}
