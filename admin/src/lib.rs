//! Administration over HTTP, mounted where a web-app has `admin: true`: who the servers are, and which of them take requests.
//!
//! A browser's way: [`Admin::answer`] → `pages` (docs/status-page.md), which show what `status` has asked all servers. A tool's: from this site? (`origin`) → who is it, and may they? (`sign_in`, `gate`; a program
//! with a `token`) → `servers` to look, `operate` to change, which waits until every web-tier goes by the change (`web_tiers`). docs/operating.md has the API.

mod app_caches;
mod apps;
mod ask;
mod audit;
mod browser;
mod cache;
mod configuration;
mod gate;
mod git;
mod health;
mod history;
mod jobs;
mod logs;
mod openapi;
mod operate;
mod origin;
mod pages;
mod pipelines;
mod queues;
mod refusal;
mod requests;
mod route;
mod servers;
mod sessions;
mod sign_in;
mod status;
#[cfg(test)]
mod tests;
mod timestamp;
mod token;
mod tokens;
mod triad;
mod web_tiers;

pub use apps::Deployments;
pub use health::HealthView;
pub use status::metrics::{Format, metrics};

use apps::{change, publish, record::AppRecord, route::AppRoute};
use bytes::Bytes;
use cluster_port::Credentials;
use common::{clock::Clock, config::Config, hub_age::LastHeard, id::ServerId};
use gate::Gate;
use git::GitPlaces;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use pages::actions::Asked;
use proto::{hub::v1::Member, status::v1::ServerStatus};
use refusal::Refusal;
use route::Route;
use serde::Serialize;
use sign_in::SignedIn;
use status::{collect::Collector, daemon::DaemonsRecord};
use std::{
    convert::Infallible,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::sync::{Semaphore, watch};
use triad_client::{Hub, Tokens};

/// How long an answer waits for the hub.
pub(crate) const HUB_WAIT: Duration = Duration::from_secs(5);

/// What the administration needs.
#[derive(Debug)]
pub struct AdminConfig {
    /// The whole file.
    pub config: Arc<Config>,
    /// This server.
    pub me: ServerId,
    /// Proves to the web-tiers that this is one of the cluster.
    pub credentials: Credentials,
    /// Where members and what an administrator says of them are kept.
    pub hub: Hub,
    /// The members, as the hub tells of them.
    pub members: watch::Receiver<Arc<Vec<Member>>>,
    /// Tokens by hash, as the hub tells of them.
    pub tokens: Tokens,
    /// When the hub has last given this server a sign of life.
    pub heard: LastHeard,
    /// Deployments; `None` where the file has no `deploy-service`.
    pub deployments: Option<Deployments>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The administration, as one server answers it; clones are the same one.
#[derive(Debug, Clone)]
pub struct Admin {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: RwLock<Arc<Config>>,
    me: ServerId,
    credentials: Credentials,
    hub: Hub,
    members: watch::Receiver<Arc<Vec<Member>>>,
    tokens: Tokens,
    heard: LastHeard,
    deployments: Option<Deployments>,
    clock: Arc<dyn Clock>,
    collector: Collector,
    notes: audit::Notes,
    health: HealthView,
    /// Signs browsers' sessions where the cluster has no key.
    browser_key: [u8; 32],
    gate: Gate,
    git: GitPlaces,
    /// Archives that are being taken in.
    uploads: Arc<Semaphore>,
}

/// A request's body, and why it may break off.
pub type RequestBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// An answer's body: small, or written while it is read.
pub type AnswerBody = UnsyncBoxBody<Bytes, Infallible>;

impl Admin {
    /// Ready to answer. Needs no network yet.
    pub fn new(config: AdminConfig) -> Self {
        let AdminConfig { config, me, credentials, hub, members, tokens, heard, deployments, clock } = config;
        let gate = Gate::new(clock.clone(), rand::random());
        let (config, uploads) = (RwLock::new(config), Arc::new(Semaphore::new(apps::archive::AT_ONCE)));
        let collector = Collector::new(&me, &credentials);
        let inner = Inner {
            config,
            me,
            credentials,
            hub,
            members,
            tokens,
            heard,
            deployments,
            clock,
            collector,
            notes: audit::Notes::default(),
            health: HealthView::default(),
            browser_key: rand::random(),
            gate,
            git: GitPlaces::default(),
            uploads,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Goes by another configuration: its users, roles and servers. Returns whether it has other users, or other roles for them.
    pub fn reload(&self, config: Arc<Config>) -> bool {
        let mut present = self.inner.config.write().unwrap_or_else(PoisonError::into_inner);
        let changed = present.admin_users != config.admin_users;
        *present = config;
        changed
    }

    /// What each server of the file says of itself, by its id there, now or less than a second ago. Who says nothing is left out.
    pub async fn statuses(&self) -> Vec<(String, ServerStatus)> {
        let snapshot = self.inner.snapshot(&self.inner.config()).await;
        snapshot.answers().map(|(id, answer)| (id.to_owned(), answer.status.clone())).collect()
    }

    /// How often somebody has failed to sign in.
    pub fn failed_sign_ins(&self) -> u64 {
        self.inner.gate.failures()
    }

    /// The answer to a request at the web-app `prefix` (its path without a slash at the end). The request has come from a web-tier
    /// over the cluster port: what it says of the client is believed. Nobody's body is read before who it is is known.
    pub async fn answer(&self, prefix: &str, request: Request<RequestBody>) -> Response<AnswerBody> {
        let is_git = request.uri().path().strip_prefix(prefix).is_some_and(git::route::is_git);
        let outcome = self.inner.route(prefix, request).await;
        outcome.unwrap_or_else(|refusal| if is_git { refusal.text() } else { refusal.response() })
    }
}

impl Inner {
    fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn route(
        self: &Arc<Self>,
        prefix: &str,
        request: Request<RequestBody>,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let (config, headers) = (self.config(), request.headers());
        if *request.method() != Method::GET && *request.method() != Method::HEAD {
            origin::check(headers)?;
        }
        if let Some(asked) = Asked::of(prefix, &request) {
            return Ok(self.browse(&config, prefix, asked, request).await);
        }
        let asker = self.asker(&config, request.method(), headers).await;
        let asker = asker.inspect_err(|refusal| self.note_failure(refusal, headers))?;
        match Route::of(prefix, &request)? {
            Route::Index => Ok(text(&index(prefix))),
            Route::Servers => {
                let members = self.hub.members(HUB_WAIT).await?;
                Ok(json(StatusCode::OK, &servers::List { servers: servers::list(&config, &members) }))
            }
            Route::SetAdmin { id, admin, force } => {
                asker.must_operate()?;
                let done = self.set_admin(&config, &asker, &id, admin, force).await?;
                Ok(json(StatusCode::OK, &done))
            }
            Route::HandOverLead => {
                self.hand_over_lead(&asker, &publish::text(request.into_body()).await?).await
            }
            Route::Metrics => self.metrics(&config, self.me.as_str(), headers).await,
            Route::StatsCsv => {
                let table = status::csv::csv(&*self.snapshot(&config).await, &config);
                Ok(answer(StatusCode::OK, "text/plain; charset=utf-8", table))
            }
            Route::MetricsOf(id) => self.metrics(&config, &id, headers).await,
            Route::OpenApi => Ok(openapi::describe(prefix)),
            Route::ListTokens => self.list_tokens().await,
            Route::CreateToken => self.create_token(&asker, &publish::text(request.into_body()).await?).await,
            Route::RevokeToken(named) => self.revoke_token(&asker, &named).await,
            Route::Apps(route) => self.apps(&config, &asker, route, request.into_body()).await,
            Route::Git(route) => self.git(&config, &asker, route, request).await,
            route => self.tells(&config, &asker, route, request.into_body()).await,
        }
    }

    /// What the pages show, as JSON.
    async fn tells(
        &self,
        config: &Config,
        asker: &SignedIn,
        route: Route,
        body: RequestBody,
    ) -> Result<Response<AnswerBody>, Refusal> {
        match route {
            Route::Triad => Ok(json(StatusCode::OK, &triad::ask(&self.hub).await)),
            Route::Status => Ok(json(StatusCode::OK, &*self.cluster(config).await)),
            Route::Server(id) => self.server(config, id).await,
            Route::History(question) => Ok(json(StatusCode::OK, &self.past(config, &question).await?)),
            Route::Logs(query) => {
                let unknown = !query.server.is_empty()
                    && !config.servers().any(|(_, it)| it.id.as_str() == query.server);
                if unknown {
                    return Err(unknown_server(config, &query.server));
                }
                Ok(json(StatusCode::OK, &self.logs(config, &query).await))
            }
            Route::Requests => Ok(json(StatusCode::OK, &self.requests(config).await)),
            Route::Sessions => Ok(json(StatusCode::OK, &self.sessions(config).await)),
            Route::FindSession => {
                let id = sessions::named(&publish::text(body).await?)?;
                Ok(json(StatusCode::OK, &self.find_session(config, &id).await?))
            }
            Route::InvalidateSession => {
                let id = sessions::named(&publish::text(body).await?)?;
                Ok(json(StatusCode::OK, &self.invalidate_session(config, asker, &id).await?))
            }
            Route::Cache => Ok(json(StatusCode::OK, &self.cache(config).await)),
            Route::AppCaches => Ok(json(StatusCode::OK, &self.app_caches(config).await)),
            Route::PurgeCache => {
                let purge = cache::Purge::read(&publish::text(body).await?)?;
                Ok(json(StatusCode::OK, &self.purge_cache(config, asker, &purge).await?))
            }
            Route::Configuration => Ok(json(StatusCode::OK, &self.configuration(config).await)),
            Route::Health => self.health_answer(config).await,
            Route::Audit(query) => self.audit_answer(&query).await,
            Route::Daemons => Ok(json(StatusCode::OK, &DaemonsRecord::of(&*self.cluster(config).await))),
            route => self.shares(asker, route, body).await,
        }
    }

    /// The same of what apps share.
    async fn shares(
        &self,
        asker: &SignedIn,
        route: Route,
        body: RequestBody,
    ) -> Result<Response<AnswerBody>, Refusal> {
        match route {
            Route::Jobs(query) => Ok(json(StatusCode::OK, &self.jobs(&query).await)),
            Route::ManageJob(job, verb) => {
                Ok(json(StatusCode::OK, &self.manage_job(asker, &job, verb).await?))
            }
            Route::ClearAppCache(cache) => {
                Ok(json(StatusCode::OK, &self.clear_app_cache(asker, &cache).await?))
            }
            Route::Queues => Ok(json(StatusCode::OK, &self.queues().await)),
            Route::QueueMessages(queue, query) => {
                Ok(json(StatusCode::OK, &self.queue_messages(asker, &queue, &query).await?))
            }
            Route::ManageQueue(queue, verb) => {
                let body = publish::text(body).await?;
                Ok(json(StatusCode::OK, &self.manage_queue(asker, &queue, verb, &body).await?))
            }
            Route::Pipelines => Ok(json(StatusCode::OK, &self.pipelines().await)),
            Route::PipelineRuns(pipeline, query) => {
                Ok(json(StatusCode::OK, &self.pipeline_runs(asker, &pipeline, &query).await?))
            }
            Route::EndRun(pipeline, run) => {
                Ok(json(StatusCode::OK, &self.end_run(asker, &pipeline, &run).await?))
            }
            _ => Err(Refusal::NotFound),
        }
    }
}

impl Inner {
    async fn apps(
        &self,
        config: &Config,
        asker: &SignedIn,
        route: AppRoute,
        body: RequestBody,
    ) -> Result<Response<AnswerBody>, Refusal> {
        self.deployments()?;
        if route.changes() {
            asker.must_deploy()?;
        }
        match route {
            AppRoute::List => {
                let (apps, members) = (self.hub.apps(HUB_WAIT).await?, self.hub.members(HUB_WAIT).await?);
                let there = apps.iter().filter(|it| apps::is_there(it));
                let apps = there.filter_map(|app| AppRecord::of(app, &members, config)).collect();
                Ok(json(StatusCode::OK, &apps::record::List { apps }))
            }
            AppRoute::Show { tag, after, wait } => self.watch_app(config, &tag, after.as_deref(), wait).await,
            AppRoute::Deploy(tag) => {
                let deploy = change::read(&publish::text(body).await?)?;
                self.deploy(config, asker, &tag, deploy).await
            }
            AppRoute::Archive(tag, upload) => self.deploy_archive(config, asker, &tag, upload, body).await,
            AppRoute::Undeploy(tag) => self.undeploy(asker, &tag).await,
            AppRoute::SetStopped(tag, stopped) => self.set_stopped(config, asker, &tag, stopped).await,
            AppRoute::Restart(tag) => {
                let how = change::read(&publish::text(body).await?)?;
                self.restart(config, asker, &tag, &how).await
            }
            AppRoute::RollBack(tag) => {
                let how = change::read(&publish::text(body).await?)?;
                self.roll_back(config, asker, &tag, &how).await
            }
            AppRoute::Copy(tag) => {
                let how = change::read(&publish::text(body).await?)?;
                self.copy(config, asker, &tag, &how).await
            }
            AppRoute::Log(tag) => self.log(&tag).await,
            AppRoute::Diff { tag, from, to } => self.diff(&tag, &from, &to).await,
            AppRoute::Ls { tag, path } => self.ls(&tag, &path).await,
            AppRoute::Cat { tag, path } => self.cat(&tag, &path).await,
            AppRoute::Room(bytes) => self.hub_room(bytes).await,
            AppRoute::Missing => self.missing(&publish::text(body).await?).await,
            AppRoute::Store => self.store(body).await,
        }
    }
}

impl Inner {
    /// Who a request of the API comes from. Who has signed in with a browser may look.
    async fn asker(
        &self,
        config: &Config,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<SignedIn, Refusal> {
        let looks = *method == Method::GET || *method == Method::HEAD;
        if looks
            && !headers.contains_key(header::AUTHORIZATION)
            && let Some((_, user)) = self.session(config, headers)
        {
            return Ok(SignedIn::new(user.clone(), None, headers));
        }
        self.sign_in(config, headers).await
    }

    /// What the server `id` says of itself, for scrapers.
    async fn metrics(
        &self,
        config: &Config,
        id: &str,
        headers: &HeaderMap,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let asked = self.collector.one(config, id, &*self.clock).await;
        let asked = asked.ok_or_else(|| unknown_server(config, id))?;
        let status = asked.map_err(|why| Refusal::Silent { id: id.to_owned(), why })?;
        let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok()).unwrap_or_default();
        let format = Format::of(accept);
        Ok(answer(StatusCode::OK, format.content_type(), metrics(&status, format)))
    }
}

fn unknown_server(config: &Config, id: &str) -> Refusal {
    let known = config.servers().map(|(_, it)| it.id.to_string()).collect();
    Refusal::UnknownServer { id: id.to_owned(), known }
}

/// What there is for tools; browsers get the status page.
fn index(prefix: &str) -> String {
    format!(
        "Copal administration. In a browser this is the status page; `deploy-tool status` prints a table. The JSON API:\n\n\
         GET  {prefix}/api/v1/status\n\
         GET  {prefix}/metrics\n\
         GET  {prefix}/api/servers\n\
         POST {prefix}/api/servers/ID/enable\n\
         POST {prefix}/api/servers/ID/disable\n\
         POST {prefix}/api/servers/ID/disable-soft\n\
         GET  {prefix}/api/v1/apps\n\n\
         and the rest, described after OpenAPI 3.1: {prefix}/api/v1/openapi.json\n\
         git clone {prefix}/deploy.git, git push {prefix}/git/NAME.git main (docs/git.md)\n"
    )
}

fn text(text: &str) -> Response<AnswerBody> {
    answer(StatusCode::OK, "text/plain; charset=utf-8", text.to_owned())
}

/// A JSON answer, on one line.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response<AnswerBody> {
    let mut line = serde_json::to_string(value).expect("records of texts, numbers and flags");
    line.push('\n');
    answer(status, "application/json", line)
}

/// Every answer is for the one who asked, and nothing in it is to be run or framed.
pub(crate) fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response<AnswerBody> {
    answer_bytes(status, content_type, body)
}

/// The same with whatever content.
pub(crate) fn answer_bytes(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<AnswerBody> {
    answer_with(status, content_type, Full::from(body.into()).boxed_unsync())
}

/// The same with a body that may take its time.
pub(crate) fn answer_with(
    status: StatusCode,
    content_type: &'static str,
    body: AnswerBody,
) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let fields = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in fields {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
