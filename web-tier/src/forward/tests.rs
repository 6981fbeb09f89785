//! Tests of headers on their way.

use super::*;
use http::{HeaderMap, HeaderValue, Request, Response, Version};

fn sent_on(lines: &[(&'static str, &'static str)], version: Version, has_body: bool) -> HeaderMap {
    let mut request = Request::new(());
    *request.version_mut() = version;
    for (name, value) in lines {
        request.headers_mut().append(*name, HeaderValue::from_static(value));
    }
    let address = HeaderValue::from_static("192.0.2.7");
    let request_id = HeaderValue::from_static("id");
    let found = Found::new(request.headers(), From::Client);
    let hub_age = None;
    let via = Via { address: &address, scheme: "http", request_id, hub_age };
    prepare_request(&mut request, found, via, has_body);
    assert_eq!(request.version(), Version::HTTP_11);
    request.headers().clone()
}

fn get(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    sent_on(lines, Version::HTTP_11, false)
}

#[test]
fn hop_by_hop_headers_go() {
    let headers = get(&[
        ("host", "h"),
        ("connection", "keep-alive, X-Private"),
        ("connection", "x-other"),
        ("x-private", "1"),
        ("x-other", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic eA=="),
        ("upgrade", "h2c"),
        ("http2-settings", "x"),
        ("te", "gzip"),
        ("transfer-encoding", "chunked"),
        ("expect", "100-continue"),
        ("accept", "*/*"),
    ]);
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    let expected =
        ["accept", "host", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id"];
    assert_eq!(names, expected);
}

#[test]
fn what_connection_names_can_not_take_framing_or_host_away() {
    let headers = get(&[
        ("host", "h"),
        ("content-length", "3"),
        ("connection", "Host, Content-Length, cookie"),
        ("cookie", "a"),
    ]);
    assert_eq!(
        (&headers["host"], &headers["content-length"]),
        (&"h".parse().unwrap(), &"3".parse().unwrap())
    );
    assert!(!headers.contains_key("cookie"));
}

#[test]
fn connection_can_not_take_the_proxys_own_headers_away() {
    let headers = get(&[("host", "h"), ("connection", "x-forwarded-for, x-request-id, via")]);
    assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
    assert_eq!(
        (&headers["x-request-id"], &headers["via"]),
        (&"id".parse().unwrap(), &"1.1 copal".parse().unwrap())
    );
}

#[test]
fn what_a_client_says_of_itself_is_dropped() {
    let headers = get(&[
        ("host", "h"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "7.7.7.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-port", "1"),
        ("x-forwarded-prefix", "/p"),
        ("forwarded", "for=6.6.6.6"),
        ("x-real-ip", "6.6.6.6"),
        ("x-session-id", "stolen"),
        ("x-request-id", "mine"),
        ("copal-not-processed", "1"),
        ("copal-hub-age", "0"),
    ]);
    assert_eq!(headers.get_all("x-forwarded-for").iter().collect::<Vec<_>>(), ["192.0.2.7"]);
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-forwarded-host"], "h");
    assert_eq!(headers["x-request-id"], "id");
    for name in [
        "x-forwarded-port",
        "x-forwarded-prefix",
        "forwarded",
        "x-real-ip",
        "x-session-id",
        "copal-not-processed",
        "copal-hub-age",
    ] {
        assert!(!headers.contains_key(name), "{name}");
    }
}

#[test]
fn trailers_are_still_asked_for_and_via_is_added_to() {
    let headers =
        sent_on(&[("host", "h"), ("te", "gzip, Trailers"), ("via", "1.1 other")], Version::HTTP_10, false);
    assert_eq!(headers["te"], "trailers");
    assert_eq!(headers.get_all("via").iter().collect::<Vec<_>>(), ["1.1 other", "1.0 copal"]);
}

#[test]
fn a_body_of_unknown_length_is_chunked() {
    let host = ("host", "h");
    assert_eq!(sent_on(&[host], Version::HTTP_11, true)["transfer-encoding"], "chunked");
    let known = sent_on(&[host, ("content-length", "3")], Version::HTTP_11, true);
    assert!(!known.contains_key("transfer-encoding"));
}

#[test]
fn an_answer_loses_what_was_for_the_proxy() {
    let response = Response::builder()
        .version(Version::HTTP_10)
        .header("connection", "close, x-hop")
        .header("x-hop", "1")
        .header("keep-alive", "timeout=5")
        .header("transfer-encoding", "chunked")
        .header("copal-not-processed", "1")
        .header("copal-anything", "1")
        .header("set-cookie", "a=1")
        .header("set-cookie", "b=2");
    let mut head = response.body(()).unwrap().into_parts().0;
    prepare_response(&mut head);
    assert_eq!(head.version, Version::HTTP_11);
    let mut lines: Vec<_> =
        head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    lines.sort_unstable();
    assert_eq!(lines, [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("via", "1.1 copal")]);
}
