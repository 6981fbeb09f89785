//! What browsers ask for besides the API: pages, signing in and out, and forms that change something.

use super::{
    Page,
    assets::Asset,
    content::Content,
    form::Form,
    html, is_wanted,
    list::ListQuery,
    pipeline, queue, render,
    sessions::{Found, SessionsContent},
};
use crate::{
    AnswerBody, Inner, RequestBody, answer,
    apps::{publish, route::AppRoute},
    browser::{Keys, Visitor},
    cache::Purge,
    history::Range,
    jobs::JobVerb,
    queues::QueueVerb,
    refusal::Refusal,
    route::{self, decoded},
    sessions,
    sign_in::SignedIn,
};
use askama::Template;
use common::config::Config;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use proto::hub::v1::{Member, MemberAdmin};
use std::{sync::Arc, time::Duration};

/// Said by the page's own script, whose asking keeps no session alive.
const X_COPAL_REFRESH: HeaderName = HeaderName::from_static("x-copal-refresh");

/// What the hub has on disk this server hears within this.
const KNOWN: Duration = Duration::from_secs(1);

/// A word for what has been done, which [`done_text`] puts into a sentence.
pub(super) type Done = &'static str;

/// What a browser asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Page(Page),
    Server(String),
    Queue(String),
    Pipeline(String),
    Asset(Asset),
    SignInForm,
    SignIn,
    SignOut,
    SetAdmin {
        id: String,
        admin: MemberAdmin,
    },
    HandOverLead {
        to: String,
    },
    Upload,
    App(AppRoute),
    FindSession,
    InvalidateSession,
    PurgeCache,
    ManageQueue(String, QueueVerb),
    ManageJob(String, JobVerb),
    /// Of this pipeline.
    EndRun(String),
    ClearAppCache,
}

impl Asked {
    /// What a request is for; `None`: it is not a browser's.
    pub(crate) fn of<B>(prefix: &str, request: &Request<B>) -> Option<Self> {
        let below = request.uri().path().strip_prefix(prefix)?;
        let parts: Vec<&str> = below.trim_end_matches('/').split('/').collect();
        let method = request.method();
        if method == Method::GET || method == Method::HEAD {
            return match parts[..] {
                [""] if is_wanted(request.headers()) => Some(Self::Page(Page::Overview)),
                ["", "assets", name] => Asset::named(name).map(Self::Asset),
                ["", "sign-in"] => Some(Self::SignInForm),
                ["", "servers", id] => Some(Self::Server(decoded(id))),
                ["", "queues", name] => Some(Self::Queue(decoded(name))),
                ["", "pipelines", name] => Some(Self::Pipeline(decoded(name))),
                ["", page] => Page::at(page).map(Self::Page),
                _ => None,
            };
        }
        if method != Method::POST {
            return None;
        }
        match parts[..] {
            ["", "sign-in"] => Some(Self::SignIn),
            ["", "sign-out"] => Some(Self::SignOut),
            // Its answer is the page, so that the page's own refreshing finds one.
            ["", "sessions"] => Some(Self::FindSession),
            ["", "actions", "cache", "purge"] => Some(Self::PurgeCache),
            ["", "actions", "sessions", "invalidate"] => Some(Self::InvalidateSession),
            ["", "actions", "servers", id, verb] => {
                Some(Self::SetAdmin { id: decoded(id), admin: route::admin(verb).ok()? })
            }
            ["", "actions", "upload"] => Some(Self::Upload),
            ["", "actions", "triad", to, "lead"] => Some(Self::HandOverLead { to: decoded(to) }),
            ["", "actions", "queues", name, verb] => {
                Some(Self::ManageQueue(decoded(name), QueueVerb::of(verb).ok()?))
            }
            ["", "actions", "pipelines", name, "end"] => Some(Self::EndRun(decoded(name))),
            ["", "actions", "app-caches", "clear"] => Some(Self::ClearAppCache),
            ["", "actions", "jobs", name, verb] => {
                Some(Self::ManageJob(decoded(name), JobVerb::of(verb).ok()?))
            }
            ["", "actions", ref rest @ ..] => {
                let route = AppRoute::of(method, rest, request.uri()).ok()?;
                matches!(route, AppRoute::RollBack(_) | AppRoute::Restart(_)).then_some(Self::App(route))
            }
            _ => None,
        }
    }

    /// Where an action leads back to.
    fn page(&self) -> Page {
        match self {
            Self::Page(page) => *page,
            Self::SetAdmin { .. } | Self::Server(_) => Page::Servers,
            Self::HandOverLead { .. } => Page::Triad,
            Self::App(_) | Self::Upload => Page::Apps,
            Self::FindSession | Self::InvalidateSession => Page::Sessions,
            Self::PurgeCache => Page::Cache,
            Self::Queue(_) | Self::ManageQueue(..) => Page::Queues,
            Self::Pipeline(_) | Self::EndRun(_) => Page::Pipelines,
            Self::ManageJob(..) => Page::Jobs,
            Self::ClearAppCache => Page::AppCaches,
            Self::Asset(_) | Self::SignInForm | Self::SignIn | Self::SignOut => Page::Overview,
        }
    }

    /// The same with what was looked at there.
    fn way_back(&self, form: &Form) -> String {
        let list = form.field("list");
        match self {
            Self::ManageQueue(name, _) if list.is_empty() => queue::way_back(name, form),
            Self::EndRun(name) => pipeline::way_back(name, form),
            Self::ManageQueue(..) | Self::ManageJob(..) => {
                format!("{}?{}", self.page().path(), ListQuery::read(list).fields())
            }
            _ => self.page().path().to_owned(),
        }
    }
}

/// A way with the word for what was done.
fn with_done(way: &str, done: Done) -> String {
    match way.split_once('?') {
        Some((path, query)) => format!("{path}?done={done}&{query}"),
        None => format!("{way}?done={done}"),
    }
}

#[derive(Debug, Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    prefix: &'a str,
    why: String,
    to: &'a str,
}

/// The page that lets a user in. A browser shows it, so it does not ask by `WWW-Authenticate`, which would bring up a dialogue.
fn sign_in_page(prefix: &str, to: Page, refusal: Option<&Refusal>) -> Response<AnswerBody> {
    let (status, why) = match refusal {
        None => (StatusCode::OK, String::new()),
        Some(Refusal::SignIn(_)) => (StatusCode::UNAUTHORIZED, String::new()),
        Some(refusal) => (refusal.status(), refusal.to_string()),
    };
    let page = SignInPage { prefix, why, to: to.path() };
    html(status, super::text(&page))
}

impl Inner {
    /// Answers what a browser asks for.
    pub(crate) async fn browse(
        self: &Arc<Self>,
        config: &Config,
        prefix: &str,
        asked: Asked,
        request: Request<RequestBody>,
    ) -> Response<AnswerBody> {
        let (head, body) = request.into_parts();
        let headers = &head.headers;
        match asked {
            Asked::Asset(asset) => asset.answer(headers),
            Asked::SignInForm => sign_in_page(prefix, Page::Overview, None),
            Asked::SignIn => self.signs_in(config, prefix, headers, body).await,
            Asked::Page(_) | Asked::Server(_) | Asked::Queue(_) | Asked::Pipeline(_) => {
                self.shows(config, prefix, &asked, headers, head.uri.query().unwrap_or_default()).await
            }
            asked => {
                let page = asked.page();
                let done = match asked {
                    Asked::Upload => {
                        let uploaded = self.upload(config, headers, body).await;
                        uploaded.map(|()| see_other(prefix, "/apps?done=upload"))
                    }
                    asked => self.acts(config, prefix, asked, headers, body).await,
                };
                match done {
                    Ok(response) => response,
                    Err((None, refusal)) => sign_in_page(prefix, page, Some(&refusal)),
                    Err((Some(visitor), refusal)) => {
                        let why = (refusal.status(), refusal.to_string());
                        self.refused_page(config, prefix, (page, &visitor), why).await
                    }
                }
            }
        }
    }

    async fn shows(
        &self,
        config: &Config,
        prefix: &str,
        asked: &Asked,
        headers: &HeaderMap,
        query: &str,
    ) -> Response<AnswerBody> {
        let page = asked.page();
        let mut visitor = match self.visitor(config, headers).await {
            Ok(visitor) => visitor,
            // A tool that brought something wrong is told as ever.
            Err(refusal) if headers.contains_key(header::AUTHORIZATION) => {
                self.note_failure(&refusal, headers);
                return refusal.response();
            }
            Err(refusal) => return sign_in_page(prefix, page, Some(&refusal)),
        };
        let fields = Form::read(query);
        visitor.done = done_text(fields.field("done")).to_owned();
        let refreshes = headers.contains_key(X_COPAL_REFRESH);
        // A page that shows itself anew keeps its graphs.
        let range = (!refreshes).then(|| Range::named(fields.field("range")).unwrap_or_default());
        let mut response = match asked {
            Asked::Server(id) => self.server_page(config, prefix, id, (&visitor, range)).await,
            Asked::Queue(name) => self.queue_page(config, prefix, name, (&visitor, headers, &fields)).await,
            Asked::Pipeline(name) => {
                self.pipeline_page(config, prefix, name, (&visitor, headers, &fields)).await
            }
            _ => self.page(config, prefix, (page, query), &visitor, range).await,
        };
        if !refreshes && let Some(cookie) = self.renewal(config, prefix, headers) {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        response
    }

    async fn signs_in(
        &self,
        config: &Config,
        prefix: &str,
        headers: &HeaderMap,
        body: RequestBody,
    ) -> Response<AnswerBody> {
        let body = match publish::form(body).await {
            Ok(body) => body,
            Err(refusal) => return sign_in_page(prefix, Page::Overview, Some(&refusal)),
        };
        let form = Form::read(&body);
        let to = Page::at(form.field("to").trim_start_matches('/')).unwrap_or(Page::Overview);
        let credentials = (form.field("user"), form.field("password"));
        match self.sign_in_by_form(config, headers, credentials).await {
            Ok(session) => {
                let user = config.admin_users.iter().find(|it| it.name == session.user);
                user.into_iter().for_each(|user| {
                    self.note_session("sign-in", &SignedIn::new(user.clone(), None, headers));
                });
                let cookie = self.set_cookie(config, prefix, headers, user.map(|user| (&session, user)));
                let mut response = see_other(prefix, to.path());
                response.headers_mut().insert(header::SET_COOKIE, cookie);
                response
            }
            Err(refusal) => {
                self.note_failure(&refusal, headers);
                sign_in_page(prefix, to, Some(&refusal))
            }
        }
    }

    /// Does what a form of a signed-in user asks for.
    async fn acts(
        self: &Arc<Self>,
        config: &Config,
        prefix: &str,
        asked: Asked,
        headers: &HeaderMap,
        body: RequestBody,
    ) -> Result<Response<AnswerBody>, (Option<Visitor>, Refusal)> {
        let Some((session, user)) = self.session(config, headers) else {
            return Err((None, Refusal::SignIn("sign in")));
        };
        let keys = Keys::new(config, &self.browser_key);
        let visitor =
            || Some(Visitor { user: user.clone(), token: Some(session.token(&keys)), done: String::new() });
        let body = publish::form(body).await.map_err(|refusal| (visitor(), refusal))?;
        let form = Form::read(&body);
        if !session.made(form.field("token"), &keys) {
            return Err((visitor(), Refusal::FormToken));
        }
        let asker = SignedIn::new(user.clone(), None, headers);
        if asked == Asked::SignOut {
            self.note_session("sign-out", &asker);
            let mut response = see_other(prefix, "/sign-in");
            let cookie = self.set_cookie(config, prefix, headers, None);
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            return Ok(response);
        }
        if asked == Asked::FindSession {
            let found = self.found_page(config, prefix, form.field("id"), visitor).await;
            return found.map_err(|refusal| (visitor(), refusal));
        }
        let way = asked.way_back(&form);
        let done = self.act(config, &asker, asked, &form).await.map_err(|refusal| (visitor(), refusal))?;
        Ok(see_other(prefix, &with_done(&way, done)))
    }

    /// The page of sessions with what there is of one. Its id is in the form alone.
    async fn found_page(
        &self,
        config: &Config,
        prefix: &str,
        id: &str,
        visitor: impl Fn() -> Option<Visitor>,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let id = sessions::id(id)?;
        let found = self.find_session(config, &id).await?;
        let (sessions, cluster) = tokio::join!(self.sessions(config), self.cluster(config));
        let content = Content::Sessions(SessionsContent { sessions, found: Some(Found { id, found }) });
        let visitor = visitor().ok_or(Refusal::SignIn("sign in"))?;
        Ok(html(StatusCode::OK, render(prefix, content, &visitor, &cluster)))
    }

    /// The same as the API does; returns what [`done_text`] puts into words.
    async fn act(
        self: &Arc<Self>,
        config: &Config,
        asker: &SignedIn,
        asked: Asked,
        form: &Form,
    ) -> Result<Done, Refusal> {
        match asked {
            Asked::HandOverLead { to } => {
                self.hand_over(asker, &to).await?;
                self.collector.forget().await;
                Ok("lead")
            }
            Asked::SetAdmin { id, admin, .. } => {
                asker.must_operate()?;
                self.set_admin(config, asker, &id, admin, false).await?;
                // The page that follows is to show it.
                let mut members = self.members.clone();
                let is_known = |it: &Member| it.id == id && it.admin() == admin;
                let known = members.wait_for(|all| all.iter().any(is_known));
                let _late = tokio::time::timeout(KNOWN, known).await.is_err();
                self.collector.forget().await;
                Ok(crate::servers::admin(admin))
            }
            Asked::App(route) => {
                let done = if matches!(route, AppRoute::RollBack(_)) { "rollback" } else { "restart" };
                // As an API client that wants nothing in particular.
                let nothing = Empty::new().map_err(|never| match never {}).boxed_unsync();
                self.apps(config, asker, route, nothing).await?;
                self.collector.forget().await;
                Ok(done)
            }
            Asked::InvalidateSession => {
                let ended = self.invalidate_session(config, asker, &sessions::id(form.field("id"))?).await?;
                self.collector.forget().await;
                Ok(if ended.apps.is_empty() { "no-session" } else { "invalidated" })
            }
            Asked::PurgeCache => {
                let purged = self.purge_cache(config, asker, &Purge::of_form(form)?).await?;
                self.collector.forget().await;
                Ok(if purged.silent.is_empty() { "purged" } else { "purged-partly" })
            }
            Asked::ManageQueue(name, verb) => self.queue_form(asker, &name, verb, form).await,
            Asked::EndRun(name) => {
                let done = self.end_run(asker, &name, form.field("run").trim()).await?;
                Ok(if done.over { "run-over" } else { "run-ended" })
            }
            Asked::ClearAppCache => {
                let cleared = self.clear_app_cache(asker, form.field("cache").trim()).await?;
                Ok(if cleared.unknown { "cache-unknown" } else { "cache-cleared" })
            }
            Asked::ManageJob(name, verb) => self.job_form(asker, &name, verb).await,
            Asked::Page(_)
            | Asked::Server(_)
            | Asked::Queue(_)
            | Asked::Pipeline(_)
            | Asked::Asset(_)
            | Asked::SignInForm
            | Asked::SignIn
            | Asked::SignOut
            | Asked::FindSession
            | Asked::Upload => Err(Refusal::NotFound),
        }
    }
}

/// What has been done, told once; what a link says in place of these is told nobody.
fn done_text(done: &str) -> &'static str {
    match done {
        "enabled" => "The server is enabled: web-tiers send it requests.",
        "disabled" => "The server is disabled: web-tiers send it nothing new.",
        "disabled-soft" => "The server is disabled softly: it gets requests of its own sessions alone.",
        "upload" => "The archive was taken in. Its servers prepare it; below stands how far they are.",
        "lead" => "The lead was handed over.",
        "rollback" => "The version before is being put into use.",
        "restart" => "The app is being started anew.",
        "invalidated" => "The session has ended: who comes with it begins anew, on every server.",
        "purged" => "Every web-tier has forgotten it, or asks its server first.",
        "purged-partly" => {
            "Not every web-tier has answered: one that has not may still have it until it hears the hub again."
        }
        "queue-paused" => "The queue is paused: it hands out nothing until it is resumed.",
        "queue-resumed" => "The queue hands out messages again.",
        "queue-purged" => "The messages are gone.",
        "queue-replayed" => "What was dead is ready again, behind the others.",
        "queue-nothing" => "There was no such message any more.",
        "run-ended" => "The run has ended: what is left of it is dropped.",
        "run-over" => "The run was over before.",
        "cache-cleared" => "The cache is cleared: whoever reads it finds nothing of before.",
        "cache-unknown" => {
            "The hub had nothing of a cache of this name. What servers have of an invalidated one is gone; a local one is each server's own, and stays."
        }
        "job-paused" => "The job is paused: its times are left out until it is resumed.",
        "job-resumed" => "The job goes by its times again.",
        "job-runs" => "The job is begun now, besides its times.",
        "job-ran" => "The job was running already: it was not begun again.",
        "job-removed" => "The job is removed.",
        "no-session" => "There was no session of this id any more.",
        _ => "",
    }
}

/// To a page of ours, by a GET.
fn see_other(prefix: &str, path: &str) -> Response<AnswerBody> {
    let mut response = answer(StatusCode::SEE_OTHER, "text/plain; charset=utf-8", String::new());
    if let Ok(location) = HeaderValue::try_from(format!("{prefix}{path}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}
