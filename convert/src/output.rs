//! The translation: one cluster of one server, its hosts and their rules, with comments at their places.

use crate::{
    left::shown,
    listeners::{Listener, Listeners, collide},
    tcp::TcpListener,
    yaml::{Yaml, quoted},
};
use std::fmt::Write;

/// Keys and their values.
pub(crate) type Entries = Vec<(&'static str, Yaml)>;

/// A line of `dispatch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Rule(Rule),
    /// A comment.
    Remark(String),
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) kind: &'static str,
    /// `None`: every path.
    pub(crate) regexp: Option<String>,
    /// What else has to hold.
    pub(crate) conditions: Entries,
    pub(crate) further: Entries,
}

impl Rule {
    pub(crate) fn new(kind: &'static str, regexp: Option<&str>, further: Entries) -> Self {
        let regexp = regexp.filter(|it| !matches!(*it, "" | "^/")).map(str::to_owned);
        Self { kind, regexp, conditions: Vec::new(), further }
    }

    /// What can't be translated and must not be open.
    pub(crate) fn refusal(regexp: Option<&str>, what: &str) -> Self {
        let message = format!("not translated: {}", shown(what.chars().take(100)));
        Self::new("send-error", regexp, vec![("code", Yaml::plain(501)), ("message", Yaml::text(message))])
    }

    /// The same if `conditions` hold too.
    pub(crate) fn only(mut self, conditions: &Entries) -> Self {
        self.conditions.extend(conditions.iter().cloned());
        self
    }

    /// The same, if a key stands twice among its conditions, as a list of them.
    fn conditions(&self) -> Entries {
        let twice =
            |(at, (key, _)): (usize, &(&str, Yaml))| self.conditions[..at].iter().any(|it| it.0 == *key);
        if !self.conditions.iter().enumerate().any(twice) {
            return self.conditions.clone();
        }
        let all = self.conditions.iter().map(|it| Yaml::Map(vec![it.clone()]));
        vec![("and", Yaml::List(all.collect()))]
    }

    fn write(&self, indent: usize) -> String {
        let mut entries = Vec::new();
        entries.extend(self.regexp.as_ref().map(|it| ("regexp", Yaml::text(it))));
        entries.extend(self.further.iter().cloned());
        let conditions = self.conditions();
        if !conditions.is_empty() {
            entries.push(("if", Yaml::Map(conditions)));
        }
        format!("{}- {}:{}", " ".repeat(indent), self.kind, Yaml::Map(entries).behind_key(indent + 2))
    }
}

/// A virtual host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host {
    /// `id`, and its aliases; without any there is a `regexp`.
    pub(crate) names: Vec<String>,
    pub(crate) regexp: Option<String>,
    /// Paths and the folders that are served there.
    pub(crate) web_apps: Vec<(String, String)>,
    pub(crate) lines: Vec<Line>,
}

impl Host {
    fn write(&self, out: &mut String) {
        let text = |text: &String| quoted(text);
        match (&self.regexp, self.names.split_first()) {
            (Some(regexp), _) => {
                let _ = writeln!(out, "      - regexp: {}", quoted(regexp));
            }
            (None, Some((first, others))) => {
                let _ = writeln!(out, "      - id: {}", quoted(first));
                if !others.is_empty() {
                    let _ = writeln!(
                        out,
                        "        aliases: [{}]",
                        others.iter().map(text).collect::<Vec<_>>().join(", ")
                    );
                }
            }
            (None, None) => out.push_str("      - id: ''\n"),
        }
        if !self.web_apps.is_empty() {
            out.push_str("        web-apps:\n");
            for (id, folder) in &self.web_apps {
                let _ =
                    writeln!(out, "          - {{id: {}, root-directory: {}}}", quoted(id), quoted(folder));
            }
        }
        out.push_str("        dispatch:\n");
        for line in &self.lines {
            match line {
                Line::Rule(rule) => out.push_str(&rule.write(10)),
                Line::Remark(text) => {
                    let _ = writeln!(out, "          # {text}");
                }
            }
        }
    }
}

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    /// What is left of the file as a whole.
    pub(crate) remarks: Vec<String>,
    pub(crate) listeners: Listeners,
    tcp: Vec<TcpListener>,
    /// How many values these have.
    tcp_values: usize,
    /// Further keys of the server.
    pub(crate) server: Entries,
    /// Further keys of the cluster.
    pub(crate) cluster: Entries,
    pub(crate) hosts: Vec<Host>,
}

/// What servers use among each other where no `port` says otherwise.
const CLUSTER_PORT: u16 = 6800;

/// More values are not written for `tcp-proxy`.
const TCP_VALUES_MAX: usize = 200_000;

/// What is said of a second listener at a port.
const TAKEN: &str = "another listener of this file has the port: this one is left out";

impl Cluster {
    /// Adds a listener of HTTP. `first`: its certificates are for clients that name no host.
    ///
    /// # Errors
    /// Why there can be none.
    pub(crate) fn listen(&mut self, new: Listener, first: bool) -> Result<(), &'static str> {
        let address = new.address.as_deref();
        let known = self.listeners.0.iter().any(|it| it.is_at(address, new.port));
        if !known && self.is_taken(address, new.port) {
            return Err(TAKEN);
        }
        self.listeners.add(new, first);
        Ok(())
    }

    /// Adds a listener of `tcp-proxy`. The comments go with it.
    ///
    /// # Errors
    /// Why there can be none.
    pub(crate) fn listen_tcp(
        &mut self,
        mut new: TcpListener,
        comments: &mut Vec<String>,
    ) -> Result<(), &'static str> {
        if self.is_taken(new.address.as_deref(), new.port) {
            return Err(TAKEN);
        }
        if self.tcp_values + new.size > TCP_VALUES_MAX {
            return Err("it is too much for one file: the listener is left out");
        }
        self.tcp_values += new.size;
        new.remarks.append(comments);
        self.tcp.push(new);
        Ok(())
    }

    fn is_taken(&self, address: Option<&str>, port: u16) -> bool {
        self.listeners.0.iter().any(|it| it.collides(address, port))
            || self.tcp.iter().any(|it| it.port == port && collide(it.address.as_deref(), address))
    }

    /// Whether nothing but TCP is balanced, so that there is nobody for hosts.
    fn is_tcp_alone(&self) -> bool {
        self.listeners.0.is_empty() && !self.tcp.is_empty()
    }

    /// The port for the other servers, if clients have the usual one.
    fn port(&self) -> Option<u16> {
        let has = |port: &u16| {
            self.listeners.0.iter().any(|it| it.port == *port) || self.tcp.iter().any(|it| it.port == *port)
        };
        if has(&CLUSTER_PORT) { (CLUSTER_PORT + 1..=u16::MAX).find(|port| !has(port)) } else { None }
    }

    /// The file.
    pub(crate) fn write(&self, name: &str) -> String {
        let name = shown(name.chars());
        let mut out = format!("# Translated from {name} by `copal convert`.\n");
        if !self.remarks.is_empty() {
            out.push_str("# Left:\n");
        }
        for remark in &self.remarks {
            let _ = writeln!(out, "#   {remark}");
        }
        out.push_str(
            "\nclusters:\n  - id: web\n    servers:\n      - id: web-a\n        address: 127.0.0.1\n",
        );
        if let Some(port) = self.port() {
            let _ = writeln!(out, "        port: {port}");
        }
        out.push_str(&self.listeners.write());
        if !self.tcp.is_empty() {
            out.push_str("        tcp-proxy:\n");
        }
        self.tcp.iter().for_each(|it| it.write(&mut out));
        for (key, value) in &self.server {
            let _ = write!(out, "        {key}:{}", value.behind_key(8));
        }
        for (key, value) in &self.cluster {
            let _ = write!(out, "    {key}:{}", value.behind_key(4));
        }
        if self.is_tcp_alone() {
            return out;
        }
        out.push_str("    hosts:\n");
        self.hosts.iter().for_each(|host| host.write(&mut out));
        out
    }
}
