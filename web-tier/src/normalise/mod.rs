//! Normalise or refuse: what a request's method, target and `Host` must be before anything is decided by them. The route and
//! the forwarded request use the same, normalised form, so that nobody can be routed by one path and served by another.

mod path;

pub(crate) use path::decoded;

use crate::{error::ProxyError, forward::Found};
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri, Version,
    header::{EXPECT, HOST, TRANSFER_ENCODING},
    uri::PathAndQuery,
};
use path::{Path, normalise};

/// The longest request target, in bytes.
const URI_MAX: usize = 16 * 1024;

/// Brings `request` into its normal form: an origin-form target (or `*`) with a normalised path, and one valid `Host`. `found`
/// says which of its headers need a look.
///
/// # Errors
/// The answer that reference/bad-input.md demands.
pub(crate) fn normalise_request<B>(request: &mut Request<B>, found: &Found) -> Result<(), ProxyError> {
    check_method(request.method())?;
    if found.expect {
        check_expectation(request.headers())?;
    }
    if found.transfer_encoding {
        check_transfer_encoding(request.headers())?;
    }
    let authority = request.uri().authority().map(|it| it.as_str().to_owned());
    let version = request.version();
    settle_host(request.headers_mut(), version, authority.as_deref())?;
    if let Some(target) = settle_target(request.method(), request.uri(), authority.is_some())? {
        *request.uri_mut() = Uri::from(target);
    }
    Ok(())
}

fn check_method(method: &Method) -> Result<(), ProxyError> {
    match *method {
        Method::CONNECT | Method::TRACE => Err(ProxyError::Method),
        _ => Ok(()),
    }
}

fn check_expectation(headers: &HeaderMap) -> Result<(), ProxyError> {
    match headers.get(EXPECT) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            Err(ProxyError::Expectation)
        }
        _ => Ok(()),
    }
}

/// Exactly one `chunked`: any other coding would be lost where the body is chunked anew, or read differently by someone else.
fn check_transfer_encoding(headers: &HeaderMap) -> Result<(), ProxyError> {
    let mut lines = headers.get_all(TRANSFER_ENCODING).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(()),
        (Some(line), None) if line.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(ProxyError::Bad("a Transfer-Encoding other than one chunked")),
    }
}

/// RFC 9112 §3.2: one `Host` in HTTP/1.1. An absolute-form target must name the same host.
fn settle_host(headers: &mut HeaderMap, version: Version, authority: Option<&str>) -> Result<(), ProxyError> {
    let mut hosts = headers.get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(ProxyError::Bad("more than one Host"));
    }
    let Some(host) = first else {
        if version >= Version::HTTP_11 {
            return Err(ProxyError::Bad("no Host"));
        }
        let host =
            HeaderValue::from_str(authority.unwrap_or("")).map_err(|_| ProxyError::Bad("invalid Host"))?;
        headers.insert(HOST, host);
        return Ok(());
    };
    if !host.as_bytes().iter().all(|byte| is_host_byte(*byte)) {
        return Err(ProxyError::Bad("invalid Host"));
    }
    match authority {
        Some(authority) if !authority.as_bytes().eq_ignore_ascii_case(host.as_bytes()) => {
            Err(ProxyError::Bad("the Host is not the one of the request target"))
        }
        _ => Ok(()),
    }
}

/// RFC 3986 §3.2.2 with a port: unreserved, sub-delims, percent-escapes, and what IP literals and ports need. No `@`: a user
/// name has no place there.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

/// The target to forward; `None` when it is right as it is.
fn settle_target(method: &Method, uri: &Uri, absolute: bool) -> Result<Option<PathAndQuery>, ProxyError> {
    let Some(target) = uri.path_and_query() else {
        return Err(ProxyError::Bad("the request target has no path"));
    };
    if target.as_str().len() > URI_MAX {
        return Err(ProxyError::UriTooLong);
    }
    if target.path() == "*" {
        return if *method == Method::OPTIONS && !absolute {
            Ok(None)
        } else {
            Err(ProxyError::Bad("the request target * is for OPTIONS"))
        };
    }
    if !absolute && !target.path().starts_with('/') {
        return Err(ProxyError::Bad("the request target does not begin with /"));
    }
    match normalise(target.path()).map_err(|cause| ProxyError::Bad(cause.text()))? {
        // An absolute form becomes an origin form all the same.
        Path::Same => Ok(absolute.then(|| target.clone())),
        Path::Other(mut path) => {
            if let Some(query) = target.query() {
                path.push('?');
                path.push_str(query);
            }
            PathAndQuery::try_from(path).map(Some).map_err(|_| ProxyError::Bad("invalid request target"))
        }
    }
}

#[cfg(test)]
mod tests;
