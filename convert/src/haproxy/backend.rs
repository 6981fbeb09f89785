//! `backend`: servers, how one is chosen, checks, cookies.

use super::parse::{Line as Words, Section};
use crate::{
    backends::{Backend, Backends, Balance, VERIFIED},
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
    let defaults = section.line_of(&["default-server"]);
    let (mut servers, mut most, mut tls, mut scheme) = (Backends::default(), None, None, "http");
    for line in &lines {
        let Some(new) = server(line, defaults, comments, remarks) else { continue };
        servers.add(new.backend);
        most = most.max(new.connections);
        scheme = new.scheme;
        if matches!(scheme, "https" | "h2") {
            tls = tls.or(Some(*line));
        }
    }
    let chosen = balance(section, comments, remarks);
    let Some(mut keys) = servers.keys(scheme, &chosen) else {
        let name = format!("backend {}", section.name);
        return Err(remarks.leave(&section.place, &name, "none of its servers could be translated"));
    };
    if let Some(line) = tls {
        backend_tls(line, defaults, &mut keys, comments, remarks);
    }
    sticky(section, &mut keys, comments, remarks);
    check(section, &lines, &mut keys, comments, remarks);
    let time = |name: &str| section.line_of(&["timeout", name]).and_then(|it| haproxy_duration(it.word(2)));
    for (theirs, ours) in
        [("connect", "connect-timeout"), ("server", "socket-timeout"), ("queue", "queue-timeout")]
    {
        keys.extend(time(theirs).map(|it| (ours, Yaml::plain(it))));
    }
    keys.extend(most.map(|it| ("connection-max", Yaml::plain(it))));
    Ok(keys)
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

struct Server {
    backend: Backend,
    connections: Option<u64>,
    scheme: &'static str,
}

/// Words of a server that say nothing more here, with and without a value.
const WITH_VALUE: [&str; 13] = [
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
];
const ALONE: [&str; 4] = ["check", "enabled", "no-check", "check-ssl"];

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
        leave(
            text,
            "it has no host and port: a Unix socket is written as `address: unix:/path` among the `backends`",
        );
        return None;
    };
    let (mut backend, mut connections, mut tls, mut h2) = (Backend::new(&host, port), None, false, false);
    let of_defaults = defaults.map(|it| &it.words[1..]).unwrap_or_default();
    let mut words = of_defaults.iter().chain(line.words.iter().skip(3)).map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "weight" => backend.weight = words.next().and_then(|it| it.parse().ok()).unwrap_or(1).min(256),
            "maxconn" => {
                connections =
                    words.next().and_then(|it| it.parse().ok()).filter(|it| (1..=1_000_000).contains(it));
            }
            "proto" => h2 = words.next() == Some("h2"),
            "ssl" => tls = true,
            "backup" => backend.backup = true,
            "disabled" => return None,
            word if WITH_VALUE.contains(&word) => _ = words.next(),
            word if ALONE.contains(&word) => {}
            "observe" | "on-error" | "error-limit" => {
                leave(word, "write `outlier-detection`: servers that fail more than others rest");
                _ = words.next();
            }
            "resolvers" => {
                leave(word, "names are looked up again by themselves; `resolver` names other name servers");
                _ = words.next();
            }
            "crt" | "slowstart" | "on-marked-down" | "maxqueue" | "minconn" | "init-addr" | "source" => {
                leave(
                    word,
                    "there is nothing like it: failures are noticed by requests, and names are looked up again by themselves",
                );
                _ = words.next();
            }
            "send-proxy" => leave(word, "write `proxy-protocol: v1` for all of the backends"),
            "send-proxy-v2" => leave(word, "write `proxy-protocol: v2` for all of the backends"),
            other => leave(other, "there is nothing like it"),
        }
    }
    let scheme = match (tls, h2) {
        (false, false) => "http",
        (false, true) => "h2c",
        (true, false) => "https",
        (true, true) => "h2",
    };
    (backend.weight > 0).then_some(Server { backend, connections, scheme })
}

fn balance(section: &Section, comments: &mut Vec<String>, remarks: &mut Remarks) -> Balance {
    let Some(line) = section.line_of(&["balance"]) else { return Balance::default() };
    let header = line.word(1).strip_prefix("hdr(").and_then(|it| it.strip_suffix(')'));
    match line.word(1) {
        "roundrobin" | "static-rr" => Balance::default(),
        "leastconn" => Balance::Strategy("least-connection"),
        "random" => Balance::Strategy("adaptive"),
        "source" => Balance::Hash(Yaml::text("remote-addr")),
        "uri" => Balance::Hash(Yaml::text("path")),
        other => header.and_then(|it| Balance::by("header", it)).unwrap_or_else(|| {
            let why =
                "`hash-by` takes the client's address, the path, a header or a cookie: they take turns here";
            comments.push(remarks.leave(&line.place, &format!("balance {other}"), why));
            Balance::default()
        }),
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
    let method = option.words.get(2).filter(|it| !it.starts_with('/')).map_or("GET", String::as_str);
    match method {
        "GET" => {}
        "HEAD" | "OPTIONS" => entries.push(("method", Yaml::text(method))),
        _ => comments.push(remarks.leave(
            &option.place,
            "option httpchk",
            "a check asks with GET, HEAD or OPTIONS",
        )),
    }
    if let Some(expect) = section.line_of(&["http-check", "expect"]) {
        let code = expect
            .word(3)
            .parse::<u16>()
            .ok()
            .filter(|it| expect.word(2) == "status" && (100..600).contains(it));
        match code {
            Some(code) => entries.push(("status", Yaml::plain(code))),
            None => comments.push(remarks.leave(
                &expect.place,
                "http-check expect",
                "write `status` or `body` under `health-check`",
            )),
        }
    }
    keys.push(("health-check", Yaml::Map(entries)));
}
