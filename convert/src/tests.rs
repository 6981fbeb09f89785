//! Whole files, and hostile ones.

use super::*;
use common::config::{LoadOptions, load_str};
use proptest::prelude::*;
use std::fs;

mod choices;
mod sockets;
mod tcp;
mod words;

use words::{HAPROXY, NGINX};

fn converted(text: &str, name: &str) -> Converted {
    convert(text, Path::new(name), None).unwrap_or_else(|cause| panic!("{cause}"))
}

/// A translation that is a file of ours.
fn valid(text: &str, name: &str) -> Converted {
    let converted = converted(text, name);
    let loaded = load_str(&converted.yaml, Path::new("copal.yaml"), &LoadOptions::default());
    loaded.unwrap_or_else(|errors| panic!("{errors}\n{}", converted.yaml));
    converted
}

/// The rules of a part of `server { … }`, each on its line.
fn nginx(server: &str) -> String {
    rules(&valid(&format!("server {{ listen 80; {server} }}"), "nginx.conf").yaml)
}

/// The rules of a frontend, with a backend `b`.
fn haproxy(frontend: &str) -> String {
    let text = format!(
        "frontend f\n mode http\n bind :80\n{frontend}\n default_backend b\nbackend b\n server s 10.0.0.1:80\n"
    );
    rules(&valid(&text, "haproxy.cfg").yaml)
}

fn rules(yaml: &str) -> String {
    yaml.split("dispatch:\n")
        .skip(1)
        .collect::<String>()
        .lines()
        .map(|line| format!("{}\n", line.trim()))
        .collect()
}

fn lines(left: &[Left]) -> String {
    left.iter().map(|it| format!("{it}\n")).collect()
}

/// `UPDATE_EXPECT=1` writes the expected files anew.
#[test]
fn whole_files_become_what_is_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/files");
    for name in ["shop.nginx.conf", "shop.haproxy.cfg", "tcp.nginx.conf", "tcp.haproxy.cfg"] {
        let path = folder.join(name);
        let found = valid(&fs::read_to_string(&path).unwrap(), name);
        let expected =
            |extension: &str| expect_test::expect_file![folder.join(format!("{name}.{extension}"))];
        expected("yaml").assert_eq(&found.yaml);
        expected("left").assert_eq(&lines(&found.left));
    }
}

#[test]
fn the_first_rule_that_fits_is_the_location_that_nginx_takes() {
    let found = nginx(
        "location / { return 500; } location /a/ { return 501; } location ^~ /a/b/ { return 502; } location = /a/ { return 503; } \
         location ~ \\.x$ { return 504; } location ~* \\.X { return 505; } location /a/long { return 506; }",
    );
    let codes: Vec<&str> =
        found.lines().filter_map(|it| it.split("code: ").nth(1)).map(|it| &it[..3]).collect();
    assert_eq!(codes, ["503", "502", "504", "505", "506", "501", "500"], "{found}");
}

#[test]
fn what_guards_a_path_and_cannot_be_translated_closes_it() {
    for guard in [
        "auth_basic a;",
        "auth_request /auth;",
        "internal;",
        "limit_except GET { deny all; }",
        "deny 10.0.0.1/8;",
    ] {
        let found = nginx(&format!("location /a/ {{ {guard} proxy_pass http://10.0.0.1; }}"));
        assert!(found.contains("send-error: {regexp: '^/a/', code: 501"), "{guard}: {found}");
    }
    let found = haproxy(
        " http-request auth if { path_beg /a }\n http-request deny if { src -f file } { path_beg /b }",
    );
    assert!(found.contains("send-error: {regexp: '^/a', code: 501"), "{found}");
    assert!(found.contains("send-error: {regexp: '^/b', code: 501"), "{found}");
}

#[test]
fn allow_and_deny_hold_in_their_order() {
    let found =
        nginx("location / { allow 10.0.0.1; deny 10.0.0.0/8; allow 192.168.0.0/16; deny all; return 200; }");
    assert!(!found.contains("forbidden"), "a return comes first in nginx: {found}");
    let found = nginx(
        "location / { allow 10.0.0.1; deny 10.0.0.0/8; allow 192.168.0.0/16; deny all; proxy_pass http://10.1.0.1; }",
    );
    let expected = "- forbidden: {if: {remote-addr: '10.0.0.0/8', not: {remote-addr: '10.0.0.1'}}}\n\
                    - forbidden: {if: {not: {remote-addr: ['10.0.0.1', '192.168.0.0/16']}}}\n";
    assert!(found.starts_with(expected), "{found}");
}

#[test]
fn conditions_of_haproxy_are_alternatives_of_rules() {
    let found = haproxy(
        " acl a path_beg /a\n acl o src 10.0.0.0/8\n acl o hdr(x) 1\n http-request deny if a !o || { method PUT }",
    );
    let expected = "- forbidden:\nregexp: '^/a'\nif: {and: [{not: {remote-addr: '10.0.0.0/8'}}, {not: {header: {name: x, regexp: '^1$'}}}]}\n\
                    - forbidden: {if: {method: PUT}}\n";
    assert!(found.starts_with(expected), "{found}");
}

#[test]
fn what_is_included_is_read_from_beside_the_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("sites")).unwrap();
    fs::write(folder.path().join("sites/b.conf"), "server { listen 81; oops; }").unwrap();
    fs::write(folder.path().join("sites/a.conf"), "server { listen 80; }").unwrap();
    let path = folder.path().join("nginx.conf");
    let found = convert("http { include sites/*.conf; }", &path, None).unwrap();
    assert!(found.yaml.contains("port: 80") && found.yaml.contains("port: 81"), "{}", found.yaml);
    assert_eq!(found.left.len(), 1);
    assert!(found.left[0].to_string().contains("sites/b.conf:1: oops: "), "{}", found.left[0]);
    fs::write(folder.path().join("round.conf"), "include round.conf;").unwrap();
    let round = convert("http { include round.conf; }", &path, None).unwrap_err().to_string();
    assert!(round.contains("deep in each other"), "{round}");
    let missing = convert("http {\n include no.conf; }", &path, None).unwrap_err().to_string();
    assert!(missing.ends_with("nginx.conf:2:2: can't read `no.conf`: there is no such file"), "{missing}");
}

#[test]
fn what_is_no_file_of_theirs_says_where() {
    let error = |text: &str, peer| convert(text, Path::new("f"), peer).unwrap_err().to_string();
    assert!(error("hello", None).contains("say whose it is with --from"));
    assert_eq!(error("http {\n server {\n}", None), "f:1:6: this `{` has no `}`");
    assert_eq!(error("a b", Some(Peer::Nginx)), "f:1:1: `a` has no `;` at its end");
    assert_eq!(error("a \"b;", Some(Peer::Nginx)), "f:1:3: the quote has no end");
    assert_eq!(
        error("}", Some(Peer::Nginx)),
        "f:1:1: `}` was not expected here: a `;` is missing before it, or a `{`"
    );
    let early = error("bind :80", Some(Peer::Haproxy));
    assert!(early.starts_with("f:1:1: expected a section"), "{early}");
    assert!(error(&"{".repeat(100), Some(Peer::Nginx)).contains("`{` without a directive"));
    assert!(error(&"a {".repeat(100), Some(Peer::Nginx)).contains("deep in each other"));
}

#[test]
fn no_name_of_a_file_leaves_its_comment() {
    let path = Path::new("/nowhere/a\n  - b\u{feff}.conf");
    let found = convert("http { oops; server { oops; } }", path, None).unwrap();
    load_str(&found.yaml, Path::new("copal.yaml"), &LoadOptions::default()).unwrap();
    assert!(!found.yaml.contains("\n  - b"), "{}", found.yaml);
}

#[test]
fn what_is_closed_is_named_on_one_line() {
    let found = haproxy(&format!(" http-request a\u{7}\u{feff}{}", "x".repeat(5000)));
    assert!(found.contains("message: 'not translated: http-request a"), "{found}");
}

/// Words of both, in any order.
fn text(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    let word = prop_oneof![3 => proptest::sample::select(words), 1 => Just("\u{e9}\u{7}$x"), 1 => Just("'"), 1 => Just("%[src]")];
    proptest::collection::vec(word, 0..60).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn any_text_of_nginx_is_refused_or_becomes_a_file_of_ours(text in text(NGINX)) {
        whatever(&text, Peer::Nginx)?;
    }

    #[test]
    fn any_text_of_haproxy_is_refused_or_becomes_a_file_of_ours(text in text(HAPROXY)) {
        whatever(&text, Peer::Haproxy)?;
    }

    #[test]
    fn any_bytes_have_an_answer(text in ".{0,200}") {
        for peer in [Peer::Nginx, Peer::Haproxy] {
            whatever(&text, peer)?;
        }
    }
}

fn whatever(text: &str, peer: Peer) -> Result<(), TestCaseError> {
    if let Ok(found) = convert(text, Path::new("/nowhere/file"), Some(peer)) {
        let loaded = load_str(&found.yaml, Path::new("copal.yaml"), &LoadOptions::default());
        prop_assert!(loaded.is_ok(), "{}\n{}\n{}", text, found.yaml, loaded.unwrap_err());
    }
    Ok(())
}
