//! What changes in a message on its way: headers that are for one connection go, those of a proxy come.

mod hop;
mod request;
mod response;

pub(crate) use hop::{Found, From};
pub(crate) use request::prepare_request;
pub(crate) use response::{NOT_PROCESSED, prepare_response};

use http::HeaderName;

/// What the client's connection says of each of its requests.
#[derive(Debug)]
pub(crate) struct Via<'a> {
    /// `X-Forwarded-For`.
    pub(crate) address: &'a http::HeaderValue,
    /// `X-Forwarded-Proto`.
    pub(crate) scheme: &'static str,
    /// `X-Request-Id`.
    pub(crate) request_id: http::HeaderValue,
    /// `Copal-Hub-Age`.
    pub(crate) hub_age: Option<http::HeaderValue>,
}

/// When who sends it last heard from the hub.
pub(crate) const HUB_AGE: HeaderName = HeaderName::from_static(common::hub_age::HUB_AGE);
pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[cfg(test)]
mod tests;
