//! Normalise or refuse: what a request's method, target and `Host` must be before anything is decided by them. The route and
//! the forwarded request use the same, normalised form, so that nobody can be routed by one path and served by another.

mod authority;
mod path;
mod reading;
mod url;

pub(crate) use authority::same_authority;
pub(crate) use path::{Path, decoded, has_dots, normalise, unescape};
pub(crate) use reading::{Source, other_readings, read};
pub(crate) use url::normal_url;

use crate::{
    error::ProxyError,
    http1::{METHOD_MAX, Name, RequestHead, Target, Version},
};
use authority::is_host;
use http::Method;

/// Brings a request into its normal form: a target with a normalised path (or `*`), and one valid `Host`. `merges` says whether the
/// paths of a host have their slashes merged.
///
/// # Errors
/// The answer that a request deserves that is not valid, or hides something.
pub(crate) fn normalise_request(
    head: &mut RequestHead,
    merges: impl FnOnce(&RequestHead) -> bool,
) -> Result<(), ProxyError> {
    check_method(&head.method)?;
    check_expectation(head)?;
    settle_host(head)?;
    settle_target(head, merges)
}

fn check_method(method: &Method) -> Result<(), ProxyError> {
    match *method {
        Method::CONNECT | Method::TRACE => Err(ProxyError::Method),
        _ if method.as_str().len() > METHOD_MAX => Err(ProxyError::MethodTooLong),
        _ => Ok(()),
    }
}

/// RFC 9110 §10.1.1. An HTTP/1.0 client can't expect anything.
fn check_expectation(head: &mut RequestHead) -> Result<(), ProxyError> {
    if !head.fields.all(Name::Expect).all(|value| value.eq_ignore_ascii_case(b"100-continue")) {
        return Err(ProxyError::Expectation);
    }
    if head.version == Version::Http10 {
        head.fields.remove_if(|field| field.known == Name::Expect);
    }
    Ok(())
}

/// RFC 9112 §3.2: one `Host` in HTTP/1.1. An absolute-form target must name the same host.
fn settle_host(head: &mut RequestHead) -> Result<(), ProxyError> {
    let mut hosts = head.fields.all(Name::Host);
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(ProxyError::Bad("more than one Host"));
    }
    let authority = (head.form == Target::Absolute).then_some(head.authority.as_bytes());
    let Some(host) = first else {
        if head.version != Version::Http10 {
            return Err(ProxyError::Bad("no Host"));
        }
        drop(hosts);
        let host = std::mem::take(&mut head.authority);
        if !is_host(host.as_bytes()) {
            return Err(ProxyError::Bad("invalid Host"));
        }
        head.fields.push(Name::Host, b"host", host.as_bytes());
        return Ok(());
    };
    if !is_host(host) {
        return Err(ProxyError::Bad("invalid Host"));
    }
    match authority {
        Some(authority) if !same_authority(authority, host, head.default_port) => {
            Err(ProxyError::Bad("the Host is not the one of the request target"))
        }
        _ => Ok(()),
    }
}

/// Normalises the path; what is forwarded has the origin form.
fn settle_target(
    head: &mut RequestHead,
    merges: impl FnOnce(&RequestHead) -> bool,
) -> Result<(), ProxyError> {
    if head.form == Target::Asterisk {
        return if head.method == Method::OPTIONS {
            Ok(())
        } else {
            Err(ProxyError::Bad("the request target * is for OPTIONS"))
        };
    }
    let merges = merges(head);
    match normalise(head.path(), merges).map_err(|cause| ProxyError::Bad(cause.text()))? {
        Path::Same => Ok(()),
        Path::Other(path) => {
            head.set_path(&path);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
