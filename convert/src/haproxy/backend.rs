//! `backend`: servers, how one is chosen, checks, cookies.

use super::{
    parse::{Line as Words, Section},
    reasons,
};
use crate::{
    left::Remarks,
    output::Entries,
    value::{haproxy_duration, host_port},
    yaml::Yaml,
};

/// The keys of a rule to a backend, and what is left of it as comments.
///
/// # Errors
/// Why there can be none: the comment for it.
pub(super) fn keys(
    section: &Section,
    comments: &mut Vec<String>,
    remarks: &mut Remarks,
) -> Result<Entries, String> {
    let lines = section.lines_of(&["server"]);
    let mut servers: Vec<Server> = Vec::new();
    let mut tls = None;
    for line in &lines {
        let defaults = section.line_of(&["default-server"]);
        let new = server(line, defaults, comments, remarks);
        // One that stands twice has both shares.
        match new.as_ref().and_then(|new| servers.iter_mut().find(|it| it.address == new.address)) {
            Some(known) => known.weight += new.map_or(0, |it| it.weight),
            None => servers.extend(new),
        }
        let says = |it: &Words| it.says("ssl") || it.says("alpn");
        if says(line) || defaults.is_some_and(says) {
            tls = tls.or(Some(line));
        }
    }
    if let Some(line) = tls {
        return Err(remarks.leave(&line.place, "server ssl", reasons::BACKEND_TLS));
    }
    let Some(most) = servers.iter().map(|it| it.weight).max() else {
        return Err(remarks.leave(
            &section.place,
            &format!("backend {}", section.name),
            "none of its servers could be translated",
        ));
    };
    let factor = (10_000 / most.max(1)).clamp(1, 100);
    let backends = servers.iter().map(|it| {
        let scheme = if it.h2c { "h2c" } else { "http" };
        let mut entries = vec![("address", Yaml::text(format!("{scheme}://{}", it.address)))];
        if it.weight * factor != 100 {
            entries.push(("weight", Yaml::plain((it.weight * factor).min(10_000))));
        }
        Yaml::Map(entries)
    });
    let mut keys = vec![("backends", Yaml::List(backends.collect()))];
    if servers.len() > 1 {
        keys.push(("strategy", Yaml::text(strategy(section, comments, remarks))));
    }
    sticky(section, &mut keys, comments, remarks);
    check(section, &lines, &mut keys, comments, remarks);
    let time = |name: &str| section.line_of(&["timeout", name]).and_then(|it| haproxy_duration(it.word(2)));
    for (theirs, ours) in
        [("connect", "connect-timeout"), ("server", "socket-timeout"), ("queue", "queue-timeout")]
    {
        keys.extend(time(theirs).map(|it| (ours, Yaml::plain(it))));
    }
    let most = servers.iter().filter_map(|it| it.connections).max();
    keys.extend(most.map(|it| ("connection-max", Yaml::plain(it))));
    Ok(keys)
}

struct Server {
    address: String,
    weight: u64,
    connections: Option<u64>,
    h2c: bool,
}

/// Words of a server that say nothing more here, with and without a value.
const WITH_VALUE: [&str; 9] =
    ["inter", "rise", "fall", "fastinter", "downinter", "cookie", "id", "port", "verify"];
const ALONE: [&str; 6] = ["check", "ssl", "enabled", "no-check", "check-ssl", "alpn"];

fn server(
    line: &Words,
    defaults: Option<&Words>,
    comments: &mut Vec<String>,
    remarks: &mut Remarks,
) -> Option<Server> {
    let mut leave =
        |what: &str, why: &str| comments.push(remarks.leave(&line.place, &format!("server {what}"), why));
    let text = line.word(2);
    let Some((Some(host), port)) =
        host_port(text, 80).filter(|_| !text.contains('@') && !text.starts_with("unix"))
    else {
        leave(text, "backends are reached over TCP, at an address and a port");
        return None;
    };
    let host = host.to_ascii_lowercase();
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let mut server = Server { address, weight: 1, connections: None, h2c: false };
    let of_defaults = defaults.map(|it| &it.words[1..]).unwrap_or_default();
    let mut words = of_defaults.iter().chain(line.words.iter().skip(3)).map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "weight" => server.weight = words.next().and_then(|it| it.parse().ok()).unwrap_or(1).min(256),
            "maxconn" => {
                server.connections =
                    words.next().and_then(|it| it.parse().ok()).filter(|it| (1..=1_000_000).contains(it));
            }
            "proto" => server.h2c = words.next() == Some("h2"),
            "disabled" => return None,
            "backup" => {
                leave(
                    "backup",
                    "there are no servers that only stand in: it is left out; give it a small `weight` if it may take part",
                );
                return None;
            }
            word if WITH_VALUE.contains(&word) => _ = words.next(),
            word if ALONE.contains(&word) => {}
            "ca-file" | "sni" | "crt" | "slowstart" | "observe" | "on-error" | "error-limit"
            | "on-marked-down" | "maxqueue" | "minconn" | "resolvers" | "init-addr" | "source" => {
                leave(
                    word,
                    "there is nothing like it: failures are noticed by requests, and names are looked up again by themselves",
                );
                _ = words.next();
            }
            "send-proxy" | "send-proxy-v2" => leave(word, "backends are told by `X-Forwarded-For` who asks"),
            other => leave(other, "there is nothing like it"),
        }
    }
    (server.weight > 0).then_some(server)
}

fn strategy(section: &Section, comments: &mut Vec<String>, remarks: &mut Remarks) -> &'static str {
    let Some(line) = section.line_of(&["balance"]) else { return "round-robin" };
    match line.word(1) {
        "roundrobin" | "static-rr" => "round-robin",
        "leastconn" => "least-connection",
        "random" => "adaptive",
        other => {
            let why = "a client is held by a cookie, not by a hash: use `insert-cookie` or `session-cookie`; they take turns here";
            comments.push(remarks.leave(&line.place, &format!("balance {other}"), why));
            "round-robin"
        }
    }
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

/// A number from a server's line, or its defaults.
fn number<'a>(section: &'a Section, servers: &[&'a Words], word: &str) -> Option<&'a str> {
    let of_defaults = section.line_of(&["default-server"]).and_then(|it| it.after(word));
    servers.iter().find_map(|it| it.after(word)).or(of_defaults)
}

fn check(
    section: &Section,
    servers: &[&Words],
    keys: &mut Entries,
    comments: &mut Vec<String>,
    remarks: &mut Remarks,
) {
    let checked = servers.iter().find(|it| it.says("check"));
    let all = section.line_of(&["default-server"]).filter(|it| it.says("check"));
    let Some(line) = checked.copied().or(all) else { return };
    let Some(option) = section.line_of(&["option", "httpchk"]) else {
        let why = "a check asks a path, it does not only connect: write `health-check` with one";
        return comments.push(remarks.leave(&line.place, "server check", why));
    };
    let sent = section.line_of(&["http-check", "send"]).and_then(|it| it.after("uri"));
    let path = sent
        .or_else(|| option.words[2..].iter().map(String::as_str).find(|it| it.starts_with('/')))
        .unwrap_or("/");
    let mut entries = vec![("path", Yaml::text(path))];
    let interval =
        number(section, servers, "inter").and_then(haproxy_duration).unwrap_or_else(|| "2s".to_owned());
    let short = interval.strip_suffix("ms").and_then(|it| it.parse::<u64>().ok()).is_some_and(|it| it < 100);
    let interval = if short { "100ms".to_owned() } else { interval };
    entries.push(("interval", Yaml::plain(interval)));
    for word in ["rise", "fall"] {
        let found = number(section, servers, word)
            .and_then(|it| it.parse::<u64>().ok())
            .filter(|it| (1..=1000).contains(it));
        entries.extend(found.map(|it| (if word == "rise" { "rise" } else { "fall" }, Yaml::plain(it))));
    }
    keys.push(("health-check", Yaml::Map(entries)));
    if let Some(expect) = section.line_of(&["http-check", "expect"]) {
        let why = "an answer with 2xx or 3xx is good, whatever is expected here";
        comments.push(remarks.leave(&expect.place, "http-check expect", why));
    }
    let method = option.words.get(2).filter(|it| !it.starts_with('/')).map(String::as_str);
    if method.is_some_and(|it| it != "GET") {
        comments.push(remarks.leave(&option.place, "option httpchk", "the path is asked for with GET"));
    }
}
