//! Header lines.

use super::{Case, Row, check, refused, served};

pub(super) fn rows() -> Vec<Row> {
    vec![lines(), expectations(), hop_by_hop(), spoofed()]
}

/// A GET with these header lines.
pub(super) fn get(headers: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: h\r\n{headers}\r\n")
}

/// Behind a good `Host`.
const LINES: &[&str] = &[
    "X: a\r\n b\r\n",
    "X: a\r\n\tb\r\n",
    "X:\r\n a\r\n",
    "X: a\r\n \r\n",
    "X : a\r\n",
    "X\t: a\r\n",
    "X \t : a\r\n",
    " X: a\r\n",
    "\tX: a\r\n",
    ": a\r\n",
    " : a\r\n",
    ":\r\n",
    "X\r\n",
    "X a\r\n",
    "X: a\0b\r\n",
    "X: \0\r\n",
    "X: a\rb\r\n",
    "X: a\r\r\n",
    "X: \r\r\n",
    "X: a\nY: b\r\n",
    "X: a\n",
    "X: a\n\n",
    "\nX: a\r\n",
    "X\n: a\r\n",
    "X\r: a\r\n",
    "X\0: a\r\n",
    "\0X: a\r\n",
    "X\u{1}: a\r\n",
    "X\u{1f}: a\r\n",
    "X\u{7f}: a\r\n",
    "X\u{80}: a\r\n",
    "\u{ff}X: a\r\n",
    "X Y: a\r\n",
    "(X): a\r\n",
    "X,Y: a\r\n",
    "X/Y: a\r\n",
    "X\"Y: a\r\n",
    "[X]: a\r\n",
    "X@Y: a\r\n",
    "X\\Y: a\r\n",
    "{X}: a\r\n",
    "X=Y: a\r\n",
    "X;Y: a\r\n",
    "X?Y: a\r\n",
    "<X>: a\r\n",
];

fn lines() -> Row {
    let mut cases: Vec<Case> = LINES.iter().map(|it| refused(&[400], get(it))).collect();
    let whole = [
        "GET / HTTP/1.1\r\n X: a\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\n",
        "GET / HTTP/1.1\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\nHost: h\n\n",
        "GET / HTTP/1.1\rHost: h\r\r",
        "GET / HTTP/1.1\r\nHost: h\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r\r\n",
    ];
    cases.extend(whole.iter().map(|it| refused(&[400], it)));
    cases.push(served(get("X-A:a\r\nX-B: \t b \t\r\nX-C:\r\n"), &["x-a: a", "x-b: b"], &[]));
    cases.push(served(get("!#$%&'*+-.^_`|~9: a:b\r\n"), &["!#$%&'*+-.^_`|~9: a:b"], &[]));
    Row {
        title: "Folded lines, space before the colon, no name, NUL, CR, bare LF, control characters",
        cases,
    }
}

fn expectations() -> Row {
    let values = ["more", "100", "100-continue, more", "more, 100-continue", "100-continue;a=b", "200-ok"];
    let with_body = |expect: &str| {
        format!("POST / HTTP/1.1\r\nHost: h\r\nExpect: {expect}\r\nContent-Length: 5\r\n\r\nhello")
    };
    let mut cases: Vec<Case> = values.iter().map(|it| refused(&[417], with_body(it))).collect();
    cases.push(refused(&[417], with_body("100-continue\r\nExpect: more")));
    cases.push(refused(&[417], with_body("more\r\nExpect: 100-continue")));
    Row { title: "Expectations other than 100-continue", cases }
}

fn hop_by_hop() -> Row {
    let ours = &["x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http", "x-forwarded-host: h", "host: h"];
    let cases = vec![
        served(get("Connection: X-Forwarded-For, Cookie\r\nCookie: a=b\r\n"), ours, &["cookie"]),
        served(get("Connection: X-Forwarded-Proto, X-Request-Id, Via, X-Real-IP\r\n"), ours, &[]),
        served(get("Connection: Host\r\n"), ours, &[]),
        served(get("Connection: host, HOST\r\nConnection: x\r\nX: 1\r\n"), ours, &["\nx: 1"]),
        served(
            get("Connection: Forwarded,X-A ,,\t X-B\r\nX-A: 1\r\nx-b: 2\r\nX-C: 3\r\n"),
            ours,
            &["x-a", "x-b"],
        ),
        served(get("Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n"), ours, &["keep-alive"]),
        served(get("Proxy-Authorization: Basic eDp5\r\n"), ours, &["proxy-auth"]),
        served(get("TE: gzip, trailers;q=0.5\r\nConnection: TE\r\n"), ours, &["gzip"]),
        served(
            get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
            ours,
            &["h2c", "http2"],
        ),
    ];
    Row { title: "Hop-by-hop headers", cases }
}

fn spoofed() -> Row {
    let names = [
        "X-Forwarded-For",
        "x-forwarded-for",
        "X-FORWARDED-PROTO",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "Forwarded",
        "X-Real-IP",
        "X-Request-Id",
        "X-Session-Id",
        "X-Session-Url",
        "X-Copal-Request",
        "Copal-Not-Processed",
        "copal-anything",
        // To CGI, WSGI and their kin the same names.
        "X_Forwarded_For",
        "X-Forwarded_For",
        "x_forwarded-for",
        "X_FORWARDED_PROTO",
        "X_Forwarded_Host",
        "X_Real_IP",
        "X-Real_IP",
        "X_Request_Id",
        "X_Session_Id",
        "X_Session_Url",
        "X_Copal_Request",
        "Copal_Session_Url",
    ];
    let ours = &["x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http", "x-forwarded-host: h"];
    let mut cases: Vec<Case> =
        names.iter().map(|name| served(get(&format!("{name}: spoofed\r\n")), ours, &["spoofed"])).collect();
    cases.push(served(
        get("X-Forwarded-For: spoofed\r\nX-Forwarded-For: spoofed, 2\r\n"),
        ours,
        &["spoofed"],
    ));
    Row { title: "Headers that only a proxy may set", cases }
}

#[tokio::test]
async fn lines_that_are_none() {
    check(lines()).await;
}

#[tokio::test]
async fn expectations_nobody_knows() {
    check(expectations()).await;
}

#[tokio::test]
async fn what_is_for_this_connection_alone() {
    check(hop_by_hop()).await;
}

#[tokio::test]
async fn what_only_a_proxy_may_say() {
    check(spoofed()).await;
}
