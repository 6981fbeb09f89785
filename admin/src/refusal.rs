//! Why a request is refused: the one place that maps it to a status and a text.

use crate::{AnswerBody, answer_bytes, json};
use deployments::PublishError;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use password_gate::Refused;
use serde::Serialize;
use std::time::Duration;
use triad_client::HubError;

/// What tells a web-tier that a request was not processed: docs/life-of-a-request.md.
const NOT_PROCESSED: HeaderName = HeaderName::from_static("copal-not-processed");

/// How many servers a refusal names.
const NAMED: usize = 64;

/// A refusal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "the configuration file has no `admin` `users`, so nobody may administrate: `deploy-tool password-generate` makes a line \
         for one"
    )]
    NoUsers,
    #[error("{0}")]
    SignIn(&'static str),
    #[error("wrong user or password")]
    Wrong,
    #[error(
        "there is no such token: is it a whole one, and of this cluster? `deploy-tool token create` makes one"
    )]
    WrongToken,
    #[error("the token {how}, {at}: `deploy-tool token create` makes another one")]
    TokenEnded { how: &'static str, at: String },
    #[error(
        "the token was made by the user `{user}`, who is not in the configuration file any more or has none of its roles: make \
         another one"
    )]
    TokenOrphan { user: String },
    #[error("a token may not make or revoke tokens: sign in with a user's password")]
    ByToken,
    #[error(
        "the user `{user}` may not give `{role}` to a token: it is not among the user's `roles` in the configuration file"
    )]
    TokenRole { user: String, role: &'static str },
    #[error("there is a token {name:?} already, by {user}: choose another name, or revoke that one")]
    TokenName { name: String, user: String },
    #[error("there are {0} valid tokens, as many as there may be: revoke one first")]
    TokensFull(u32),
    #[error("there is no token with the name or id {0:?}: `deploy-tool token list` shows them")]
    UnknownToken(String),
    #[error("the token is {of}'s: the user `{user}` needs `operate` among its `roles` to revoke it")]
    OthersToken { user: String, of: String },
    #[error("too many archives come in at once: try again")]
    Uploads,
    #[error("{0}")]
    DiskFull(String),
    #[error("the archive can't be kept while it is read: {0}")]
    Spool(std::io::Error),
    #[error("too many failed sign-ins from this address: try again in {} s", seconds(.0))]
    Slowed(Duration),
    #[error("too many sign-ins at once: try again")]
    Crowded,
    #[error("{0}: a page of another site may not administrate")]
    CrossSite(String),
    #[error("the form was made for another session: load the page anew, and try again")]
    FormToken,
    #[error("no hub server tells how it was: {0}")]
    NoPast(String),
    #[error("{to} does not lead: {}", leads(leader))]
    NotHandedOver { to: String, leader: String },
    #[error("the server `{id}` can't be asked: {why}")]
    Silent { id: String, why: String },
    #[error(
        "the user `{user}` may not do that: it needs `operate` among its `roles` in the configuration file"
    )]
    Role { user: String },
    #[error(
        "the user `{user}` may not do that: it needs `deploy` among its `roles` in the configuration file"
    )]
    DeployRole { user: String },
    #[error("deployments are off: the configuration file of this server has no `deploy-service: true`")]
    NoDeployService,
    #[error("{0}")]
    Body(String),
    #[error("{}", unknown_app(tag, known))]
    UnknownApp { tag: String, known: Vec<String> },
    #[error("no cluster that runs apps has the host `{host}`: the file has {}", hosts.join(", "))]
    UnknownHost { host: String, hosts: Vec<String> },
    #[error(
        "{tag} would be served at {path}, where the configuration file has another web-app: choose another name, or give it a path with `web-apps: [{{id: /elsewhere, deploy: NAME}}]`"
    )]
    Taken { tag: String, path: String },
    #[error(
        "{0} has been deployed with other content: give another version, or say that it is to be replaced (--replace)"
    )]
    OtherContent(String),
    #[error("another deployment of {tag} is under way, by {user}: wait for its end")]
    Busy { tag: String, user: String },
    #[error(
        "another version of {tag} has been put into use meanwhile, by {user}: look at it, then deploy again"
    )]
    Conflict { tag: String, user: String },
    #[error("the cluster has {0} apps, as many as there may be: undeploy one first")]
    Full(u32),
    #[error("no server that would run {0} is up")]
    NoServers(String),
    #[error("{0}")]
    NoVersion(String),
    #[error("git's smart HTTP alone is spoken here: expected info/refs?service=git-upload-pack")]
    NoGitService,
    #[error("deploy.git is there to read: push to git/NAME.git, one app's own")]
    GitReadOnly,
    #[error("too many clones or pushes at once: try again")]
    GitCrowded,
    #[error("expected a body of the type {0}")]
    ContentType(&'static str),
    #[error("the body is encoded: expected gzip, or as it is")]
    ContentEncoding,
    #[error("{0}")]
    Publish(#[from] PublishError),
    #[error("there is nothing at this path")]
    NotFound,
    #[error("this path takes {0} alone")]
    Method(&'static str),
    #[error("{}", unknown(id, known))]
    UnknownServer { id: String, known: Vec<String> },
    #[error("there is no job {0:?}: `deploy-tool job list` shows them")]
    NoJob(String),
    #[error("messages take as much as they may already (queue-memory-max)")]
    NoRoom,
    #[error("there is no queue {0:?}: `deploy-tool queue list` shows them")]
    NoQueue(String),
    #[error("there is no pipeline {0:?}: `deploy-tool pipeline list` shows them")]
    NoPipeline(String),
    #[error(
        "there is no run {run:?} of {pipeline:?}, or it is forgotten: `deploy-tool pipeline runs` shows them"
    )]
    NoRun { pipeline: String, run: String },
    #[error("the server `{0}` has never been started: the hub does not know it yet")]
    NeverStarted(String),
    #[error(
        "`{id}` is the last server of the cluster `{cluster}` that takes requests: without it they are answered 503; repeat with \
         force to do it all the same"
    )]
    Last { id: String, cluster: String },
    #[error("{}", hub(.0))]
    Hub(#[from] HubError),
    #[error("{0}; it may have been done all the same, and will be seen when the hub answers again")]
    Unsure(HubError),
}

/// As JSON.
#[derive(Debug, Serialize)]
struct Told {
    error: String,
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Wrong => Self::Wrong,
            Refused::Slowed(wait) => Self::Slowed(wait),
            Refused::Crowded => Self::Crowded,
        }
    }
}

impl Refusal {
    /// The status that goes with it.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::SignIn(_)
            | Self::Wrong
            | Self::WrongToken
            | Self::TokenEnded { .. }
            | Self::TokenOrphan { .. } => StatusCode::UNAUTHORIZED,
            Self::NoUsers
            | Self::ByToken
            | Self::TokenRole { .. }
            | Self::OthersToken { .. }
            | Self::CrossSite(_)
            | Self::FormToken
            | Self::Role { .. }
            | Self::DeployRole { .. }
            | Self::GitReadOnly
            | Self::NoGitService
            | Self::NoDeployService => StatusCode::FORBIDDEN,
            Self::Body(_) | Self::Publish(PublishError::Refused(_)) => StatusCode::BAD_REQUEST,
            Self::NotFound
            | Self::UnknownServer { .. }
            | Self::UnknownApp { .. }
            | Self::UnknownToken(_)
            | Self::NoQueue(_)
            | Self::NoPipeline(_)
            | Self::NoRun { .. }
            | Self::NoJob(_)
            | Self::NoVersion(_) => StatusCode::NOT_FOUND,
            Self::DiskFull(_) | Self::Publish(PublishError::DiskFull { .. }) => {
                StatusCode::INSUFFICIENT_STORAGE
            }
            Self::Spool(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NeverStarted(_)
            | Self::Last { .. }
            | Self::NotHandedOver { .. }
            | Self::UnknownHost { .. }
            | Self::Taken { .. }
            | Self::OtherContent(_)
            | Self::Busy { .. }
            | Self::Conflict { .. }
            | Self::Full(_)
            | Self::TokenName { .. }
            | Self::TokensFull(_)
            | Self::Hub(HubError::Refused(_)) => StatusCode::CONFLICT,
            Self::Slowed(_) | Self::NoRoom => StatusCode::TOO_MANY_REQUESTS,
            Self::ContentType(_) | Self::ContentEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Crowded
            | Self::GitCrowded
            | Self::Uploads
            | Self::NoPast(_)
            | Self::Silent { .. }
            | Self::Hub(_)
            | Self::Unsure(_)
            | Self::NoServers(_)
            | Self::Publish(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The answer.
    pub(crate) fn response(&self) -> Response<AnswerBody> {
        self.with_headers(json(self.status(), &Told { error: self.to_string() }))
    }

    /// The same as text: Git shows it to its user.
    pub(crate) fn text(&self) -> Response<AnswerBody> {
        self.with_headers(answer_bytes(self.status(), "text/plain; charset=utf-8", format!("{self}\n")))
    }

    fn with_headers(&self, mut response: Response<AnswerBody>) -> Response<AnswerBody> {
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            // No other server could do it: the web-tier need not ask one, and the client hears why.
            response.headers_mut().insert(NOT_PROCESSED, HeaderValue::from_static("stopped"));
        }
        let headers = response.headers_mut();
        match self {
            Self::SignIn(_)
            | Self::Wrong
            | Self::WrongToken
            | Self::TokenEnded { .. }
            | Self::TokenOrphan { .. } => {
                let challenge =
                    HeaderValue::from_static("Basic realm=\"Copal administration\", charset=\"UTF-8\"");
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            Self::Method(allowed) => {
                headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
            }
            Self::Slowed(wait) => {
                headers.insert(header::RETRY_AFTER, seconds(wait).into());
            }
            Self::Crowded
            | Self::GitCrowded
            | Self::Uploads
            | Self::Unsure(_)
            | Self::NoServers(_)
            | Self::Publish(PublishError::NoMajority { .. })
            | Self::Hub(HubError::Unavailable { .. } | HubError::Overloaded(_)) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

/// Who leads in its place.
fn leads(leader: &str) -> String {
    if leader.is_empty() { "nobody does yet".to_owned() } else { format!("{leader} does") }
}

/// With what to do about it.
fn hub(cause: &HubError) -> String {
    match cause {
        HubError::Unavailable { .. } => format!("{cause}; more than half of its servers must be up"),
        _ => cause.to_string(),
    }
}

/// Whole seconds, rounded up.
fn seconds(wait: &Duration) -> u64 {
    wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

fn unknown_app(tag: &str, known: &[String]) -> String {
    if known.is_empty() {
        return format!("there is no app {tag}: nothing has been deployed yet");
    }
    let known = known.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    format!("there is no app {tag}: there are {known}")
}

fn unknown(id: &str, known: &[String]) -> String {
    let distance = |name: &&String| strsim::damerau_levenshtein(id, name);
    let near = known.iter().min_by_key(distance).filter(|name| distance(name) <= name.len().div_ceil(4));
    let near = near.map(|near| format!(" Did you mean `{near}`?")).unwrap_or_default();
    let more = match known.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let known = known.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    format!("there is no server `{id}`.{near} There are {known}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_server_is_told_with_those_that_there_are() {
        let known: Vec<String> = ["app-a", "app-b"].map(str::to_owned).to_vec();
        let text = unknown("app-bb", &known);
        assert_eq!(text, "there is no server `app-bb`. Did you mean `app-b`? There are app-a, app-b");
        assert_eq!(unknown("x", &known), "there is no server `x`. There are app-a, app-b");
        let many: Vec<String> = (0..100).map(|number| format!("server-{number:03}")).collect();
        assert!(unknown("x", &many).ends_with("server-063 and 36 more"));
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds() {
        let refusal = Refusal::Slowed(Duration::from_millis(1001));
        assert!(refusal.to_string().ends_with("in 2 s"));
        let response = refusal.response();
        assert_eq!(
            (response.status().as_u16(), &response.headers()[header::RETRY_AFTER]),
            (429, &"2".parse().unwrap())
        );
    }
}
