//! The one body type that flows through the app-tier: streamed, never held whole.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use std::error::Error;

/// Why a body broke: the peer sees an aborted connection, never a short complete body.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// A streamed request or response body.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// A request as the apps see it.
pub(crate) type Request = http::Request<Body>;

/// An app's answer.
pub(crate) type Response = http::Response<Body>;

/// No body.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A small body that is already in memory.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
