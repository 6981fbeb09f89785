//! Which app a request is for: the virtual host by the `Host` header, then the longest web-app path that is a prefix.

use crate::app::Deployed;
use common::config::Host;
use http::{header, request::Parts};
use std::sync::Arc;

/// The virtual hosts of a cluster with their apps.
#[derive(Debug)]
pub(crate) struct Hosts {
    hosts: Vec<VirtualHost>,
}

#[derive(Debug)]
struct VirtualHost {
    config: Host,
    /// Longest path first.
    apps: Vec<Arc<Deployed>>,
}

impl Hosts {
    /// The hosts in file order, each with its apps.
    pub(crate) fn new(hosts: impl IntoIterator<Item = (Host, Vec<Arc<Deployed>>)>) -> Self {
        let hosts = hosts.into_iter().map(|(config, mut apps)| {
            apps.sort_by_key(|app| std::cmp::Reverse(app.path.len()));
            VirtualHost { config, apps }
        });
        Self { hosts: hosts.collect() }
    }

    /// The app for a host name (see [`host_name`]) and a decoded path.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<&Arc<Deployed>> {
        self.host(host)?.apps.iter().find(|app| is_below(path, &app.path))
    }

    fn host(&self, name: &str) -> Option<&VirtualHost> {
        let named = |host: &&VirtualHost| {
            let config = &host.config;
            !config.id.is_empty()
                && (config.id.eq_ignore_ascii_case(name)
                    || config.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name)))
        };
        let matched = |host: &&VirtualHost| host.config.regexp.as_ref().is_some_and(|it| it.is_match(name));
        let fallback = |host: &&VirtualHost| host.config.id.is_empty() && host.config.regexp.is_none();
        let hosts = || self.hosts.iter();
        hosts().find(named).or_else(|| hosts().find(matched)).or_else(|| hosts().find(fallback))
    }
}

/// Whether `path` is `prefix` or lies below it, segment-wise.
fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The host that a request names, lower case, without port and trailing dot: the authority of an absolute target, else `Host`
/// (RFC 9112 §3.2); empty when there is none.
pub(crate) fn host_name(request: &Parts) -> String {
    let field = || request.headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("");
    let authority = request.uri.authority().map_or_else(field, |authority| authority.as_str());
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::tests::deployed;

    fn host(id: &str, aliases: &[&str], regexp: Option<&str>) -> Host {
        Host {
            id: id.to_owned(),
            aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
            regexp: regexp.map(|text| regex::Regex::new(text).unwrap()),
            ..Host::default()
        }
    }

    fn hosts() -> Hosts {
        Hosts::new([
            (
                host("", &[], None),
                vec![deployed("default", ""), deployed("shop", "/shop"), deployed("cart", "/shop/cart")],
            ),
            (host("Foo.example", &["www.foo.example"], None), vec![deployed("foo", "")]),
            (host("bars", &[], Some(r"^bar\d+\.example$")), vec![deployed("bar", "/only")]),
        ])
    }

    fn found(host: &str, path: &str) -> Option<String> {
        hosts().find(host, path).map(|app| app.name.clone())
    }

    #[test]
    fn the_longest_path_that_ends_at_a_segment_wins() {
        assert_eq!(found("any", "/").unwrap(), "default");
        assert_eq!(found("any", "/shop").unwrap(), "shop");
        assert_eq!(found("any", "/shop/x").unwrap(), "shop");
        assert_eq!(found("any", "/shop/cart/1").unwrap(), "cart");
        assert_eq!(found("any", "/shopping").unwrap(), "default");
    }

    #[test]
    fn hosts_go_by_name_then_regexp_then_default() {
        assert_eq!(found("foo.example", "/").unwrap(), "foo");
        assert_eq!(found("www.foo.example", "/").unwrap(), "foo");
        assert_eq!(found("bar12.example", "/only").unwrap(), "bar");
        assert_eq!(found("bar12.example", "/other"), None);
        assert_eq!(found("", "/").unwrap(), "default");
    }

    #[test]
    fn host_names_lose_port_case_and_dot() {
        let name = |host: &str| {
            let (parts, ()) = http::Request::get("/").header("host", host).body(()).unwrap().into_parts();
            host_name(&parts)
        };
        assert_eq!(name("WWW.Foo.example.:8080"), "www.foo.example");
        assert_eq!(name("[::1]:80"), "::1");
        assert_eq!(name(""), "");
        let (parts, ()) = http::Request::get("http://A.example:1/").body(()).unwrap().into_parts();
        assert_eq!(host_name(&parts), "a.example");
    }
}
