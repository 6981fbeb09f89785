//! `frontend` and `listen`: where clients come in, and which backend answers.

use super::{
    action, backend,
    condition::Condition,
    parse::{Line as Words, Section},
    reasons,
};
use crate::{
    left::Remarks,
    listeners::Listener,
    output::{Cluster, Host, Line, Rule},
    value::{haproxy_duration, host_port},
    yaml::Yaml,
};

/// Adds everything.
pub(super) fn translate(sections: &[Section], remarks: &mut Remarks, cluster: &mut Cluster) {
    let mut fronts: Vec<(Vec<u16>, Vec<Line>)> = Vec::new();
    for section in sections {
        match section.kind.as_str() {
            "frontend" | "listen" if section.is_http() => {
                let ports = listeners(section, remarks, cluster);
                fronts.push((ports, rules(section, sections, remarks)));
                times(section, cluster);
            }
            "frontend" | "listen" => {
                let name = format!("{} {}", section.kind, section.name);
                cluster.remarks.push(remarks.leave(
                    &section.place,
                    &name,
                    "only HTTP is balanced: its mode is tcp",
                ));
            }
            // What is used is looked at where it is.
            "backend" => {}
            "global" | "defaults" => cluster.remarks.extend(others(section, remarks)),
            kind => cluster.remarks.push(remarks.leave(
                &section.place,
                kind,
                "there is nothing like this section",
            )),
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

/// Comments for the lines that are not translated anywhere.
fn others(section: &Section, remarks: &mut Remarks) -> Vec<String> {
    let mut comments = Vec::new();
    for line in &section.lines {
        if let Some(why) = reasons::why(&line.name()) {
            comments.push(remarks.leave(&line.place, &line.name(), why));
        }
        if line.word(0) == "timeout"
            && matches!(line.word(1), "tunnel" | "client-fin" | "server-fin" | "tarpit" | "check")
        {
            let why = "`socket-timeout` counts for tunnels too; a `health-check` has its own `timeout`";
            comments.push(remarks.leave(&line.place, &line.name(), why));
        }
        if line.word(0) == "maxconn" {
            let why = "connections of clients have no limit of their own: `load-balance-connection-max` and `connection-max` bound what backends get";
            comments.push(remarks.leave(&line.place, "maxconn", why));
        }
    }
    comments
}

/// `bind`.
fn listeners(section: &Section, remarks: &mut Remarks, cluster: &mut Cluster) -> Vec<u16> {
    let mut ports = Vec::new();
    for line in section.lines.iter().filter(|it| it.word(0) == "bind") {
        let mut leave = |what: &str, why: &str| {
            let name = format!("bind {what}");
            cluster.remarks.push(remarks.leave(&line.place, name.trim_end(), why));
        };
        let tls = line.says("ssl");
        let certificates: Vec<(String, String)> = line
            .words
            .windows(2)
            .filter(|it| it[0] == "crt")
            // One file has both.
            .map(|it| (it[1].clone(), it[1].clone()))
            .collect();
        if tls && certificates.is_empty() {
            leave("ssl", "it has no `crt`: the listener is left out");
            continue;
        }
        if certificates.iter().any(|(it, _)| it.ends_with('/') || !it.contains('.')) {
            leave("crt", "a folder of certificates is not read: list each file under `certs`");
        }
        if line.says("ca-file") || line.says("verify") {
            leave("ca-file", "write `client-ca` and `client-auth` under `tls`: the listener is left out");
            continue;
        }
        if line.says("accept-proxy") {
            leave(
                "accept-proxy",
                "`proxy-protocol` needs to know whom to believe: write it, and `trusted-proxies`; the listener is left out",
            );
            continue;
        }
        for text in line.word(1).split(',') {
            let Some((address, port)) = host_port(text, 0).filter(|(_, port)| *port > 0) else {
                leave(text, "listeners are addresses and single ports of TCP");
                continue;
            };
            let listener = Listener {
                address: address.filter(|it| it != "0.0.0.0"),
                port,
                tls,
                certificates: certificates.clone(),
                proxy_protocol: false,
                h2c: line.after("proto") == Some("h2") && !tls,
            };
            cluster.listeners.add(listener, false);
            ports.push(port);
        }
    }
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
fn rules(section: &Section, sections: &[Section], remarks: &mut Remarks) -> Vec<Line> {
    let mut lines: Vec<Line> = others(section, remarks).into_iter().map(Line::Remark).collect();
    lines.extend(action::rules(section, &Condition::always(), remarks));
    for line in section.lines_of(&["use_backend"]) {
        match Condition::of(line, section) {
            Ok(condition) => to_backend(line, sections, &condition, &mut lines, remarks),
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
        Some(line) => to_backend(line, sections, &Condition::always(), &mut lines, remarks),
        None if own => proxy(section, &Condition::always(), &mut lines, remarks),
        None => lines.push(Line::Rule(Rule::new("send-error", None, vec![("code", Yaml::plain(503))]))),
    }
    lines
}

/// What stands in the backend that a line names, where `condition` holds.
fn to_backend(
    line: &Words,
    sections: &[Section],
    condition: &Condition,
    lines: &mut Vec<Line>,
    remarks: &mut Remarks,
) {
    let named = |it: &&Section| matches!(it.kind.as_str(), "backend" | "listen") && it.name == line.word(1);
    let Some(section) = sections.iter().find(named) else {
        let why = format!("there is no backend `{}`", line.word(1));
        lines.push(Line::Remark(remarks.leave(&line.place, line.word(0), why)));
        return action::refuse(lines, condition, line.word(0));
    };
    if section.kind == "backend" {
        lines.extend(others(section, remarks).into_iter().map(Line::Remark));
        lines.extend(action::rules(section, condition, remarks));
    }
    proxy(section, condition, lines, remarks);
}

fn proxy(section: &Section, condition: &Condition, lines: &mut Vec<Line>, remarks: &mut Remarks) {
    let mut comments = Vec::new();
    let keys = backend::keys(section, &mut comments, remarks);
    lines.extend(comments.into_iter().map(Line::Remark));
    match keys {
        Ok(keys) => lines.extend(condition.rules("http-proxy", &keys, false).into_iter().map(Line::Rule)),
        Err(comment) => {
            lines.push(Line::Remark(comment));
            action::refuse(lines, condition, &format!("backend {}", section.name));
        }
    }
}
