//! What can go wrong with a request, and the one place that turns it into an answer. The text says what the client can know:
//! never a server's name or an inner address.

use crate::{body::ResponseBody, connection::Client};
use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER},
};
use std::rc::Rc;

/// Why a request gets an answer of the proxy's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyError {
    /// It breaks the standard or hides something; the text says which rule.
    #[error("{0}")]
    Bad(&'static str),
    #[error("the request target is longer than 16384 bytes")]
    UriTooLong,
    #[error("the method is not allowed here")]
    Method,
    #[error("only the expectation 100-continue is known")]
    Expectation,
    #[error("no rule covers this host and path")]
    NoRule,
    #[error("no server can take the request now")]
    NoServer,
    #[error("all connections to the servers are in use")]
    Busy,
    #[error("the server broke off before it answered")]
    Broken,
    #[error("the server's answer is not valid")]
    Invalid,
    #[error("the server did not answer in time")]
    Silent,
    #[error("the request's body broke off")]
    BodyBroken,
}

/// What a 503 tells the client to wait, in seconds: the shortest fail window.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const CLOSE: HeaderValue = HeaderValue::from_static("close");
const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

impl ProxyError {
    /// The status that says it.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Bad(_) | Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::NoRule => StatusCode::NOT_FOUND,
            Self::NoServer | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken | Self::Invalid => StatusCode::BAD_GATEWAY,
            Self::Silent => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The answer.
    pub(crate) fn respond(self, client: &Rc<Client>) -> Response<ResponseBody> {
        client.leaves_unread();
        let status = self.status();
        let text = format!("{status}: {self}\n");
        let mut response = Response::new(ResponseBody::text(client.clone(), Bytes::from(text)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, TEXT);
        match self {
            Self::NoServer | Self::Busy => {
                headers.insert(RETRY_AFTER, RETRY_SECONDS);
            }
            Self::Method => {
                headers.insert(ALLOW, ALLOWED);
            }
            _ => {}
        }
        // After a request that was not understood, or whose body is not known to have ended, nothing that follows on the
        // connection can be trusted to be a request.
        if self.status().is_client_error() && self != Self::NoRule {
            headers.insert(CONNECTION, CLOSE);
        }
        response
    }
}
