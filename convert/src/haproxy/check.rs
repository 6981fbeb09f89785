//! `check`: how servers are asked how they are.

use super::{
    parse::{Line as Words, Section},
    servers::Servers,
};
use crate::{
    left::Remarks,
    output::Entries,
    value::{haproxy_duration, host_port, milliseconds},
    yaml::Yaml,
};

/// Questions in protocols that are not HTTP.
const OTHERS: [&str; 8] = [
    "mysql-check",
    "pgsql-check",
    "redis-check",
    "smtpchk",
    "ldap-check",
    "spop-check",
    "ssl-hello-chk",
    "external-check",
];

/// `health-check`, if servers are checked.
pub(super) fn key(
    section: &Section,
    servers: &Servers<'_>,
    is_http: bool,
    comments: &mut Vec<String>,
    remarks: &mut Remarks,
) -> Option<(&'static str, Yaml)> {
    let checked = servers.lines.iter().find(|it| it.says("check"));
    let all = section.line_of(&["default-server"]).filter(|it| it.says("check"));
    let line = checked.copied().or(all)?;
    let option = asks_in_http(section);
    let mut leave =
        |line: &Words, what: &str, why: &str| comments.push(remarks.leave(&line.place, what, why));
    if option.is_none() && is_http {
        let why = "a check asks a path, it does not only connect: write `health-check` with one";
        leave(line, "server check", why);
        return None;
    }
    // A question over TLS is for backends that are spoken to over TLS.
    let encrypted = checked.or(all.as_ref()).filter(|it| it.says("check-ssl") && servers.tls.is_none());
    let option = match encrypted {
        Some(line) if !is_http => {
            let why = "backends are asked over TLS only where `tls://` is their address: the check connects, and asks nothing";
            leave(line, "server check-ssl", why);
            None
        }
        _ => option,
    };
    let mut entries = Entries::new();
    if let Some(option) = option {
        question(section, option, &mut entries, &mut leave);
    } else if let Some(other) = asks_otherwise(section) {
        let why = "a check connects, or asks in HTTP where it has a `path`: it connects here, and a backend that would answer something else gets connections too";
        leave(other, &other.name(), why);
    }
    times(section, &servers.lines, &mut entries);
    port(section, servers, line, &mut entries, &mut leave);
    Some(("health-check", Yaml::Map(entries)))
}

/// `option httpchk`, unless another question has taken its place.
fn asks_in_http(section: &Section) -> Option<&Words> {
    let is_check = |it: &&Words| {
        it.word(0) == "option"
            && (matches!(it.word(1), "httpchk" | "tcp-check") || OTHERS.contains(&it.word(1)))
    };
    let of = |lines: &'_ [Words]| lines.iter().rposition(|it| is_check(&it));
    let last = of(&section.lines).map(|at| &section.lines[at]);
    let last = last.or_else(|| of(&section.defaults).map(|at| &section.defaults[at]));
    last.filter(|it| it.word(1) == "httpchk")
}

/// A line that asks something in another protocol.
fn asks_otherwise(section: &Section) -> Option<&Words> {
    let says = section.all_of("tcp-check").find(|it| !matches!(it.word(1), "connect" | "comment"));
    says.or_else(|| section.all_of("option").find(|it| OTHERS.contains(&it.word(1))))
}

/// A number from a server's line, or its defaults.
fn number<'a>(section: &'a Section, servers: &[&'a Words], word: &str) -> Option<&'a str> {
    let of_defaults = section.line_of(&["default-server"]).and_then(|it| it.after(word));
    servers.iter().find_map(|it| it.after(word)).or(of_defaults)
}

fn times(section: &Section, servers: &[&Words], entries: &mut Entries) {
    let interval =
        number(section, servers, "inter").and_then(haproxy_duration).unwrap_or_else(|| "2s".to_owned());
    let interval = match milliseconds(&interval) {
        0..100 => "100ms".to_owned(),
        100..=3_600_000 => interval,
        _ => "1h".to_owned(),
    };
    entries.push(("interval", Yaml::plain(interval)));
    for word in ["rise", "fall"] {
        let found = number(section, servers, word)
            .and_then(|it| it.parse::<u64>().ok())
            .filter(|it| (1..=1000).contains(it));
        entries.extend(found.map(|it| (word, Yaml::plain(it))));
    }
}

/// The port that is asked, if it is the same of all.
fn port(
    section: &Section,
    servers: &Servers<'_>,
    line: &Words,
    entries: &mut Entries,
    leave: &mut impl FnMut(&Words, &str, &str),
) {
    let defaults = section.line_of(&["default-server"]);
    let asks = |it: &&&Words| it.says("check") || defaults.is_some_and(|it| it.says("check"));
    let of_defaults = defaults.and_then(|it| it.after("port"));
    let mut ports: Vec<Option<&str>> =
        servers.lines.iter().filter(asks).map(|it| it.after("port").or(of_defaults)).collect();
    ports.sort_unstable();
    ports.dedup();
    if ports == [None] || ports.is_empty() {
        return;
    }
    let one = if let [Some(port)] = ports[..] { port.parse::<u16>().ok().filter(|it| *it > 0) } else { None };
    match one {
        Some(port) if !servers.backends.has_sockets() => entries.push(("port", Yaml::plain(port))),
        _ => {
            leave(line, "server port", "`port` of a check is one for all backends, and none of Unix sockets");
        }
    }
}

/// What is asked, and which answer is a good one.
fn question(
    section: &Section,
    option: &Words,
    entries: &mut Entries,
    leave: &mut impl FnMut(&Words, &str, &str),
) {
    let sent = section.line_of(&["http-check", "send"]);
    let said = |word: &str| sent.and_then(|it| it.after(word));
    let given = option.words[2..].iter().map(String::as_str).find(|it| it.starts_with('/'));
    let path = said("uri").or(given).unwrap_or("/");
    let good = path.starts_with('/')
        && path.len() <= 4096
        && path.bytes().all(|it| it.is_ascii_graphic() && it != b'#');
    if !good {
        leave(option, "option httpchk", "a path begins with a slash, and has no `#`: `/` is asked");
    }
    entries.push(("path", Yaml::text(if good { path } else { "/" })));
    let first = option.words.get(2).map(String::as_str).filter(|it| !it.starts_with('/'));
    match said("meth").or(first).unwrap_or("GET") {
        "GET" => {}
        method @ ("HEAD" | "OPTIONS") => entries.push(("method", Yaml::text(method))),
        _ => leave(option, "option httpchk", "a check asks with GET, HEAD or OPTIONS"),
    }
    let header = sent.and_then(|it| {
        let at = it.words.windows(2).position(|it| it[0] == "hdr" && it[1].eq_ignore_ascii_case("host"))?;
        it.words.get(at + 2)
    });
    if let Some(host) = header {
        match host_port(host, 80) {
            Some((Some(_), _)) => entries.push(("host", Yaml::text(host))),
            _ => leave(option, "http-check send", "`host` of a check is a name, perhaps with a port"),
        }
    }
    if let Some(expect) = section.line_of(&["http-check", "expect"]) {
        match statuses(expect) {
            Some(found) => entries.push(("status", found)),
            None => {
                leave(expect, "http-check expect", "write `status` or `body` under `health-check`");
            }
        }
    }
}

/// `status 200`, `status 200-399,404`.
fn statuses(expect: &Words) -> Option<Yaml> {
    let number = |it: &str| it.parse::<u16>().ok().filter(|code| it.len() == 3 && (200..=599).contains(code));
    if expect.word(2) != "status" || expect.words.len() != 4 {
        return None;
    }
    let mut all = Vec::new();
    for part in expect.word(3).split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        all.push(match (number(from)?, number(to)?) {
            (one, two) if one == two => Yaml::plain(one),
            (one, two) if one < two => Yaml::text(format!("{one}-{two}")),
            _ => return None,
        });
    }
    Some(if all.len() == 1 { all.remove(0) } else { Yaml::List(all) })
}
