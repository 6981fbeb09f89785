//! Rules of a host, asked as the proxy asks them.

mod conditions;
mod files;
mod paths;
mod rewriting;
mod variables;

use super::*;
use crate::{
    http1::{HeadLimits, RequestHead},
    limit::LimitTables,
    route::{
        host::Hosts,
        normalise::{Path, normalise},
    },
    tests::cluster,
    upstream::breaks::Breaks,
};
use common::{
    config::{HeaderEditKind, LoadOptions, StickyCookie, load_str},
    id::ServerId,
};
use http::HeaderMap;
use std::{
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A Sunday: the 31st of December 2023, 23:59:59 UTC.
const SUNDAY: u64 = 1_704_067_199;

/// The host `""` of a web tier, and two clusters.
pub(super) struct Ruled {
    hosts: Hosts,
}

impl Ruled {
    /// With the given `dispatch`, in YAML.
    pub(super) fn new(dispatch: &str) -> Self {
        Self::with_web_apps(dispatch, "[]")
    }

    /// The same, with `web-apps`.
    pub(super) fn with_web_apps(dispatch: &str, web_apps: &str) -> Self {
        Self::of_host(&format!("web-apps: {web_apps}, dispatch: [{dispatch}]"))
    }

    /// A host with these keys.
    pub(super) fn of_host(keys: &str) -> Self {
        let text = format!(
            "clusters:\n  - {{id: web, servers: [{{id: web-a, address: 127.0.0.1, http: [{{port: 8080}}]}}], \
             hosts: [{{id: '', {keys}}}]}}\n  \
             - {{id: one, servers: [{{id: a, address: 127.0.0.1, port: 6801}}]}}\n  \
             - {{id: two, servers: [{{id: b, address: 127.0.0.1, port: 6802}}]}}\n"
        );
        let loaded = load_str(&text, std::path::Path::new("rules.yaml"), &LoadOptions::default());
        let mut config = loaded.unwrap_or_else(|errors| panic!("{errors}")).config;
        // Rules need no server, and a pool would need a runtime.
        config.clusters.iter_mut().for_each(|cluster| cluster.servers.clear());
        let breaks = Breaks::new(&config);
        let (me, credentials) = (ServerId::from("web-a"), cluster::plain());
        let mut upstreams = Upstreams::new(&config, &me, &credentials, 1, &breaks);
        for id in ["one", "two", "web"] {
            upstreams.place(&id.into()).unwrap();
        }
        Self {
            hosts: Hosts::new(
                &config.clusters[0],
                &mut upstreams,
                (&LimitTables::new((&config.clusters[0], &"web-a".into()), None), &Access::default()),
            ),
        }
    }

    /// What happens to `GET path`, in a word or two.
    pub(super) fn get(&self, path: &str) -> String {
        shown(&self.hosts.evaluate(&Asked::get(path).view()))
    }

    pub(super) fn ask(&self, asked: &Asked) -> String {
        shown(&self.hosts.evaluate(&asked.view()))
    }
}

/// A request; the query is split off its path, which is normalised.
pub(super) struct Asked {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) host: String,
    pub(super) headers: HeaderMap,
    pub(super) remote: IpAddr,
    pub(super) secure: bool,
    pub(super) local_port: u16,
    pub(super) now: SystemTime,
}

impl Asked {
    pub(super) fn get(target: &str) -> Self {
        Self::get_unless(target).unwrap_or_else(|| panic!("{target} is refused"))
    }

    /// `None`: it is refused before a rule sees it.
    pub(super) fn get_unless(target: &str) -> Option<Self> {
        Self::normalised(target, true)
    }

    /// On a host with this `merge-slashes`.
    pub(super) fn normalised(target: &str, merges: bool) -> Option<Self> {
        let mut head = RequestHead::default();
        head.set_target(target, &HeadLimits { count: 9, bytes: 99_999, target: 99_999 }).ok()?;
        if let Path::Other(path) = normalise(head.path(), merges).ok()? {
            head.set_path(&path);
        }
        Some(Self {
            method: "GET",
            path: head.path().to_owned(),
            query: head.query().map(str::to_owned),
            host: "www.Example.com:8080".to_owned(),
            headers: HeaderMap::new(),
            remote: IpAddr::from([192, 168, 0, 7]),
            secure: false,
            local_port: 8080,
            now: UNIX_EPOCH + Duration::from_secs(SUNDAY),
        })
    }

    pub(super) fn header(mut self, name: &'static str, value: &[u8]) -> Self {
        self.headers.append(name, http::HeaderValue::from_bytes(value).unwrap());
        self
    }

    pub(super) fn view(&self) -> RequestView<'_> {
        RequestView {
            method: self.method,
            path: &self.path,
            query: self.query.as_deref(),
            host: &self.host,
            headers: &self.headers,
            remote: self.remote,
            secure: self.secure,
            local_port: self.local_port,
            now: self.now,
        }
    }
}

fn shown(outcome: &Outcome<'_>) -> String {
    let decision = match &outcome.decision {
        Decision::Proxy(target) => ["one", "two", "web", "myself"][target.upstream].to_owned(),
        Decision::HttpProxy(target) => format!("foreign {}", target.place),
        Decision::Static(_) => "static".to_owned(),
        Decision::Redirect { status, location } => format!("{status} {location}"),
        Decision::Error { status, message } => format!("{status} {}", message.unwrap_or("-")),
        Decision::Maintenance(closed) => format!("closed {}", closed.status),
        Decision::None => "none".to_owned(),
    };
    let rewritten = outcome.rewritten.as_ref().map(|it| format!(" as {}", it.target()));
    format!("{decision}{}", rewritten.unwrap_or_default())
}

#[test]
fn the_first_rule_that_matches_decides() {
    let ruled = Ruled::new(
        r"{forbidden: {regexp: '^/admin(/|$)'}}, {not-found: {regexp: '\.bak$'}},
          {send-error: {regexp: '^/v1/', code: 410, message: Use v2}},
          {maintenance: {regexp: '^/shop;old', file: closed.html}},
          {load-balance: {regexp: '^/foo', cluster: one}}, {load-balance: {cluster: two}}",
    );
    for (path, decision) in [
        ("/admin", "403 -"),
        ("/admin/x.bak", "403 -"),
        ("/shop;old/x", "closed 503"),
        ("/administer", "two"),
        ("/x.bak", "404 -"),
        ("/v1/a", "410 Use v2"),
        ("/food", "one"),
        ("/", "two"),
    ] {
        assert_eq!(ruled.get(path), decision, "{path}");
    }
}

#[test]
fn without_a_rule_nothing_is_decided() {
    assert_eq!(Ruled::new("{forbidden: {regexp: '^/a'}}").get("/b"), "none");
}

#[test]
fn a_rule_whose_conditions_fail_leaves_it_to_the_next() {
    let ruled = Ruled::new("{forbidden: {if: {secure: true}}}, {load-balance: {cluster: one}}");
    assert_eq!(ruled.get("/"), "one");
    assert_eq!(ruled.ask(&Asked { secure: true, ..Asked::get("/") }), "403 -");
}

#[test]
fn foreign_backends_are_listed_and_shared_by_rules_that_say_the_same() {
    let ruled = Ruled::new(
        "{http-proxy: {regexp: '^/a', backends: [{address: 'http://10.0.0.1'}], insert-cookie: SRV}},
         {http-proxy: {regexp: '^/b', backends: [{address: 'http://10.0.0.2'}]}},
         {http-proxy: {regexp: '^/c', backends: [{address: 'http://10.0.0.1'}], insert-cookie: SRV}}",
    );
    assert_eq!(["/a", "/b", "/c"].map(|path| ruled.get(path)), ["foreign 0", "foreign 1", "foreign 0"]);
    let hosts: Vec<_> = ruled.hosts.foreign().iter().map(|it| it.backends[0].authority()).collect();
    assert_eq!(hosts, ["10.0.0.1:80", "10.0.0.2:80"]);
    let asked = Asked::get("/a");
    let outcome = ruled.hosts.evaluate(&asked.view());
    let Decision::HttpProxy(target) = outcome.decision else { panic!("{outcome:?}") };
    let StickyCookie::Inserted { name, .. } = &ruled.hosts.foreign()[target.place].cookie else { panic!() };
    assert_eq!(name, "SRV");
}

#[test]
fn header_rules_on_the_way_are_gathered_in_order_and_once() {
    let ruled = Ruled::new(
        "{set-header: {name: X-A, value: a}}, {add-header: {regexp: '^/b', name: X-B, value: b}},
         {forward: {regexp: '^/a', target: /b}}, {set-request-header: {name: X-C, value: ''}},
         {load-balance: {regexp: '^/b', cluster: one}}, {set-header: {name: X-D, value: d}}",
    );
    let edits = |path: &str| {
        let asked = Asked::get(path);
        let outcome = ruled.hosts.evaluate(&asked.view());
        outcome
            .noted
            .edits
            .iter()
            .map(|it| (it.kind(), it.name().to_owned(), it.value.clone().into_owned()))
            .collect::<Vec<_>>()
    };
    let edit = |kind, name: &str, value: &str| (kind, name.to_owned(), value.to_owned());
    let (a, b) =
        (edit(HeaderEditKind::SetOnAnswer, "x-a", "a"), edit(HeaderEditKind::AddToAnswer, "x-b", "b"));
    let c = edit(HeaderEditKind::SetOnRequest, "x-c", "");
    assert_eq!(edits("/b"), [a.clone(), b.clone(), c.clone()]);
    assert_eq!(edits("/a"), [a.clone(), b, c.clone()], "the first rule is passed twice");
    assert_eq!(edits("/x"), [a, c, edit(HeaderEditKind::SetOnAnswer, "x-d", "d")]);
}

/// The fast path: nothing is gathered, nothing is made.
#[test]
fn one_rule_for_all_allocates_nothing() {
    let ruled = Ruled::new("{load-balance: {cluster: one}}");
    let asked = Asked::get("/a?b");
    let outcome = ruled.hosts.evaluate(&asked.view());
    assert!(matches!(outcome.decision, Decision::Proxy(_)));
    assert_eq!((outcome.noted.edits.capacity(), outcome.rewritten), (0, None));
}
