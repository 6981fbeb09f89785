//! The status page: what [`crate::status`] has, for people. Templates are compiled in; everything that they show is escaped.

pub(crate) mod actions;
mod apps;
pub(crate) mod assets;
mod audit;
mod balancer;
pub(crate) mod form;
mod format;
mod health;
mod multipart;
mod overview;
mod picture;
mod servers;
mod triad;
mod upload;

#[cfg(test)]
mod tests;

use crate::{
    AnswerBody, Inner, answer,
    audit::{AuditQuery, AuditRecord, PAGE_WAIT},
    browser::Visitor,
    health::record::HealthRecord,
    status::{problem::Severity, record::ClusterRecord},
};
use askama::Template;
use common::config::{Config, Role};
use format::{ago, clock_time};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};

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
    Health,
    Audit,
}

impl Page {
    const ALL: [Self; 7] =
        [Self::Overview, Self::Servers, Self::Balancer, Self::Triad, Self::Apps, Self::Health, Self::Audit];

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
    unit: &'static str,
}

impl Figure {
    fn new(name: &'static str, value: impl Into<String>, unit: &'static str) -> Self {
        Self { name, value: value.into(), unit }
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
        page: Page,
        visitor: &Visitor,
        uri: &Uri,
    ) -> Response<AnswerBody> {
        let cluster = self.cluster(config).await;
        let body = match page {
            Page::Audit => {
                let query = AuditQuery::of(uri).unwrap_or_else(|_| AuditQuery::newest());
                let log = self.audit(&query, PAGE_WAIT).await.map_err(|refusal| refusal.to_string());
                text(&audit::Audit::new(Frame::new(prefix, page, visitor, &cluster), &query, log))
            }
            Page::Health => {
                let record = self.health(config).await;
                text(&health::Health::new(Frame::new(prefix, page, visitor, &cluster), &cluster, record))
            }
            page => render(prefix, page, visitor, &cluster),
        };
        html(StatusCode::OK, body)
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
fn render(prefix: &str, page: Page, visitor: &Visitor, cluster: &ClusterRecord) -> String {
    let frame = Frame::new(prefix, page, visitor, cluster);
    match page {
        Page::Overview => text(&overview::Overview::new(frame, cluster)),
        Page::Servers => text(&servers::Servers::new(frame, cluster)),
        Page::Balancer => text(&balancer::Balancer::new(frame, cluster)),
        Page::Triad => text(&triad::Triad::new(frame, cluster)),
        Page::Apps => text(&apps::Apps::new(frame, cluster)),
        Page::Health => text(&health::Health::new(frame, cluster, HealthRecord::default())),
        Page::Audit => text(&audit::Audit::new(frame, &AuditQuery::newest(), Ok(AuditRecord::default()))),
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
        "down" | "silent" | "failing" | "unhealthy" | "failed" => "bad",
        _ => "off",
    }
}

/// How long ago a moment was when the answers were taken.
fn since(at: Option<&String>, cluster: &ClusterRecord) -> String {
    ago(at.map(String::as_str), cluster.taken.as_deref())
}
