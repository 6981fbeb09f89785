//! The status page: what [`crate::status`] has, for people. Templates are compiled in; everything that they show is escaped.

pub(crate) mod actions;
mod app_caches;
mod apps;
pub(crate) mod assets;
mod audit;
mod balancer;
mod cache;
mod configuration;
pub(crate) mod content;
mod daemons;
pub(crate) mod form;
mod format;
pub(crate) mod graph;
mod health;
mod jobs;
mod list;
mod logs;
mod multipart;
mod overview;
mod picture;
mod pipeline;
mod pipelines;
mod queue;
mod queues;
mod requests;
mod server;
mod servers;
pub(crate) mod sessions;
mod triad;
mod upload;

#[cfg(test)]
mod large;
#[cfg(test)]
mod tests;

use crate::{
    AnswerBody, Inner, answer,
    browser::Visitor,
    history::Range,
    status::{problem::Severity, record::ClusterRecord},
};
use askama::Template;
use common::config::{Config, Role};
use content::Content;
use format::{ago, clock_time};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

/// What a page may load and do: nothing that is not this server's own.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; connect-src 'self'; script-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// A page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    /// `GET /`, for browsers.
    Overview,
    Servers,
    Balancer,
    Triad,
    Apps,
    Queues,
    Pipelines,
    Jobs,
    Daemons,
    AppCaches,
    Requests,
    Sessions,
    Cache,
    Logs,
    Health,
    Audit,
    Configuration,
}

impl Page {
    const ALL: [Self; 17] = [
        Self::Overview,
        Self::Servers,
        Self::Balancer,
        Self::Triad,
        Self::Apps,
        Self::Queues,
        Self::Pipelines,
        Self::Jobs,
        Self::Daemons,
        Self::AppCaches,
        Self::Requests,
        Self::Sessions,
        Self::Cache,
        Self::Logs,
        Self::Health,
        Self::Audit,
        Self::Configuration,
    ];

    /// At this part of the path.
    pub(crate) fn at(part: &str) -> Option<Self> {
        Self::ALL.into_iter().skip(1).find(|it| it.path().strip_prefix('/') == Some(part))
    }

    /// Below the administration's path.
    fn path(self) -> &'static str {
        match self {
            Self::Overview => "/",
            Self::Servers => "/servers",
            Self::Balancer => "/balancer",
            Self::Triad => "/triad",
            Self::Apps => "/apps",
            Self::Queues => "/queues",
            Self::Pipelines => "/pipelines",
            Self::Jobs => "/jobs",
            Self::Daemons => "/daemons",
            Self::AppCaches => "/app-caches",
            Self::Requests => "/requests",
            Self::Sessions => "/sessions",
            Self::Cache => "/cache",
            Self::Logs => "/logs",
            Self::Configuration => "/configuration",
            Self::Health => "/health",
            Self::Audit => "/audit",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Servers => "Servers",
            Self::Balancer => "Balancer",
            Self::Triad => "Triad",
            Self::Apps => "Apps",
            Self::Queues => "Queues",
            Self::Pipelines => "Pipelines",
            Self::Jobs => "Jobs",
            Self::Daemons => "Daemons",
            Self::AppCaches => "App caches",
            Self::Requests => "Requests",
            Self::Sessions => "Sessions",
            Self::Cache => "Cache",
            Self::Logs => "Logs",
            Self::Configuration => "Configuration",
            Self::Health => "Health",
            Self::Audit => "Audit",
        }
    }
}

/// Whether the client is one that shows pages: tools ask for anything, or for JSON.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter();
    accepts.filter_map(|it| it.to_str().ok()).any(|it| it.contains("text/html"))
}

/// What is around every page.
#[derive(Debug)]
struct Frame {
    prefix: String,
    title: &'static str,
    tabs: Vec<Tab>,
    user: String,
    /// By a browser's session, with which forms can be sent; else a tool looks.
    signed_in: bool,
    may_operate: bool,
    may_deploy: bool,
    /// It does not show itself anew: it is the answer to a form.
    still: bool,
    /// Every form brings it.
    token: String,
    /// How many things are wrong.
    wrong: usize,
    /// What a screen reader is told when it changes.
    news: String,
    /// What an action that was done a moment ago has to say.
    done: String,
    asked_by: String,
    taken: String,
    taken_at: String,
}

#[derive(Debug)]
struct Tab {
    name: &'static str,
    path: &'static str,
    current: bool,
}

/// A number with its name and unit.
#[derive(Debug)]
struct Figure {
    name: &'static str,
    value: String,
    unit: String,
}

impl Figure {
    fn new(name: &'static str, value: impl Into<String>, unit: impl Into<String>) -> Self {
        Self { name, value: value.into(), unit: unit.into() }
    }
}

/// Something that a user may do here.
#[derive(Debug)]
struct Act {
    verb: &'static str,
    name: &'static str,
}

impl Frame {
    fn new(prefix: &str, page: Page, visitor: &Visitor, cluster: &ClusterRecord) -> Self {
        let wrong = cluster.problems.iter().filter(|it| it.severity != Severity::Notice).count();
        let may = |role: Role| visitor.token.is_some() && visitor.user.roles.contains(&role);
        let tab = |it: Page| Tab { name: it.name(), path: it.path(), current: it == page };
        Self {
            prefix: prefix.to_owned(),
            title: page.name(),
            tabs: Page::ALL.into_iter().map(tab).collect(),
            user: visitor.user.name.clone(),
            signed_in: visitor.token.is_some(),
            may_operate: may(Role::Operate),
            may_deploy: may(Role::Deploy),
            still: false,
            token: visitor.token.clone().unwrap_or_default(),
            wrong,
            news: overview::verdict(cluster).1,
            done: visitor.done.clone(),
            asked_by: cluster.asked_by.clone(),
            taken: clock_time(cluster.taken.as_deref()),
            taken_at: cluster.taken.clone().unwrap_or_default(),
        }
    }
}

/// An action that was refused, told in the same frame.
#[derive(Debug, Template)]
#[template(path = "refused.html")]
struct Refused {
    frame: Frame,
    why: String,
    back: &'static str,
}

impl Inner {
    /// Renders a page.
    pub(crate) async fn page(
        &self,
        config: &Config,
        prefix: &str,
        (page, query): (Page, &str),
        visitor: &Visitor,
        range: Option<Range>,
    ) -> Response<AnswerBody> {
        let content = self.content(config, page, query);
        let (mut content, cluster) = tokio::join!(content, self.cluster(config));
        if let Content::Overview(graphs) = &mut content {
            *graphs = self.graphs(config, prefix, None, (range, &[graph::OVERVIEW])).await;
        }
        html(StatusCode::OK, render(prefix, content, visitor, &cluster))
    }

    /// Says why an action was not done.
    pub(crate) async fn refused_page(
        &self,
        config: &Config,
        prefix: &str,
        (page, visitor): (Page, &Visitor),
        (status, why): (StatusCode, String),
    ) -> Response<AnswerBody> {
        let cluster = self.cluster(config).await;
        let frame = Frame::new(prefix, page, visitor, &cluster);
        html(status, text(&Refused { frame, why, back: page.path() }))
    }
}

/// A page as HTML.
pub(crate) fn render(prefix: &str, content: Content, visitor: &Visitor, cluster: &ClusterRecord) -> String {
    let frame = Frame::new(prefix, content.page(), visitor, cluster);
    match content {
        Content::Overview(graphs) => text(&overview::Overview::new(frame, cluster).with(graphs)),
        Content::Servers => text(&servers::Servers::new(frame, cluster)),
        Content::Balancer => text(&balancer::Balancer::new(frame, cluster)),
        Content::Triad => text(&triad::Triad::new(frame, cluster)),
        Content::Apps(query) => text(&apps::Apps::new(frame, cluster, &query)),
        Content::Queues(query, queues) => text(&queues::Queues::new(frame, &queues, &query)),
        Content::Pipelines(query, it) => text(&pipelines::Pipelines::new(frame, &it, &query)),
        Content::Jobs(query, jobs, queues) => {
            text(&jobs::Jobs::new(frame, cluster, (&jobs, &queues), &query))
        }
        Content::Daemons(query) => text(&daemons::Daemons::new(frame, cluster, &query)),
        Content::AppCaches(query, caches) => text(&app_caches::AppCaches::new(frame, &caches, &query)),
        Content::Requests(requests) => text(&requests::Requests::new(frame, cluster, &requests)),
        Content::Sessions(sessions) => text(&sessions::Sessions::new(frame, cluster, &sessions)),
        Content::Cache(record) => text(&cache::Cache::new(frame, record)),
        Content::Logs(query, logs) => text(&logs::Logs::new(frame, cluster, &query, &logs)),
        Content::Configuration(it) => text(&configuration::Configuration::new(frame, &it)),
        Content::Health(health) => text(&health::Health::new(frame, cluster, health)),
        Content::Audit(query, log) => text(&audit::Audit::new(frame, &query, log)),
    }
}

/// Templates write to memory alone.
fn text(template: &impl Template) -> String {
    template.render().expect("a template without filters of its own, written to a string")
}

/// An answer that is a page.
pub(crate) fn html(status: StatusCode, body: String) -> Response<AnswerBody> {
    let mut response = answer(status, "text/html; charset=utf-8", body);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // With `no-referrer` a browser would not say of its own forms where they come from either.
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept, cookie, authorization"));
    response
}

/// How a state is shown: `ok`, `warn`, `bad` or `off`.
fn class_of(state: &str) -> &'static str {
    match state {
        "up" | "well" | "running" | "ready" | "leader" | "follower" => "ok",
        "warming" | "probe" | "busy" | "draining" | "stopping" | "starting" | "candidate" | "joining"
        | "behind" | "under-way" => "warn",
        "down" | "silent" | "failing" | "unhealthy" | "ejected" | "failed" => "bad",
        _ => "off",
    }
}

/// How long ago a moment was when the answers were taken.
fn since(at: Option<&String>, cluster: &ClusterRecord) -> String {
    ago(at.map(String::as_str), cluster.taken.as_deref())
}
