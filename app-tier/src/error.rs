//! What goes wrong: with the app-tier as a whole ([`AppTierError`]), and with one request ([`RequestError`], the only place
//! that maps an error to an HTTP status).

use crate::{
    body::{Response, full},
    process::RightsError,
    session::SessionError,
};
use common::{id::ServerId, shortage::is_shortage};
use http::{HeaderName, HeaderValue, StatusCode, header};
use std::{io, path::PathBuf, time::Duration};

/// On an answer of the app-tier itself: no app has seen the request, so a web-tier may send it, whatever its method, to
/// another server. Believed only on a cluster connection; removed from what apps answer.
pub const NOT_PROCESSED: HeaderName = HeaderName::from_static("copal-not-processed");

/// The values of [`NOT_PROCESSED`]: the server can't serve requests now; it is well and only short of something; it is well, and an
/// administrator has stopped the app on all servers.
const UNABLE: HeaderValue = HeaderValue::from_static("1");
const SHORT: HeaderValue = HeaderValue::from_static("short");
const STOPPED: HeaderValue = HeaderValue::from_static("stopped");

/// An app that was stopped is worth another look after this, in seconds: somebody has to start it.
const STOPPED_RETRY: HeaderValue = HeaderValue::from_static("60");

/// Why the app-tier of a server did not start, or is not ready.
#[derive(Debug, thiserror::Error)]
pub enum AppTierError {
    /// The configuration file has no such server.
    #[error("no server {0:?} in the configuration file")]
    UnknownServer(ServerId),
    /// A web-app's `root-directory` is not a folder that can be read.
    #[error("web-app {app}: root-directory {}: {cause}", root.display())]
    Root {
        /// `host/path` of the web-app.
        app: String,
        /// Its `root-directory`.
        root: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A web-app's `app.yaml` is wrong.
    #[error("web-app {app}: {text}")]
    AppYaml {
        /// `host/path` of the web-app.
        app: String,
        /// Every error, with its place.
        text: String,
    },
    /// An app can't have the user or the folders that it is to have.
    #[error("web-app {app}: {cause}")]
    Rights {
        /// `host/path` of the web-app.
        app: String,
        /// Why.
        cause: RightsError,
    },
    /// A folder, file or socket of the app-tier could not be made.
    #[error("{what} {}: {cause}", path.display())]
    Io {
        /// What was to be made.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// An app did not get healthy.
    #[error(transparent)]
    NotReady(Box<NotReady>),
}

/// An app that did not get healthy, with what it printed.
#[derive(Debug, thiserror::Error)]
#[error(
    "app {app} on server {server} is not healthy after {waited:.1?}: expected {expected}, but {found}\n\
     last lines of its log:\n{}",
    tail(log)
)]
pub struct NotReady {
    /// `host/path` of the web-app.
    pub app: String,
    /// This server.
    pub server: ServerId,
    /// How long it was waited for.
    pub waited: Duration,
    /// What a healthy app does.
    pub expected: String,
    /// What it did instead.
    pub found: String,
    /// The last lines of its output.
    pub log: Vec<String>,
}

fn tail(log: &[String]) -> String {
    if log.is_empty() { "  (nothing)".to_owned() } else { format!("  {}", log.join("\n  ")) }
}

/// Why a request is answered by the app-tier and not by its app.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// No host, web-app or file.
    #[error("not found")]
    NotFound,
    /// The request's target can't be served.
    #[error("bad request target: {0}")]
    BadTarget(&'static str),
    /// Static files answer GET and HEAD alone.
    #[error("method not allowed")]
    MethodNotAllowed,
    /// The app is starting, restarting, unhealthy or full: it has not seen the request.
    #[error("app {app} is not available: {why}")]
    AppUnavailable {
        /// Which.
        app: String,
        /// Why.
        why: String,
    },
    /// An administrator has stopped it.
    #[error("app {app} is stopped")]
    AppStopped {
        /// Which.
        app: String,
    },
    /// This server is short of file descriptors, ports, buffers or memory, and could not ask the app: nothing is wrong with that.
    #[error("this server is short of something: {0}")]
    Short(io::Error),
    /// The app broke the connection before its answer's head.
    #[error("app {app} gave no answer: {cause}")]
    AppFailed {
        /// Which.
        app: String,
        /// What was seen.
        cause: String,
    },
    /// The app made no progress for this long.
    #[error("app {app} gave no answer within {waited:?}")]
    AppTimeout {
        /// Which.
        app: String,
        /// The limit.
        waited: Duration,
    },
    /// The session could not be made safe, or was found stale: the app's answer must not be given.
    #[error("session: {0}")]
    Session(#[from] SessionError),
    /// A web-tier hears the hub and this server does not, so the session in memory may be outdated: the app has not seen the
    /// request.
    #[error("session, on a server that is cut off from the hub: {0}")]
    CutOff(SessionError),
    /// As `cause`, and the session has got another id within the request: the browser has to hear of it all the same.
    #[error("{cause} (the answer brings the session's new id)")]
    Moved {
        /// `Set-Cookie`.
        cookie: HeaderValue,
        /// What went wrong after that.
        cause: Box<RequestError>,
    },
    /// A file could not be read.
    #[error("reading a file: {0}")]
    File(io::Error),
}

/// Of reading a file.
impl From<io::Error> for RequestError {
    fn from(cause: io::Error) -> Self {
        if is_shortage(&cause) { Self::Short(cause) } else { Self::File(cause) }
    }
}

impl RequestError {
    /// The status that the client sees.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::BadTarget(_) => StatusCode::BAD_REQUEST,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::AppUnavailable { .. }
            | Self::AppStopped { .. }
            | Self::Short(_)
            | Self::Session(_)
            | Self::CutOff(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::AppFailed { .. } => StatusCode::BAD_GATEWAY,
            Self::AppTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::File(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Moved { cause, .. } => cause.status(),
        }
    }

    /// The answer: the status alone, for details are for the log and not for strangers.
    pub(crate) fn response(&self) -> Response {
        if let Self::Moved { cookie, cause } = self {
            let mut response = cause.response();
            response.headers_mut().append(header::SET_COOKIE, cookie.clone());
            return response;
        }
        let status = self.status();
        let mut response = Response::new(full(format!("{status}\n")));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::MethodNotAllowed => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            Self::AppUnavailable { .. } | Self::Short(_) | Self::CutOff(_) => {
                let why = if matches!(self, Self::Short(_)) { SHORT } else { UNABLE };
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                headers.insert(NOT_PROCESSED, why);
            }
            Self::AppStopped { .. } => {
                headers.insert(header::RETRY_AFTER, STOPPED_RETRY);
                headers.insert(NOT_PROCESSED, STOPPED);
            }
            Self::Session(cause) => {
                let seconds = if cause.is_stale() { "0" } else { "1" };
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
            }
            _ => {}
        }
        response
    }
}
