//! Virtual hosts: the `Host` of a request chooses the rules.

use crate::{
    rules::{Rules, Target},
    upstream::Upstreams,
};
use common::config::Cluster;
use regex::Regex;
use std::{borrow::Cow, collections::HashMap};

/// The hosts of this server's cluster.
#[derive(Debug)]
pub(crate) struct Hosts {
    rules: Vec<Rules>,
    /// Names and aliases in lower case.
    names: HashMap<Box<str>, usize>,
    patterns: Vec<(Regex, usize)>,
    default: Option<usize>,
}

impl Hosts {
    /// Reads the hosts; a name or pattern that two hosts claim belongs to the first.
    pub(crate) fn new(cluster: &Cluster, upstreams: &mut Upstreams<'_>) -> Self {
        let mut hosts =
            Self { rules: Vec::new(), names: HashMap::new(), patterns: Vec::new(), default: None };
        for (place, host) in cluster.hosts.iter().enumerate() {
            hosts.rules.push(Rules::new(&host.dispatch, upstreams));
            if let Some(regexp) = &host.regexp {
                hosts.patterns.push((regexp.clone(), place));
            } else if host.id.is_empty() {
                hosts.default.get_or_insert(place);
            }
            for name in [&host.id].into_iter().chain(&host.aliases).filter(|name| !name.is_empty()) {
                hosts.names.entry(name.to_ascii_lowercase().into()).or_insert(place);
            }
        }
        hosts
    }

    /// Where a request for `path` (decoded and normalised) goes; `host` is the header's value, with or without a port. A name
    /// comes before a pattern, a pattern before the default host.
    pub(crate) fn route(&self, host: &str, path: &str) -> Option<&Target> {
        self.rules.get(self.place(host)?)?.find(path)
    }

    fn place(&self, host: &str) -> Option<usize> {
        if self.names.is_empty() && self.patterns.is_empty() {
            return self.default;
        }
        let name = without_port(host);
        let name = name.strip_suffix('.').unwrap_or(name);
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        };
        let by_pattern = || self.patterns.iter().find(|(regexp, _)| regexp.is_match(&name));
        self.names.get(&*name).copied().or_else(|| by_pattern().map(|(_, place)| *place)).or(self.default)
    }
}

/// A host as `Host` has it, without its port.
pub(crate) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests;
