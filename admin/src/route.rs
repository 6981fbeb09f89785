//! What a request asks for.

use crate::{
    apps::route::AppRoute,
    audit::AuditQuery,
    git::route::{self, GitRoute},
    history::Question,
    jobs::{JobVerb, JobsQuery},
    logs::LogQuery,
    pipelines::RunsQuery,
    queues::{MessagesQuery, QueueVerb},
    refusal::Refusal,
};
use http::{Method, Request, Uri};
use percent_encoding::percent_decode_str;
use proto::hub::v1::MemberAdmin;

/// What there is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `GET /`.
    Index,
    /// `GET /api/servers`.
    Servers,
    /// `POST /api/servers/ID/VERB`, with `?force=true` to take the last server of a cluster away.
    SetAdmin { id: String, admin: MemberAdmin, force: bool },
    /// `GET /api/v1/triad`.
    Triad,
    /// `POST /api/v1/triad/lead`.
    HandOverLead,
    /// `GET /api/v1/health`.
    Health,
    /// `GET /api/v1/audit?before=NUMBER&limit=COUNT&kind=KIND`.
    Audit(AuditQuery),
    /// `GET /api/v1/status`.
    Status,
    /// `GET /api/v1/servers/ID`.
    Server(String),
    /// `GET /api/v1/history?range=…&server=…`.
    History(Question),
    /// `GET /api/v1/logs`.
    Logs(LogQuery),
    /// `GET /api/v1/requests`.
    Requests,
    /// `GET /api/v1/sessions`.
    Sessions,
    /// `POST /api/v1/sessions/find`, the id in the body: it is to be in no URL.
    FindSession,
    /// `POST /api/v1/sessions/invalidate`.
    InvalidateSession,
    /// `GET /api/v1/cache`.
    Cache,
    /// `POST /api/v1/cache/purge`.
    PurgeCache,
    /// `GET /api/v1/app-caches`.
    AppCaches,
    /// `POST /api/v1/app-caches/CACHE/clear`.
    ClearAppCache(String),
    /// `GET /api/v1/daemons`.
    Daemons,
    /// `GET /api/v1/jobs?find=…&skip=…&limit=…`.
    Jobs(JobsQuery),
    /// `POST /api/v1/jobs/JOB/VERB`.
    ManageJob(String, JobVerb),
    /// `GET /api/v1/queues`.
    Queues,
    /// `GET /api/v1/queues/QUEUE/messages?which=…`.
    QueueMessages(String, MessagesQuery),
    /// `POST /api/v1/queues/QUEUE/VERB`.
    ManageQueue(String, QueueVerb),
    /// `GET /api/v1/pipelines`.
    Pipelines,
    /// `GET /api/v1/pipelines/PIPELINE/runs?which=…`.
    PipelineRuns(String, RunsQuery),
    /// `POST /api/v1/pipelines/PIPELINE/runs/RUN/end`.
    EndRun(String, String),
    /// `GET /api/v1/configuration`.
    Configuration,
    /// `GET /metrics`, of this server.
    Metrics,
    /// `GET /stats;csv`.
    StatsCsv,
    /// `GET /metrics/SERVER`.
    MetricsOf(String),
    /// `GET /api/v1/openapi.json`.
    OpenApi,
    /// `GET /api/v1/tokens`.
    ListTokens,
    /// `POST /api/v1/tokens`.
    CreateToken,
    /// `DELETE /api/v1/tokens/NAME`, or `/ID`.
    RevokeToken(String),
    /// The rest below `/api/v1`.
    Apps(AppRoute),
    /// `/deploy.git/…` and `/git/…`.
    Git(GitRoute),
}

impl Route {
    /// Of a request to the web-app `prefix`.
    ///
    /// # Errors
    /// Nothing is there, or not for this method.
    pub(crate) fn of<B>(prefix: &str, request: &Request<B>) -> Result<Self, Refusal> {
        let below = request.uri().path().strip_prefix(prefix).ok_or(Refusal::NotFound)?;
        let parts: Vec<&str> = below.trim_end_matches('/').split('/').collect();
        let told = match parts[..] {
            ["", "api", "v1", ref rest @ ..] => Self::told(rest, request.uri())?,
            _ => None,
        };
        let (route, method) = match (told, &parts[..]) {
            (Some(told), _) => told,
            (None, parts) => Self::other(parts, below, request)?,
        };
        let asked = request.method();
        if *asked == method || (*asked == Method::HEAD && method == Method::GET) {
            return Ok(route);
        }
        Err(Refusal::Method(match route {
            Self::ListTokens => "GET, HEAD, POST",
            Self::RevokeToken(_) => "DELETE",
            Self::SetAdmin { .. }
            | Self::HandOverLead
            | Self::FindSession
            | Self::InvalidateSession
            | Self::PurgeCache
            | Self::ManageQueue(..)
            | Self::EndRun(..)
            | Self::ClearAppCache(_)
            | Self::ManageJob(..) => "POST",
            _ => "GET, HEAD",
        }))
    }

    /// What the pages show, as JSON: of a path below `/api/v1`.
    fn told(parts: &[&str], uri: &Uri) -> Result<Option<(Self, Method)>, Refusal> {
        Ok(Some(match *parts {
            ["triad"] => (Self::Triad, Method::GET),
            ["triad", "lead"] => (Self::HandOverLead, Method::POST),
            ["health"] => (Self::Health, Method::GET),
            ["audit"] => (Self::Audit(AuditQuery::of(uri)?), Method::GET),
            ["status"] => (Self::Status, Method::GET),
            ["servers", id] => (Self::Server(decoded(id)), Method::GET),
            ["history"] => (Self::History(Question::of(uri.query().unwrap_or_default())?), Method::GET),
            ["logs"] => (Self::Logs(LogQuery::read(uri.query().unwrap_or_default())?), Method::GET),
            ["requests"] => (Self::Requests, Method::GET),
            ["sessions"] => (Self::Sessions, Method::GET),
            ["sessions", "find"] => (Self::FindSession, Method::POST),
            ["sessions", "invalidate"] => (Self::InvalidateSession, Method::POST),
            ["cache"] => (Self::Cache, Method::GET),
            ["cache", "purge"] => (Self::PurgeCache, Method::POST),
            ["app-caches"] => (Self::AppCaches, Method::GET),
            ["app-caches", name, "clear"] => (Self::ClearAppCache(decoded(name)), Method::POST),
            ["daemons"] => (Self::Daemons, Method::GET),
            ["jobs"] => (Self::Jobs(JobsQuery::of(uri.query().unwrap_or_default())?), Method::GET),
            ["jobs", name, verb] => (Self::ManageJob(decoded(name), JobVerb::of(verb)?), Method::POST),
            ["queues"] => (Self::Queues, Method::GET),
            ["queues", name, "messages"] => {
                let query = MessagesQuery::of(uri.query().unwrap_or_default())?;
                (Self::QueueMessages(decoded(name), query), Method::GET)
            }
            ["queues", name, verb] => (Self::ManageQueue(decoded(name), QueueVerb::of(verb)?), Method::POST),
            ["pipelines"] => (Self::Pipelines, Method::GET),
            ["pipelines", name, "runs"] => {
                let query = RunsQuery::of(uri.query().unwrap_or_default())?;
                (Self::PipelineRuns(decoded(name), query), Method::GET)
            }
            ["pipelines", name, "runs", run, "end"] => {
                (Self::EndRun(decoded(name), decoded(run)), Method::POST)
            }
            ["configuration"] => (Self::Configuration, Method::GET),
            _ => return Ok(None),
        }))
    }

    /// All else. What has further methods looks at them itself.
    fn other<B>(parts: &[&str], below: &str, request: &Request<B>) -> Result<(Self, Method), Refusal> {
        Ok(match *parts {
            [""] => (Self::Index, Method::GET),
            ["", "stats;csv"] => (Self::StatsCsv, Method::GET),
            ["", "metrics"] => (Self::Metrics, Method::GET),
            ["", "metrics", id] => (Self::MetricsOf(decoded(id)), Method::GET),
            ["", "api", "v1", "openapi.json"] => (Self::OpenApi, Method::GET),
            ["", "api", "v1", "tokens"] if *request.method() == Method::POST => {
                (Self::CreateToken, Method::POST)
            }
            ["", "api", "v1", "tokens"] => (Self::ListTokens, Method::GET),
            ["", "api", "v1", "tokens", named] => (Self::RevokeToken(decoded(named)), Method::DELETE),
            ["", "api", "v1", ref rest @ ..] => {
                let route = AppRoute::of(request.method(), rest, request.uri())?;
                (Self::Apps(route), request.method().clone())
            }
            ["", ref rest @ ..] if route::is_git(below) => {
                let route = GitRoute::of(request.method(), rest, request.uri())?;
                (Self::Git(route), request.method().clone())
            }
            ["", "api", "servers"] => (Self::Servers, Method::GET),
            ["", "api", "servers", id, verb] => {
                let force = request.uri().query() == Some("force=true");
                (Self::SetAdmin { id: id.to_owned(), admin: admin(verb)?, force }, Method::POST)
            }
            _ => return Err(Refusal::NotFound),
        })
    }
}

/// A part of a path.
pub(crate) fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

pub(crate) fn admin(verb: &str) -> Result<MemberAdmin, Refusal> {
    match verb {
        "enable" => Ok(MemberAdmin::Enabled),
        "disable" => Ok(MemberAdmin::Disabled),
        "disable-soft" => Ok(MemberAdmin::DisabledSoft),
        _ => Err(Refusal::NotFound),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: &str, prefix: &str, target: &str) -> String {
        let request = Request::builder().method(method).uri(target).body(()).unwrap();
        match Route::of(prefix, &request) {
            Ok(Route::SetAdmin { id, admin, force }) => format!("{id} {admin:?} {force}"),
            Ok(route) => format!("{route:?}"),
            Err(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn paths_lead_where_they_say() {
        assert_eq!(route("GET", "/admin", "/admin"), "Index");
        assert_eq!(route("HEAD", "/admin", "/admin/"), "Index");
        assert_eq!(route("GET", "", "/"), "Index");
        assert_eq!(route("GET", "/a/b", "/a/b/api/servers"), "Servers");
        assert_eq!(route("POST", "/admin", "/admin/api/servers/app-b/disable"), "app-b Disabled false");
        assert_eq!(route("POST", "", "/api/servers/a/disable-soft?force=true"), "a DisabledSoft true");
        assert_eq!(route("POST", "", "/api/servers/a/enable?force=false"), "a Enabled false");
        assert_eq!(route("GET", "", "/api/v1/openapi.json"), "OpenApi");
        assert_eq!(route("GET", "", "/api/v1/triad"), "Triad");
        assert_eq!(route("GET", "", "/api/v1/servers/app%2Da"), "Server(\"app-a\")");
        assert!(
            route("GET", "", "/api/v1/history?range=6h").starts_with("History(Question { range: SixHours,")
        );
        assert_eq!(route("POST", "", "/api/v1/history"), "this path takes GET, HEAD alone");
        for queue in ["job:report", "job%3Areport"] {
            let path = format!("/api/v1/queues/{queue}/pause");
            assert_eq!(route("POST", "", &path), "ManageQueue(\"job:report\", Pause)");
        }
        assert_eq!(route("POST", "", "/api/v1/app-caches/prices/clear"), "ClearAppCache(\"prices\")");
        assert_eq!(route("GET", "", "/api/v1/daemons"), "Daemons");
        assert_eq!(route("POST", "", "/api/v1/pipelines/album/runs/17/end"), "EndRun(\"album\", \"17\")");
        assert_eq!(route("GET", "", "/api/v1/pipelines/album/runs/17/end"), "this path takes POST alone");
        assert_eq!(route("GET", "", "/api/v1/jobs?limit=x"), "limit: expected a number");
        assert_eq!(route("HEAD", "", "/api/v1/tokens"), "ListTokens");
        assert_eq!(route("POST", "", "/api/v1/tokens/"), "CreateToken");
        assert_eq!(route("DELETE", "", "/api/v1/tokens/c%69"), "RevokeToken(\"ci\")");
        assert_eq!(route("PUT", "", "/api/v1/tokens"), "this path takes GET, HEAD, POST alone");
        assert_eq!(route("GET", "", "/api/v1/tokens/ci"), "this path takes DELETE alone");
        assert_eq!(route("POST", "/admin", "/admin/api/servers"), "this path takes GET, HEAD alone");
        assert_eq!(route("GET", "/admin", "/admin/api/servers/app-b/disable"), "this path takes POST alone");
        for nowhere in [
            "/",
            "/admin/api",
            "/admin/api/servers/app-b",
            "/admin/api/servers/app-b/kill",
            "/admin//api/servers",
        ] {
            assert_eq!(route("GET", "/admin", nowhere), "there is nothing at this path", "{nowhere}");
        }
    }
}
