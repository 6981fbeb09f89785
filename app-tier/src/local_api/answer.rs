//! Answers: JSON, or a problem (RFC 9457) that says what is wrong.

use crate::{content::BadJson, lease::LeaseError, queue::QueueError};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};
use tonic::body::Body;

/// Why a call was refused. `code` is for programs, `detail` for people.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    more: Map<String, Value>,
    /// `Retry-After`, in seconds.
    again: Option<u32>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), more: Map::new(), again: None }
    }

    /// A value that is not what was expected.
    pub(super) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// With a member of its own.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// It may be tried again after so many seconds.
    pub(super) fn again(mut self, seconds: u32) -> Self {
        self.again = Some(seconds);
        self
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let Self { status, code, detail, mut more, again } = self;
        let title = status.canonical_reason().unwrap_or("Error");
        more.insert("type".to_owned(), "about:blank".into());
        more.insert("title".to_owned(), title.into());
        more.insert("status".to_owned(), status.as_u16().into());
        more.insert("code".to_owned(), code.into());
        more.insert("detail".to_owned(), detail.into());
        let mut response = body(status, "application/problem+json", &Value::Object(more));
        if let Some(seconds) = again {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<BadJson> for Problem {
    fn from(error: BadJson) -> Self {
        let text = error.to_string();
        match error {
            BadJson::Bad(_) => Self::bad(text),
            BadJson::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", text),
        }
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        let text = error.to_string();
        match error {
            QueueError::HubLost(_) => hub_lost(text),
            QueueError::BadJob(_) => Self::bad(text),
            QueueError::OthersJob(_) => Self::new(StatusCode::CONFLICT, "others-job", text),
            QueueError::Full(_) | QueueError::TooManyJobs(_) | QueueError::NoRoomForJobs(_) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "full", text).again(1)
            }
            QueueError::StaleFence => Self::new(StatusCode::CONFLICT, "stale-fence", text),
            QueueError::Over => Self::new(StatusCode::CONFLICT, "delivery-over", text),
            QueueError::Refused(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "refused", text).again(1),
        }
    }
}

impl From<LeaseError> for Problem {
    fn from(error: LeaseError) -> Self {
        let text = error.to_string();
        match error {
            LeaseError::Held { server, token, ttl } => Self::new(StatusCode::CONFLICT, "lease-held", text)
                .with("server", server)
                .with("token", token)
                .with("ttl-ms", u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
            LeaseError::Full(_) => Self::new(StatusCode::TOO_MANY_REQUESTS, "full", text).again(5),
            LeaseError::Over => Self::new(StatusCode::CONFLICT, "stale-fence", text),
            LeaseError::HubLost(_) => hub_lost(text),
            LeaseError::Refused(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "refused", text).again(1),
        }
    }
}

/// The hub did not answer: nobody knows whether it has happened.
pub(super) fn hub_lost(detail: impl Into<String>) -> Problem {
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "hub-lost", detail);
    problem.with("applied", "unknown").again(1)
}

/// An answer with a body of JSON.
pub(super) fn body(status: StatusCode, kind: &'static str, value: &Value) -> Response<Body> {
    let text = value.to_string();
    let mut response = Response::new(Body::new(http_body_util::Full::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer of JSON.
pub(super) fn json_body(status: StatusCode, value: &Value) -> Response<Body> {
    body(status, "application/json", value)
}

/// An answer without a body.
pub(super) fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// What a lease is told as.
pub(super) fn of_lease(token: u64, left: std::time::Duration) -> Value {
    json!({"token": token, "ttl-ms": u64::try_from(left.as_millis()).unwrap_or(u64::MAX)})
}
