//! Tests of what a request must be, by the table of reference/bad-input.md.

use super::*;
use crate::http1::HeadLimits;
use ProxyError::{Bad, Expectation, Method as NotAllowed};

const LIMITS: HeadLimits = HeadLimits { count: 100, bytes: 32 * 1024, target: 16 * 1024 };

fn request(line: &str, headers: &[(&str, &str)]) -> Result<RequestHead, ProxyError> {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut head = RequestHead::default();
    let length = head.parse(format!("{line}\r\n{lines}\r\n").as_bytes(), &LIMITS)?;
    assert!(length.is_some(), "it is complete: {line}");
    Ok(head)
}

/// The target and `Host` that are forwarded.
fn settled(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<(String, String), ProxyError> {
    let mut head = request(&format!("{method} {target} HTTP/1.1"), headers)?;
    normalise_request(&mut head, |_| true)?;
    let host = String::from_utf8(head.fields.first(Name::Host).unwrap().to_vec()).unwrap();
    Ok((head.target, host))
}

fn refused(method: &str, target: &str, headers: &[(&str, &str)]) -> ProxyError {
    settled(method, target, headers).unwrap_err()
}

const HOST_H: (&str, &str) = ("host", "h");

fn ok(target: &str) -> Result<(String, String), ProxyError> {
    Ok((target.to_owned(), "h".to_owned()))
}

#[test]
fn targets_become_origin_form_and_keep_their_query() {
    assert_eq!(settled("GET", "/a?b=%2e&c=../d", &[HOST_H]), ok("/a?b=%2e&c=../d"));
    assert_eq!(settled("GET", "/x/../a%2e?b", &[HOST_H]), ok("/a.?b"));
    assert_eq!(settled("GET", "http://h/a//b?c", &[HOST_H]), ok("/a/b?c"));
    assert_eq!(settled("GET", "http://h/a", &[HOST_H]), ok("/a"));
    assert_eq!(settled("GET", "http://H?c", &[HOST_H]), ok("/?c"));
    assert_eq!(settled("OPTIONS", "*", &[HOST_H]), ok("*"));
}

#[test]
fn targets_of_other_forms_are_refused() {
    assert!(matches!(refused("GET", "*", &[HOST_H]), Bad(_)));
    assert!(matches!(refused("GET", "h:80", &[HOST_H]), Bad(_)));
    assert!(matches!(refused("GET", "/%00", &[HOST_H]), Bad("NUL in the path")));
    assert!(matches!(refused("GET", "/../a", &[HOST_H]), Bad("the path leads above the root")));
}

#[test]
fn methods_that_are_not_for_a_proxy_like_this_are_refused() {
    assert_eq!(refused("CONNECT", "h:80", &[HOST_H]), NotAllowed);
    assert_eq!(refused("TRACE", "/", &[HOST_H]), NotAllowed);
    assert_eq!(settled("PURGE", "/", &[HOST_H]), ok("/"));
    // As HTTP/2 may bring it.
    let mut long = request("GET / HTTP/1.1", &[HOST_H]).unwrap();
    long.method = Method::from_bytes(&[b'A'; METHOD_MAX + 1]).unwrap();
    assert_eq!(normalise_request(&mut long, |_| true), Err(ProxyError::MethodTooLong));
}

#[test]
fn a_request_has_one_valid_host() {
    assert_eq!(refused("GET", "/", &[]), Bad("no Host"));
    assert_eq!(refused("GET", "/", &[HOST_H, HOST_H]), Bad("more than one Host"));
    for host in ["a b", "a/b", "user@h", "h\\x", "h?x", "h#x", "<h>"] {
        assert_eq!(refused("GET", "/", &[("host", host)]), Bad("invalid Host"), "{host}");
    }
    assert!(matches!(refused("GET", "http://other/", &[HOST_H]), Bad(_)));
    for host in ["[::1]:8080", "a-b.c_d:80", "%C3%A4.example"] {
        assert!(settled("GET", "/", &[("host", host)]).is_ok(), "{host}");
    }
}

#[test]
fn http_1_0_needs_no_host() {
    let mut old = request("GET / HTTP/1.0", &[]).unwrap();
    normalise_request(&mut old, |_| true).unwrap();
    assert_eq!(old.fields.first(Name::Host), Some(&b""[..]));
    let mut named = request("GET http://h/ HTTP/1.0", &[]).unwrap();
    normalise_request(&mut named, |_| true).unwrap();
    assert_eq!(named.fields.first(Name::Host), Some(&b"h"[..]));
}

#[test]
fn only_100_continue_is_expected() {
    assert_eq!(refused("POST", "/", &[HOST_H, ("expect", "the-worst")]), Expectation);
    assert_eq!(settled("POST", "/", &[HOST_H, ("expect", "100-Continue")]), ok("/"));
}

#[test]
fn a_body_is_chunked_once_or_not_at_all() {
    for value in ["gzip, chunked", "chunked, chunked", "identity", "xchunked"] {
        assert!(matches!(refused("POST", "/", &[HOST_H, ("transfer-encoding", value)]), Bad(_)), "{value}");
    }
    let chunked = ("transfer-encoding", "Chunked");
    assert!(matches!(refused("POST", "/", &[HOST_H, chunked, chunked]), Bad(_)));
    assert_eq!(settled("POST", "/", &[HOST_H, chunked]), ok("/"));
}
