//! Requests that may change something: what is kept of their URL, and of those that the answer names, is forgotten (RFC 9111 §4.4).

use super::{Ask, Forwarded, Plan, Question, given};
use crate::{
    cache::key::put_url,
    http1::{Fields, RequestHead},
    proxy::{Passed, Reply},
    route::normalise::normal_url,
};
use http::Method;
use http_cache::url::split_authority;

/// A request that is not `GET` or `HEAD`.
pub(in crate::proxy) struct Change {
    host: String,
    target: String,
    is_safe: bool,
}

impl Change {
    pub(super) fn plan(ask: Ask<'_>, head: &RequestHead) -> Plan {
        ask.client.worker.counters.cache.passed.up();
        let is_safe = matches!(head.method, Method::OPTIONS | Method::TRACE);
        let (host, target) = (head.host().to_owned(), head.target.clone());
        Plan::Ask(Question::Unsafe(Box::new(Self { host, target, is_safe })))
    }

    /// Forgets what may have changed.
    pub(super) fn answered(self, ask: Ask<'_>, head: &RequestHead, passed: Passed) -> Reply {
        let Self { host, target, is_safe } = self;
        let answer = &passed.answer.head;
        if !is_safe && (answer.status.is_success() || answer.status.is_redirection()) {
            let mut url = Vec::new();
            let mut forget = |target: &str| {
                url.clear();
                put_url(&mut url, &host, &ask.settings.target(target));
                ask.settings.cache.forget_url(&url)
            };
            forget(&target);
            for named in named(&answer.fields, &host, &target) {
                forget(&named);
            }
        }
        given(ask, head, passed, Forwarded::Method)
    }
}

/// The URLs of the same host that `Location` and `Content-Location` name, as requests for them are: paths with queries.
fn named(fields: &Fields, host: &str, target: &str) -> Vec<String> {
    let values = fields.named("location").chain(fields.named("content-location"));
    values.filter_map(|it| normal_url(&on_host(str::from_utf8(it).ok()?, host, target)?).ok()).collect()
}

/// A reference as a path with a query, if it is of this host (RFC 3986 §5.2; dots are left for whoever normalises it).
fn on_host(reference: &str, host: &str, target: &str) -> Option<String> {
    let reference = reference.trim().split('#').next().unwrap_or_default();
    if let (Some(authority), path) = split_authority(reference) {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        return authority.eq_ignore_ascii_case(host).then_some(path);
    }
    let path = target.split('?').next().unwrap_or_default();
    match reference.as_bytes().first() {
        None => None,
        Some(b'/') => Some(reference.to_owned()),
        Some(b'?') => Some(format!("{path}{reference}")),
        // Of another scheme.
        Some(_) if reference.split(['/', '?']).next().is_some_and(|it| it.contains(':')) => None,
        Some(_) => Some(format!("{}/{reference}", path.rsplit_once('/').map_or("", |(folder, _)| folder))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_of_this_host_or_none() {
        for (reference, expected) in [
            ("/b?c#d", Some("/b?c")),
            ("b", Some("/a/b")),
            ("?q", Some("/a/x?q")),
            ("http://Shop.example/b", Some("/b")),
            ("//shop.example", Some("/")),
            ("https://shop.example?q", Some("/?q")),
            ("http://other.example/b", None),
            ("http://shop.example.other/b", None),
            ("mailto:x", None),
            ("", None),
        ] {
            assert_eq!(on_host(reference, "shop.example", "/a/x?y").as_deref(), expected, "{reference}");
        }
    }
}
