//! The `Host` header.

use super::{Case, Row, check, refused, served};

pub(super) fn rows() -> Vec<Row> {
    vec![hosts()]
}

fn get(target: &str, hosts: &str) -> String {
    format!("GET {target} HTTP/1.1\r\n{hosts}\r\n")
}

/// In place of a good `Host`.
const HEADERS: &[&str] = &[
    "",
    "X: h\r\n",
    "Host: a\r\nHost: b\r\n",
    "Host: h\r\nHost: h\r\n",
    "Host: h\r\nhost: h\r\n",
    "Host: h\r\nX: 1\r\nHOST: \r\n",
    "Host: a b\r\n",
    "Host: a\tb\r\n",
    "Host: a, b\r\n",
    "Host: a/b\r\n",
    "Host: http://a\r\n",
    "Host: user@h\r\n",
    "Host: h\\x\r\n",
    "Host: h?x\r\n",
    "Host: h#x\r\n",
    "Host: <h>\r\n",
    "Host: {h}\r\n",
    "Host: h^x\r\n",
    "Host: h|x\r\n",
    "Host: h`x\r\n",
    "Host: \"h\"\r\n",
    "Host: h\0\r\n",
    "Host: h\u{1}\r\n",
    "Host: h\u{7f}\r\n",
    "Host: h\u{80}\r\n",
    "Host: h\u{c3}\u{a4}\r\n",
    "Host: h:x\r\n",
    "Host: h:-1\r\n",
    "Host: h:80:80\r\n",
    "Host: [::1\r\n",
    "Host: ::1]\r\n",
    "Host: [::1]x\r\n",
    "Host: [x]\r\n",
    "Host: a%zz\r\n",
    "Host : h\r\n",
    "Host\r\n",
];

fn hosts() -> Row {
    let mut cases: Vec<Case> = HEADERS.iter().map(|it| refused(&[400], get("/", it))).collect();
    let absolute = [
        ("http://a/", "Host: b\r\n"),
        ("http://a/", "Host: a.b\r\n"),
        ("http://a:81/", "Host: a\r\n"),
        ("http://a/", "Host: \r\n"),
        ("http://a/", ""),
        ("http://u@a/", "Host: a\r\n"),
        ("http://u@a/", "Host: u@a\r\n"),
        ("http://a\\@b/", "Host: a\r\n"),
        ("http://a:x/", "Host: a:x\r\n"),
        ("http://[::1/", "Host: [::1\r\n"),
        ("http://a:443/", "Host: a\r\n"),
        ("https://a:80/", "Host: a\r\n"),
        ("http://a%2f/", "Host: a\r\n"),
        ("http://a%3a80/", "Host: a:80\r\n"),
        ("http://[::1]/", "Host: [::2]\r\n"),
    ];
    cases.extend(absolute.iter().map(|(target, host)| refused(&[400], get(target, host))));
    cases.push(refused(&[400], get("http://a b/", "Host: a\r\n")));
    cases.extend(
        [
            ("/", "Host: H.example:8080\r\n", "host: h.example:8080"),
            ("/", "Host: [::1]:80\r\n", "host: [::1]:80"),
            ("/", "Host: 127.0.0.1\r\n", "host: 127.0.0.1"),
            ("/", "Host:h\r\n", "host: h"),
            ("http://h.example/a", "Host: H.example\r\n", "get /a http/1.1"),
            ("http://h:80/a", "Host: h\r\n", "host: h"),
            ("http://h/a", "Host: h:80\r\n", "host: h:80"),
            ("http://h:/a", "Host: h\r\n", "host: h"),
            ("https://h:443/a", "Host: h\r\n", "host: h"),
            ("http://%68/a", "Host: H\r\n", "host: h"),
            ("http://[0:0::1]:80/a", "Host: [::1]\r\n", "host: [::1]"),
        ]
        .map(|(target, host, sees)| served(get(target, host), &[sees], &[])),
    );
    Row { title: "Host missing, twice, invalid, or unlike that of the target", cases }
}

#[tokio::test]
async fn hosts_that_are_none() {
    check(hosts()).await;
}
