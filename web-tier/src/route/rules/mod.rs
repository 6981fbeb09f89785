//! Rewrite rules: the first that matches a request's path, and whose conditions hold, says what happens to it. Nothing here
//! waits or does anything: the answer is a [`Decision`], and what rules on the way to it change of the headers.
//!
//! A host whose first rule takes every request, as most have, decides without an allocation or an expression.
mod condition;
mod decision;
mod file_exists;
mod guard;
mod rewrite;
mod share;
mod site;
mod view;

pub(crate) use decision::{Decision, Edit, Noted, Outcome, Rewritten};
pub(crate) use guard::Guard;
pub(crate) use site::{Site, SiteRequest};
pub(crate) use view::{HeaderSource, RequestView};

use crate::{
    access::Access,
    limit::LimitTables,
    route::normalise::{other_readings, read},
    upstream::{Upstreams, sticky::Stickiness},
};
use common::{
    config::{
        self, Action, Cluster, Condition, Content, HeaderEdit, RequestKey, RewriteTarget, Rule, SendError,
        Strategy,
    },
    id::ClusterId,
};
use condition::Subject;
use file_exists::SeenFiles;
use regex::Regex;
use share::Draws;
use site::{Found, Sites};
use std::cell::OnceCell;

/// How often a request may be forwarded before that is taken for a circle.
const FORWARDS_MAX: usize = 10;

/// What is said of a circle.
const CIRCLE: &str = "the rules forward this request in a circle";

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The cluster's place in the worker's list.
    pub(crate) upstream: usize,
    pub(crate) strategy: Strategy,
    /// Requests with the same key go to the same server.
    pub(crate) hash_by: Option<RequestKey>,
    /// A session on the hub brings its requests to its home.
    pub(crate) sticky: bool,
    /// For apps that have sessions of their own.
    pub(crate) stickiness: Stickiness,
    /// `;jsessionid=` in the path names a session too.
    pub(crate) session_url: bool,
    /// Answers may be stored.
    pub(crate) cache: bool,
    /// Answers may be compressed.
    pub(crate) compression: bool,
}

/// Where a request for servers that are not ours goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignTarget {
    /// The place of the rule's backends in [`Foreign::list`].
    pub(crate) place: usize,
    pub(crate) strategy: Strategy,
    /// Requests with the same key go to the same backend.
    pub(crate) hash_by: Option<RequestKey>,
    /// Answers may be stored.
    pub(crate) cache: bool,
    /// Answers may be compressed.
    pub(crate) compression: bool,
}

/// Collects the backends of `http-proxy` rules while the rules are read; rules that say the same share them.
#[derive(Debug, Default)]
pub(crate) struct Foreign {
    list: Vec<config::HttpProxy>,
}

impl Foreign {
    fn place(&mut self, proxy: &config::HttpProxy) -> usize {
        self.list.iter().position(|it| it == proxy).unwrap_or_else(|| {
            self.list.push(proxy.clone());
            self.list.len() - 1
        })
    }

    /// All of them, in the order of their places.
    pub(crate) fn list(&self) -> &[config::HttpProxy] {
        &self.list
    }
}

/// The rules of one host, in order, and its web-apps.
#[derive(Debug)]
pub(crate) struct Rules {
    rules: Vec<Compiled>,
    sites: Sites,
    seen_files: SeenFiles,
    merges_slashes: bool,
    error_pages: config::ErrorPages,
}

#[derive(Debug)]
struct Compiled {
    regexp: Option<Regex>,
    condition: Option<Condition>,
    action: Act,
}

/// What a rule does, ready to be done.
#[derive(Debug)]
enum Act {
    Proxy(Target),
    HttpProxy(ForeignTarget),
    Dispatch,
    Forward(RewriteTarget),
    Redirect(config::Redirect),
    Error(SendError),
    Maintenance(config::Maintenance),
    Header(HeaderEdit),
    Guard(Guard),
    Mirror(Mirror),
}

/// Where copies of requests go.
#[derive(Debug)]
struct Mirror {
    /// The cluster's place in the worker's list.
    upstream: usize,
    /// Of how many requests, of 10,000.
    share: u16,
}

/// What guards share with those of all workers.
pub(crate) type Shared<'a> = (&'a LimitTables, &'a Access);

/// What one pass through the rules came to.
enum Step<'a> {
    Decided(Decision<'a>),
    Forward(Rewritten),
}

impl Rules {
    /// Of a host of `cluster`. Each worker has its own copy: a `Regex` that threads share has a lock.
    pub(crate) fn new(
        host: &config::Host,
        cluster: &Cluster,
        upstreams: &mut Upstreams<'_>,
        (foreign, shared): (&mut Foreign, Shared<'_>),
    ) -> Self {
        let rules = host.dispatch.iter();
        let rules = rules.filter_map(|rule| Compiled::new(rule, upstreams, (foreign, shared))).collect();
        let deployed = upstreams.runs_deployed_apps(&cluster.id).then(|| own_tier(&cluster.id, upstreams));
        let sites =
            Sites::new(&host.web_apps, deployed.flatten(), |content| own(content, &cluster.id, upstreams));
        Self {
            rules,
            sites,
            seen_files: SeenFiles::default(),
            merges_slashes: host.merge_slashes,
            error_pages: host.error_pages.clone(),
        }
    }

    /// `merge-slashes`.
    pub(crate) fn merges_slashes(&self) -> bool {
        self.merges_slashes
    }

    /// `error-pages`.
    pub(crate) fn error_pages(&self) -> &config::ErrorPages {
        &self.error_pages
    }

    /// What happens to a request.
    pub(crate) fn evaluate<'a>(&'a self, view: &RequestView<'_>) -> Outcome<'a> {
        let mut outcome = Outcome::default();
        let (asked, draws) = (read(view.path), Draws::default());
        outcome.decision = self.decide(view, &asked, &draws, &mut outcome);
        outcome.set_cookies = draws.into_cookies();
        outcome
    }

    /// Goes through the rules until one decides.
    fn decide<'a>(
        &'a self,
        view: &RequestView<'_>,
        asked: &str,
        draws: &Draws,
        outcome: &mut Outcome<'a>,
    ) -> Decision<'a> {
        for _ in 0..=FORWARDS_MAX {
            let (path, raw_path, query) = match &outcome.rewritten {
                Some(it) => (it.seen.as_str(), it.path.as_str(), it.query.as_deref()),
                None => (asked, view.path, view.query),
            };
            let (sites, seen_files, merges_slashes) = (&self.sites, &self.seen_files, self.merges_slashes);
            let subject = Subject { view, path, raw_path, merges_slashes, query, sites, seen_files, draws };
            match self.pass(&subject, &mut outcome.noted) {
                Step::Decided(decision) => return decision,
                Step::Forward(rewritten) => outcome.rewritten = Some(rewritten),
            }
        }
        Decision::Error { status: 500, message: Some(CIRCLE) }
    }

    /// Goes through the rules once.
    fn pass<'a>(&'a self, subject: &Subject<'_>, noted: &mut Noted<'a>) -> Step<'a> {
        let readings = OnceCell::new();
        for rule in self.rules.iter().filter(|rule| rule.matches(subject, &readings)) {
            if rule.condition.as_ref().is_some_and(|condition| !condition::holds(condition, subject)) {
                continue;
            }
            let regexp = rule.regexp.as_ref();
            let decision = match &rule.action {
                Act::Proxy(target) => Decision::Proxy(target),
                Act::HttpProxy(target) => Decision::HttpProxy(target),
                Act::Dispatch => self.own_web_app(subject.path).unwrap_or(NOT_FOUND),
                Act::Error(error) => {
                    Decision::Error { status: error.code, message: error.message.as_deref() }
                }
                Act::Maintenance(closed) => Decision::Maintenance(closed),
                Act::Redirect(redirect) => match rewrite::location(&redirect.target, regexp, subject) {
                    Ok(location) => Decision::Redirect { status: redirect.status, location },
                    Err(cause) => cause.decision(),
                },
                Act::Forward(target) => match rewrite::forward(target, regexp, subject) {
                    Ok(rewritten) => return Step::Forward(rewritten),
                    Err(cause) => cause.decision(),
                },
                Act::Header(edit) => {
                    // A rule that is passed again, after a `forward`, has had its effect.
                    if noted.edits.iter().any(|it| std::ptr::eq(it.rule, edit)) {
                        continue;
                    }
                    match rewrite::header_value(edit, regexp, subject) {
                        Ok(value) => noted.edits.push(Edit { rule: edit, value }),
                        Err(cause) => return Step::Decided(cause.decision()),
                    }
                    continue;
                }
                Act::Guard(guard) => {
                    if !noted.guards.iter().any(|it| std::ptr::eq(*it, guard)) {
                        noted.guards.push(guard);
                    }
                    continue;
                }
                Act::Mirror(mirror) => {
                    noted.may_mirror = true;
                    if !noted.mirrors.contains(&mirror.upstream) && share::drawn(mirror.share) {
                        noted.mirrors.push(mirror.upstream);
                    }
                    continue;
                }
            };
            return Step::Decided(decision);
        }
        Step::Decided(self.own_web_app(subject.path).unwrap_or(Decision::None))
    }

    /// The host's own web-app for a path: served here if it is files, else by the app tier of this cluster.
    fn own_web_app(&self, path: &str) -> Option<Decision<'_>> {
        Some(match self.sites.find(path)? {
            Found::Files(site) => Decision::Static(site),
            Found::App(target) => Decision::Proxy(target),
        })
    }
}

/// What a rule that names something that is not there comes to.
const NOT_FOUND: Decision<'static> = Decision::Error { status: 404, message: None };

/// The way to the app tier of this server's own cluster; to the administration on this server itself, so that whoever reaches
/// the web tier can administrate, whatever has become of the others.
fn own(content: &Content, cluster: &ClusterId, upstreams: &mut Upstreams<'_>) -> Option<Target> {
    match content {
        Content::Folder(_) | Content::Deploy(_) => own_tier(cluster, upstreams),
        Content::Admin => {
            upstreams.place_of_self(cluster).map(|it| Target { cache: false, compression: false, ..to(it) })
        }
    }
}

fn own_tier(cluster: &ClusterId, upstreams: &mut Upstreams<'_>) -> Option<Target> {
    upstreams.place(cluster).map(to)
}

fn to(upstream: usize) -> Target {
    Target {
        upstream,
        strategy: Strategy::Adaptive,
        hash_by: None,
        sticky: true,
        stickiness: Stickiness::None,
        session_url: false,
        cache: true,
        compression: true,
    }
}

impl Compiled {
    fn new(
        rule: &Rule,
        upstreams: &mut Upstreams<'_>,
        (foreign, shared): (&mut Foreign, Shared<'_>),
    ) -> Option<Self> {
        let action = match &rule.action {
            Action::LoadBalance(action) => Act::Proxy(Target {
                upstream: upstreams.place(&action.cluster)?,
                strategy: action.strategy,
                hash_by: action.hash_by.clone(),
                sticky: action.sticky_sessions,
                stickiness: upstreams.stickiness(&action.cluster, &action.cookie),
                session_url: action.session_url,
                cache: rule.cache,
                compression: rule.compression,
            }),
            Action::HttpProxy(proxy) => Act::HttpProxy(ForeignTarget {
                place: foreign.place(proxy),
                strategy: proxy.strategy,
                hash_by: proxy.hash_by.clone(),
                cache: rule.cache,
                compression: rule.compression,
            }),
            Action::Dispatch => Act::Dispatch,
            Action::Forward(target) => Act::Forward(target.clone()),
            Action::Redirect(redirect) => Act::Redirect(redirect.clone()),
            Action::Error(error) => Act::Error(error.clone()),
            Action::Maintenance(closed) => Act::Maintenance(closed.clone()),
            Action::Header(edit) => Act::Header(edit.clone()),
            Action::Guard(guard) => Act::Guard(Guard::new(guard, foreign, shared)?),
            Action::Mirror(mirror) => {
                Act::Mirror(Mirror { upstream: upstreams.place(&mirror.cluster)?, share: mirror.share })
            }
        };
        // The empty regexp matches all: no need to ask it.
        let regexp = rule.regexp.clone().filter(|regexp| !regexp.as_str().is_empty());
        Some(Self { regexp, condition: rule.condition.clone(), action })
    }

    /// Whether the expression is found in the path: of a rule that refuses also in what other servers may make of it.
    fn matches(&self, subject: &Subject<'_>, readings: &OnceCell<Vec<String>>) -> bool {
        let Some(regexp) = &self.regexp else { return true };
        let others = || readings.get_or_init(|| other_readings(subject.raw_path));
        regexp.is_match(subject.path)
            || (matches!(self.action, Act::Error(_) | Act::Maintenance(_) | Act::Guard(_))
                && others().iter().any(|it| regexp.is_match(it)))
    }
}

#[cfg(test)]
mod tests;
