//! Request lines: methods, forms of the target, versions.

use super::{Case, Row, check, refused, served};

pub(super) fn rows() -> Vec<Row> {
    vec![lines(), forms(), methods(), versions()]
}

fn with_line(line: &str) -> String {
    format!("{line}\r\nHost: h\r\n\r\n")
}

fn lines() -> Row {
    let lines = [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.1\t",
        " GET / HTTP/1.1",
        "\tGET / HTTP/1.1",
        "GET /pa th HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET\u{b}/ HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /a\tb HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET /\u{80} HTTP/1.1",
        "GET /\u{c3}(\u{a4} HTTP/1.1",
        "GET /\r HTTP/1.1",
        "GET /\n HTTP/1.1",
        "GET / HTTP/1.1\r",
        "GET / HTTP/1.1\0",
        "GET /a#fragment HTTP/1.1",
        "G\0ET / HTTP/1.1",
        "G\u{1}ET / HTTP/1.1",
        "GET\u{a0}/ HTTP/1.1",
        "G(ET / HTTP/1.1",
        "G:ET / HTTP/1.1",
        "\"GET\" / HTTP/1.1",
        "\0",
        "GET",
        "GET /",
        "/ HTTP/1.1",
        " / HTTP/1.1",
        "HTTP/1.1 200 OK",
        "GET  HTTP/1.1",
        "Host: h",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}",
    ];
    let mut cases: Vec<Case> = lines.iter().map(|it| refused(&[400], with_line(it))).collect();
    // It would be read as HTTP/1.1 in text: prior knowledge is for listeners that say so.
    cases.push(refused(&[505], "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0"));
    Row { title: "Request lines that are none", cases }
}

fn forms() -> Row {
    let lines = [
        "GET * HTTP/1.1",
        "POST * HTTP/1.1",
        "GET *x HTTP/1.1",
        "OPTIONS *x HTTP/1.1",
        "OPTIONS /* HTTP/1.1*",
        "GET h HTTP/1.1",
        "GET h:80 HTTP/1.1",
        "GET a/b HTTP/1.1",
        "GET ?x HTTP/1.1",
        "GET #x HTTP/1.1",
        "GET ../a HTTP/1.1",
        "GET \\a HTTP/1.1",
        "GET http:/h HTTP/1.1",
        "GET http:h HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET http:///a HTTP/1.1",
        "GET ftp://h/ HTTP/1.1",
        "GET file:///etc/passwd HTTP/1.1",
        "GET javascript:alert(1) HTTP/1.1",
        "GET @h/ HTTP/1.1",
        "GET :80/ HTTP/1.1",
    ];
    let mut cases: Vec<Case> = lines.iter().map(|it| refused(&[400], with_line(it))).collect();
    cases.push(served(with_line("OPTIONS * HTTP/1.1"), &["options * http/1.1"], &[]));
    cases.push(served(with_line("GET http://h/a?b HTTP/1.1"), &["get /a?b http/1.1", "host: h"], &[]));
    Row {
        title: "Asterisk form other than OPTIONS, authority form other than CONNECT, forms that are none",
        cases,
    }
}

fn methods() -> Row {
    let lines = [
        "CONNECT h:80 HTTP/1.1",
        "CONNECT h HTTP/1.1",
        "CONNECT / HTTP/1.1",
        "CONNECT http://h/ HTTP/1.1",
        "TRACE / HTTP/1.1",
        "TRACE * HTTP/1.1",
        "TRACE http://h/ HTTP/1.1",
    ];
    // With a second fault either may be told.
    let cases = lines.iter().enumerate().map(|(place, it)| {
        let plain = matches!(place, 0 | 4);
        refused(if plain { &[405] } else { &[400, 405] }, with_line(it))
    });
    // RFC 9112 §3.
    let long = [65, 20_000, 100_000]
        .map(|length| refused(&[501], with_line(&format!("{} / HTTP/1.1", "A".repeat(length)))));
    let known = served(with_line("VERSION-CONTROL / HTTP/1.1"), &["version-control / http/1.1"], &[]);
    Row {
        title: "CONNECT and TRACE, methods that are longer than any",
        cases: cases.chain(long).chain([known]).collect(),
    }
}

fn versions() -> Row {
    let others = ["HTTP/0.9", "HTTP/2.0", "HTTP/3.0", "HTTP/9.9", "HTTP/0.0"];
    let none = [
        "HTTP/1.10",
        "HTTP/1.11",
        "HTTP/1.01",
        "HTTP/01.1",
        "HTTP/11.1",
        "HTTP/10.1",
        "HTTP/01.01",
        "HTTP/2",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/",
        "HTTP",
        "http/1.1",
        "Http/1.1",
        "HTTP/1.1x",
        "HTTP/1,1",
        "HTTP/1:1",
        "HTTP/+1.1",
        "HTTP/-1.1",
        "HTTP/1.-1",
        "HTTP/0x1.1",
        "HTTP/a.b",
        "HTTP\\1.1",
        "HTTPS/1.1",
        "XHTTP/1.1",
        "ICY/1.1",
        "FOO/1.1",
        "1.1",
        "HTTP/\u{b1}.1",
    ];
    let get = |version: &&str| with_line(&format!("GET / {version}"));
    let mut cases: Vec<Case> = others.iter().map(|it| refused(&[505], get(it))).collect();
    cases.extend(none.iter().map(|it| refused(&[400], get(it))));
    cases.push(refused(&[400], "GET /\r\n\r\n"));
    cases.push(refused(&[400], "GET /\r\n"));
    // RFC 9110 §2.5: they are of this major version.
    cases.extend(
        ["HTTP/1.2", "HTTP/1.9"].iter().map(|it| served(get(it), &["get / http/1.1", "via: 1.1 copal"], &[])),
    );
    Row { title: "HTTP/0.9, HTTP/2.0 in text, odd versions", cases }
}

#[tokio::test]
async fn lines_that_are_no_request() {
    check(lines()).await;
}

#[tokio::test]
async fn forms_of_targets() {
    check(forms()).await;
}

#[tokio::test]
async fn methods_that_are_not_for_a_proxy_like_this() {
    check(methods()).await;
}

#[tokio::test]
async fn versions_that_are_none() {
    check(versions()).await;
}
