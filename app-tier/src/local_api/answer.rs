//! Answers: JSON, or a problem (RFC 9457) that says what is wrong.

use crate::{content::BadJson, lease::LeaseError, queue::QueueError};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};
use tonic::{Code, Status, body::Body, metadata::MetadataValue};

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

    /// For programs, and for people.
    pub(super) fn told(&self) -> (&'static str, &str) {
        (self.code, &self.detail)
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

/// The same over gRPC: the metadata `copal-code` is for programs, and each member is one more.
impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let Problem { status, code, detail, more, again } = problem;
        let mut status = Self::new(grpc_code(status, code), detail);
        let metadata = status.metadata_mut();
        metadata.insert("copal-code", MetadataValue::from_static(code));
        if let Some(seconds) = again {
            metadata.insert("copal-retry-after", MetadataValue::from(seconds));
        }
        for (name, value) in more {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // `copal-token` is the app's own.
            let name = if name == "token" { "lease-token" } else { &name };
            let key = format!("copal-{name}").parse::<tonic::metadata::AsciiMetadataKey>();
            if let (Ok(key), Ok(text)) = (key, MetadataValue::try_from(text)) {
                metadata.insert(key, text);
            }
        }
        status
    }
}

/// What a problem is to clients of gRPC.
fn grpc_code(status: StatusCode, code: &str) -> Code {
    match (status, code) {
        (StatusCode::BAD_REQUEST, _) => Code::InvalidArgument,
        (StatusCode::UNAUTHORIZED, _) => Code::Unauthenticated,
        (StatusCode::NOT_FOUND, _) => Code::NotFound,
        (StatusCode::CONFLICT, "lease-held" | "others-job" | "repeated") => Code::AlreadyExists,
        (StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED, _) => Code::FailedPrecondition,
        (StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS, _) => Code::ResourceExhausted,
        (StatusCode::BAD_GATEWAY, _) => Code::Aborted,
        (StatusCode::SERVICE_UNAVAILABLE, _) => Code::Unavailable,
        (StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT, _) => Code::DeadlineExceeded,
        _ => Code::Unknown,
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
            QueueError::Unknown => Self::not_found(text),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_the_same_over_grpc() {
        let status = Status::from(hub_lost("it did not answer"));
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "it did not answer"));
        let text = |name: &str| status.metadata().get(name).map(|it| it.to_str().unwrap().to_owned());
        assert_eq!(text("copal-code").as_deref(), Some("hub-lost"));
        assert_eq!(text("copal-applied").as_deref(), Some("unknown"));
        assert_eq!(text("copal-retry-after").as_deref(), Some("1"));
        let held = LeaseError::Held { server: "a".into(), token: 7, ttl: std::time::Duration::from_secs(2) };
        let status = Status::from(Problem::from(held));
        assert_eq!(status.code(), Code::AlreadyExists);
        for (name, value) in [("copal-lease-token", "7"), ("copal-server", "a"), ("copal-ttl-ms", "2000")] {
            assert_eq!(status.metadata().get(name).unwrap(), value);
        }
        assert!(status.metadata().get("copal-token").is_none());
        let status = Status::from(Problem::from(QueueError::Refused("not now".into())));
        assert!(status.code() == Code::Unavailable && status.metadata().get("copal-applied").is_none());
        for (problem, code) in [
            (Problem::bad(""), Code::InvalidArgument),
            (Problem::not_found(""), Code::NotFound),
            (QueueError::Over.into(), Code::FailedPrecondition),
            (QueueError::OthersJob("b".into()).into(), Code::AlreadyExists),
            (QueueError::TooManyJobs(1).into(), Code::ResourceExhausted),
            (Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", ""), Code::ResourceExhausted),
            (
                Problem::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", ""),
                Code::FailedPrecondition,
            ),
            (Problem::new(StatusCode::BAD_GATEWAY, "failed", ""), Code::Aborted),
            (Problem::new(StatusCode::GATEWAY_TIMEOUT, "late", ""), Code::DeadlineExceeded),
        ] {
            assert_eq!(Status::from(problem).code(), code);
        }
    }
}
