//! `frontend` and `listen`: where clients come in, and which backend answers.

use super::{
    action,
    backend::{self, Mode},
    bind,
    condition::Condition,
    parse::{Line as Words, Section},
    reasons, tcp,
};
use crate::{
    left::{Remarks, TOO_MUCH},
    output::{Cluster, Host, Line, Rule},
    value::haproxy_duration,
    yaml::Yaml,
};
use std::collections::HashMap;

/// Adds everything.
pub(super) fn translate(sections: &[Section], remarks: &mut Remarks, cluster: &mut Cluster) {
    let mut fronts: Vec<(Vec<u16>, Vec<Line>)> = Vec::new();
    let mut backends = Backends::new();
    for section in sections.iter().filter(|it| matches!(it.kind.as_str(), "backend" | "listen")) {
        backends.entry(&section.name).or_insert(section);
    }
    let has_http =
        sections.iter().any(|it| matches!(it.kind.as_str(), "frontend" | "listen") && it.is_http());
    for section in sections {
        match section.kind.as_str() {
            "frontend" | "listen" if section.is_http() => {
                let ports = listeners(section, remarks, cluster);
                fronts.push((ports, rules(section, &backends, remarks)));
                times(section, cluster);
            }
            "frontend" | "listen" if section.is_tcp() => {
                tcp::translate(section, &backends, remarks, cluster);
            }
            "frontend" | "listen" => {
                let why = "its mode is neither http nor tcp";
                cluster.remarks.push(remarks.leave(&section.place, &section.title(), why));
            }
            // What is used is looked at where it is.
            "backend" => {}
            "global" | "defaults" if has_http => cluster.remarks.extend(others(section, remarks)),
            "global" | "defaults" => cluster.remarks.extend(others_of_tcp(section, remarks)),
            kind => {
                cluster.remarks.push(remarks.leave(&section.place, kind, reasons::of_section(kind)));
            }
        }
    }
    let ports = cluster.listeners.ports();
    let mut host = Host::default();
    for (own, lines) in fronts {
        let list: Vec<Yaml> = own.iter().map(Yaml::plain).collect();
        let here = match list.len() {
            _ if own.len() == ports.len() => Vec::new(),
            1 => vec![("local-port", list[0].clone())],
            _ => vec![("local-port", Yaml::List(list))],
        };
        if own.is_empty() {
            continue;
        }
        host.lines.extend(lines.into_iter().map(|line| match line {
            Line::Rule(rule) => Line::Rule(rule.only(&here)),
            remark @ Line::Remark(_) => remark,
        }));
    }
    if host.lines.iter().all(|it| matches!(it, Line::Remark(_))) {
        host.lines.push(Line::Rule(Rule::new("not-found", None, Vec::new())));
    }
    cluster.hosts.push(host);
}

/// The sections that `use_backend` and `default_backend` may name.
pub(super) type Backends<'a> = HashMap<&'a str, &'a Section>;

/// Comments for the lines that are not translated anywhere.
pub(super) fn others(section: &Section, remarks: &mut Remarks) -> Vec<String> {
    let is_front = matches!(section.kind.as_str(), "frontend" | "listen" | "backend");
    if is_front && section.is_tcp() {
        return others_of_tcp(section, remarks);
    }
    let mut comments = Vec::new();
    for line in &section.lines {
        let why = match (line.word(0), line.word(1)) {
            ("timeout", "tunnel" | "client-fin" | "server-fin" | "tarpit" | "check") => {
                Some("`socket-timeout` counts for tunnels too; a `health-check` has its own `timeout`")
            }
            ("maxconn", _) => Some(
                "connections of clients have no limit of their own: `load-balance-connection-max` and `connection-max` bound what backends get",
            ),
            _ => reasons::why(&line.name()),
        };
        comments.extend(why.map(|why| remarks.leave(&line.place, &line.name(), why)));
    }
    comments
}

/// The same where nothing but TCP is balanced.
fn others_of_tcp(section: &Section, remarks: &mut Remarks) -> Vec<String> {
    let mut comments = Vec::new();
    for line in &section.lines {
        let why = reasons::of_tcp(line.word(0), line.word(1), &line.name());
        comments.extend(why.map(|why| remarks.leave(&line.place, &line.name(), why)));
    }
    comments
}

/// The ports of a section's listeners.
fn listeners(section: &Section, remarks: &mut Remarks, cluster: &mut Cluster) -> Vec<u16> {
    let (mut ports, mut left) = (Vec::new(), Vec::new());
    for (listener, line) in bind::listeners(section, true, remarks, &mut left) {
        let port = listener.port;
        match cluster.listen(listener, false) {
            Ok(()) => ports.push(port),
            Err(why) => left.push(remarks.leave(&line.place, "bind", why)),
        }
    }
    cluster.remarks.extend(left);
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Time-outs of clients; those of the first section that has them.
fn times(section: &Section, cluster: &mut Cluster) {
    let names = [
        ("client", "socket-timeout"),
        ("http-request", "request-header-timeout"),
        ("http-keep-alive", "keepalive-timeout"),
    ];
    for (theirs, ours) in names {
        let found = section.line_of(&["timeout", theirs]).and_then(|it| haproxy_duration(it.word(2)));
        if let Some(time) = found.filter(|_| !cluster.server.iter().any(|(known, _)| *known == ours)) {
            cluster.server.push((ours, Yaml::plain(time)));
        }
    }
}

/// The rules of a frontend.
fn rules(section: &Section, backends: &Backends<'_>, remarks: &mut Remarks) -> Vec<Line> {
    let mut lines: Vec<Line> = others(section, remarks).into_iter().map(Line::Remark).collect();
    lines.extend(action::rules(section, &Condition::always(), remarks));
    for line in section.lines_of(&["use_backend"]) {
        match Condition::of(line, section) {
            Ok(condition) => to_backend(line, backends, &condition, &mut lines, remarks),
            Err((why, wider)) => {
                lines.push(Line::Remark(remarks.leave(
                    &line.place,
                    "use_backend",
                    format!("its condition can't be said: {why}"),
                )));
                action::refuse(&mut lines, &wider, "use_backend");
            }
        }
    }
    let own = section.kind == "listen" && !section.lines_of(&["server"]).is_empty();
    match section.line_of(&["default_backend"]) {
        Some(line) => to_backend(line, backends, &Condition::always(), &mut lines, remarks),
        None if own => proxy(section, &Condition::always(), &mut lines, remarks),
        None => lines.push(Line::Rule(Rule::new("send-error", None, vec![("code", Yaml::plain(503))]))),
    }
    lines
}

/// What stands in the backend that a line names, where `condition` holds.
fn to_backend(
    line: &Words,
    backends: &Backends<'_>,
    condition: &Condition,
    lines: &mut Vec<Line>,
    remarks: &mut Remarks,
) {
    let Some(section) = backends.get(line.word(1)) else {
        let why = format!("there is no backend `{}`", line.word(1));
        lines.push(Line::Remark(remarks.leave(&line.place, line.word(0), why)));
        return action::refuse(lines, condition, line.word(0));
    };
    // What is written of it, for each alternative.
    if !remarks.takes(section.lines.len().saturating_mul(condition.0.len())) {
        lines.push(Line::Remark(remarks.leave(&line.place, line.word(0), TOO_MUCH)));
        return action::refuse(lines, condition, line.word(0));
    }
    if section.kind == "backend" {
        lines.extend(others(section, remarks).into_iter().map(Line::Remark));
        lines.extend(action::rules(section, condition, remarks));
    }
    proxy(section, condition, lines, remarks);
}

fn proxy(section: &Section, condition: &Condition, lines: &mut Vec<Line>, remarks: &mut Remarks) {
    let mut comments = Vec::new();
    let keys = backend::keys(section, Mode::Http, &mut comments, remarks);
    lines.extend(comments.into_iter().map(Line::Remark));
    match keys {
        Ok(keys) => lines.extend(condition.rules("http-proxy", &keys, false).into_iter().map(Line::Rule)),
        Err(comment) => {
            lines.push(Line::Remark(comment));
            action::refuse(lines, condition, &format!("backend {}", section.name));
        }
    }
}
