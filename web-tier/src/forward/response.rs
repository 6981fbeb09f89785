//! An answer's headers, on their way to the client.

use super::hop::{Found, From};
use http::{HeaderName, HeaderValue, Version, header::VIA, response};

/// Set by an app-tier on a 503 when the app has not seen the request: it can be sent to another server.
pub(crate) const NOT_PROCESSED: HeaderName = HeaderName::from_static("copal-not-processed");

const VIA_1_1: HeaderValue = HeaderValue::from_static("1.1 copal");

/// Takes out what is for the proxy alone.
pub(crate) fn prepare_response(head: &mut response::Parts) {
    Found::new(&head.headers, From::Server).remove(&mut head.headers);
    head.headers.append(VIA, VIA_1_1);
    // hyper answers in the client's version.
    head.version = Version::HTTP_11;
}
