//! A request's headers, on their way to a server.

use super::{Found, HUB_AGE, Via, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, X_REQUEST_ID};
use http::{
    HeaderValue, Request, Version,
    header::{CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, VIA},
};

const VIA_1_1: HeaderValue = HeaderValue::from_static("1.1 copal");
const VIA_1_0: HeaderValue = HeaderValue::from_static("1.0 copal");
const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Takes out what is not for the server (`found` among the client's headers), and puts in what the proxy knows of the client.
pub(crate) fn prepare_request<B>(request: &mut Request<B>, found: Found, via: Via<'_>, has_body: bool) {
    let version = std::mem::replace(request.version_mut(), Version::HTTP_11);
    let headers = request.headers_mut();
    let trailers = found.te && headers.get_all(TE).iter().any(asks_for_trailers);
    found.remove(headers);
    if trailers {
        headers.insert(TE, TRAILERS);
    }
    // Said outright: hyper would send a GET's body of unknown length as none.
    if has_body && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(TRANSFER_ENCODING, CHUNKED);
    }
    headers.append(VIA, if version == Version::HTTP_10 { VIA_1_0 } else { VIA_1_1 });
    if let Some(host) = headers.get(HOST).cloned() {
        headers.insert(X_FORWARDED_HOST, host);
    }
    headers.insert(X_FORWARDED_FOR, via.address.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(via.scheme));
    headers.insert(X_REQUEST_ID, via.request_id);
    if let Some(age) = via.hub_age {
        headers.insert(HUB_AGE, age);
    }
}

fn asks_for_trailers(line: &HeaderValue) -> bool {
    let mut tokens = line.as_bytes().split(|byte| *byte == b',');
    tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}
