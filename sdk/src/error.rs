//! What can go wrong, and what the browser is answered then.

use crate::services::ServiceError;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use std::{io, path::PathBuf};

/// Why a call on a session failed. As a handler's error it becomes a 503 where the same request may succeed later, a 500
/// elsewhere.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SessionError {
    /// The router has no [`SessionLayer`](crate::SessionLayer).
    #[error("no SessionLayer around this handler")]
    NoLayer,
    /// The request did not come through Copal.
    #[error("the request has no session: it did not come through Copal")]
    NoSession,
    /// The session was changed elsewhere since this request saw it: the request has to be done again.
    #[error("the session was changed elsewhere since this request saw it: {0}")]
    Stale(String),
    /// The hub, or the server of this app, can't be reached.
    #[error("the session can't be reached: {0}")]
    Unavailable(String),
    /// Too large, or not taken for another reason.
    #[error("the session was not taken: {0}")]
    Refused(String),
    /// The request's answer has left already, or is being sent.
    #[error("the request is over: sessions can be changed until the handler returns")]
    Over,
    /// An attribute is not what it was read as, or can't be written.
    #[error("attribute {name:?}: {cause}")]
    Value {
        /// The attribute.
        name: String,
        /// What the decoder or encoder said.
        cause: String,
    },
}

impl SessionError {
    /// The status that the browser sees.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Stale(_) | Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused(_) => StatusCode::INSUFFICIENT_STORAGE,
            Self::NoLayer | Self::NoSession | Self::Over | Self::Value { .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }
}

impl IntoResponse for SessionError {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, format!("{status}\n")).into_response();
        let retry = match self {
            Self::Stale(_) => Some("0"),
            Self::Unavailable(_) => Some("1"),
            _ => None,
        };
        if let Some(seconds) = retry {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// Why an app can't serve, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The environment is not what Copal makes.
    #[error("{0}")]
    Environment(String),
    /// Nobody can listen there.
    #[error("listening on {place}: {cause}")]
    Listen {
        /// The port or socket.
        place: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The server that started this app is gone: so the app goes, too.
    #[error("the server of this app is gone: nobody has answered on {} for {seconds} s", hub.display())]
    ServerGone {
        /// `COPAL_HUB`.
        hub: PathBuf,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The server does not take what the app has declared.
    #[error("declaring what it takes: {0}")]
    Declared(#[from] ServiceError),
    /// Accepting connections or catching signals failed.
    #[error("serving: {0}")]
    Io(#[from] io::Error),
}
