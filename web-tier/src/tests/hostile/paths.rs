//! Paths: refused, or normalised once for all who decide by them.

use super::{Case, Row, check, refused, served};

pub(super) fn rows() -> Vec<Row> {
    vec![bad(), normal()]
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn bad() -> Row {
    let paths = [
        "/%00",
        "/a%00b",
        "/a/%00",
        "/%",
        "/%1",
        "/%zz",
        "/%0g",
        "/a%",
        "/%%41",
        "/%u0041",
        "/..",
        "/../",
        "/../a",
        "/a/../..",
        "/a/../../b",
        "/./..",
        "//..",
        "/%2e%2e",
        "/%2E%2e/a",
        "/.%2e/a",
        "/a/%2e%2e/%2e%2e/b",
        "/..%2fa",
        "/a/..%2f..%2fb",
        "/%2e%2e%2fa",
        "/..%5ca",
        "/..\\a",
        "/\\..\\a",
        "/a/..;/b",
        "/..;a=b/c",
        "/a/%2e%2e;/b",
        "/a/..%3B/b",
        "/a/b%2f..%3bc/d",
        "http://h/../a",
        "http://h/%2e%2e/a",
    ];
    let cases = paths.iter().map(|path| refused(&[400], get(path))).collect();
    Row { title: "NUL, invalid escapes, and ways above the root", cases }
}

fn normal() -> Row {
    let paths = [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a//b", "/a/b"),
        ("//a/b", "/a/b"),
        ("///", "/"),
        ("/%61", "/a"),
        ("/%7Ea", "/~a"),
        ("/a/%2e/b", "/a/b"),
        ("/a/%2E%2e/b", "/b"),
        ("/a%2fb", "/a%2fb"),
        ("/a%2Fb", "/a%2fb"),
        ("/a%5Cb", "/a%5cb"),
        ("/a\\b", "/a/b"),
        ("/%252e%252e/a", "/%252e%252e/a"),
        ("/%c0%ae%c0%ae/a", "/%c0%ae%c0%ae/a"),
        ("/a/...", "/a/..."),
        ("/a..b", "/a..b"),
        ("/a?b=../../c&d=%2e%2e", "/a?b=../../c&d=%2e%2e"),
        ("/a%20b", "/a%20b"),
        ("/a%0d%0ab", "/a%0d%0ab"),
        ("/a;b=c", "/a;b=c"),
        ("/%2Fa/b", "/%2fa/b"),
        ("/.%2Fa", "/.%2fa"),
        ("/a;b=c/d", "/a;b=c/d"),
        ("/;a/b", "/;a/b"),
        ("/a/https%3A%2F%2Fh", "/a/https%3a%2f%2fh"),
        ("/a%E9", "/a%e9"),
    ];
    let case = |(sent, sees): (&str, &'static str)| -> Case {
        let line: &'static str = Box::leak(format!("get {sees} http/1.1").into_boxed_str());
        served(get(sent), &[line], &[])
    };
    Row { title: "Paths are normalised once, for rules and servers alike", cases: paths.map(case).into() }
}

#[tokio::test]
async fn paths_that_lead_astray() {
    check(bad()).await;
}

#[tokio::test]
async fn paths_that_have_a_normal_form() {
    check(normal()).await;
}
