//! What can go wrong with a request, and the one place that turns it into an answer. The text says what the client can know:
//! never a server's name or an inner address.

use crate::{http1::HeadError, upstream::exchange::BodyError};
use http::StatusCode;

/// Why a request gets an answer of the proxy's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyError {
    /// It breaks the standard or hides something; the text says which rule.
    #[error("{0}")]
    Bad(&'static str),
    #[error("the request target is too long")]
    UriTooLong,
    #[error("the header section is too large")]
    HeadTooLarge,
    #[error("only HTTP/1.0, 1.1 and 2 are spoken here")]
    Version,
    #[error("the method is not known here")]
    MethodTooLong,
    #[error("this host is not the one that the certificate was shown for")]
    Misdirected,
    #[error("the method is not allowed here")]
    Method,
    #[error("only the expectation 100-continue is known")]
    Expectation,
    #[error("more requests than are allowed: wait a moment")]
    TooMany,
    #[error("no rule covers this host and path")]
    NoRule,
    #[error("no server can take the request now")]
    NoServer,
    #[error("all connections to the servers are in use")]
    Busy,
    #[error("this server is short of resources")]
    Short,
    #[error("the server broke off before it answered")]
    Broken,
    #[error("the server's answer is not valid")]
    Invalid,
    #[error("the server does not change protocols")]
    NoUpgrade,
    #[error("the server did not answer in time")]
    Silent,
    #[error("the request's body broke off")]
    BodyBroken,
    #[error("the request's body is too large")]
    BodyTooLarge,
    /// Nobody is there to hear it.
    #[error("the client went away")]
    ClientGone,
}

/// What a 503 tells the client to wait, in seconds: the shortest fail window.
const RETRY_AFTER: (&str, &str) = ("retry-after", "1");
pub(crate) const ALLOW: (&str, &str) = ("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

impl From<HeadError> for ProxyError {
    fn from(cause: HeadError) -> Self {
        match cause {
            HeadError::Bad(why) => Self::Bad(why),
            HeadError::Version => Self::Version,
            HeadError::MethodTooLong => Self::MethodTooLong,
            HeadError::TargetTooLong => Self::UriTooLong,
            HeadError::TooLarge => Self::HeadTooLarge,
        }
    }
}

impl From<BodyError> for ProxyError {
    fn from(cause: BodyError) -> Self {
        match cause {
            BodyError::Broken => Self::BodyBroken,
            BodyError::TooLarge => Self::BodyTooLarge,
        }
    }
}

impl ProxyError {
    /// The status that says it.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Bad(_) | Self::BodyBroken | Self::ClientGone => StatusCode::BAD_REQUEST,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            // RFC 9112 §3.
            Self::MethodTooLong => StatusCode::NOT_IMPLEMENTED,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::NoRule => StatusCode::NOT_FOUND,
            Self::NoServer | Self::Busy | Self::Short => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken | Self::Invalid | Self::NoUpgrade => StatusCode::BAD_GATEWAY,
            Self::Silent => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// After a request that was not understood, or whose body is not known to have ended, nothing that follows on the
    /// connection can be trusted to be a request.
    pub(crate) fn ends_connection(self) -> bool {
        let unread = matches!(self, Self::Version | Self::MethodTooLong);
        unread || (self.status().is_client_error() && !matches!(self, Self::NoRule | Self::TooMany))
    }

    /// The fields of the answer that depend on the error, and its text.
    pub(crate) fn words(self) -> (Option<(&'static str, &'static str)>, String) {
        let fields = match self {
            Self::NoServer | Self::Busy | Self::Short => Some(RETRY_AFTER),
            Self::Method => Some(ALLOW),
            _ => None,
        };
        (fields, format!("{}: {self}\n", self.status()))
    }
}
