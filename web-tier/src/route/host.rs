//! Virtual hosts: the `Host` of a request chooses the rules.

use crate::{
    http1::RequestHead,
    route::rules::{Foreign, Outcome, RequestView, Rules, Shared},
    upstream::Upstreams,
};
use common::config::{self, Cluster};
use regex::Regex;
use std::{borrow::Cow, collections::HashMap};

/// The hosts of this server's cluster.
#[derive(Debug)]
pub(crate) struct Hosts {
    rules: Vec<Rules>,
    /// Names and aliases as [`name`] gives them.
    names: HashMap<Box<str>, usize>,
    patterns: Vec<(Regex, usize)>,
    default: Option<usize>,
    foreign: Foreign,
    /// A host has `merge-slashes: false`.
    keeps_slashes: bool,
}

impl Hosts {
    /// Reads the hosts; a name or pattern that two hosts claim belongs to the first.
    pub(crate) fn new(cluster: &Cluster, upstreams: &mut Upstreams<'_>, shared: Shared<'_>) -> Self {
        let mut hosts = Self {
            rules: Vec::new(),
            names: HashMap::new(),
            patterns: Vec::new(),
            default: None,
            foreign: Foreign::default(),
            keeps_slashes: cluster.hosts.iter().any(|host| !host.merge_slashes),
        };
        // Without any there is one all the same, for apps that are deployed.
        let default = [config::Host::default()];
        let list = if cluster.hosts.is_empty() { &default } else { &cluster.hosts[..] };
        for (place, host) in list.iter().enumerate() {
            hosts.rules.push(Rules::new(host, cluster, upstreams, (&mut hosts.foreign, shared)));
            if let Some(regexp) = &host.regexp {
                hosts.patterns.push((regexp.clone(), place));
            } else if host.id.is_empty() {
                hosts.default.get_or_insert(place);
            }
            for it in [&host.id].into_iter().chain(&host.aliases).filter(|it| !it.is_empty()) {
                hosts.names.entry(name(it).into()).or_insert(place);
            }
        }
        hosts
    }

    /// The backends of the `http-proxy` rules, by [`ForeignTarget::place`](crate::route::rules::ForeignTarget).
    pub(crate) fn foreign(&self) -> &[config::HttpProxy] {
        self.foreign.list()
    }

    /// What happens to a request, by the rules of its host. A name comes before a pattern, a pattern before the default host.
    pub(crate) fn evaluate<'a>(&'a self, view: &RequestView<'_>) -> Outcome<'a> {
        self.rules_of(view.host).map_or_else(Outcome::default, |rules| rules.evaluate(view))
    }

    /// Whether the paths of a request's host have their slashes merged.
    pub(crate) fn merges_slashes(&self, head: &RequestHead) -> bool {
        !self.keeps_slashes || self.rules_of(head.host()).is_none_or(Rules::merges_slashes)
    }

    /// What errors of a host look like, if it has pages for them. `host` is the header's value.
    pub(crate) fn error_pages(&self, host: &str) -> Option<&config::ErrorPages> {
        self.rules_of(host).map(Rules::error_pages).filter(|it| !it.pages.is_empty())
    }

    fn rules_of(&self, host: &str) -> Option<&Rules> {
        self.place(host).and_then(|place| self.rules.get(place))
    }

    fn place(&self, host: &str) -> Option<usize> {
        if self.names.is_empty() && self.patterns.is_empty() {
            return self.default;
        }
        let name = name(host);
        let by_pattern = || self.patterns.iter().find(|(regexp, _)| regexp.is_match(&name));
        self.names.get(&*name).copied().or_else(|| by_pattern().map(|(_, place)| *place)).or(self.default)
    }
}

/// A host as rules compare it: lower case, without port, brackets or the dot at its end. `host` is the header's value.
pub(crate) fn name(host: &str) -> Cow<'_, str> {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => without_port(host),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// An IPv6 address without brackets, as the file may have it, has no port.
pub(crate) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests;
