//! Tests of `if`.

use super::*;

/// Whether a condition, in YAML, holds.
fn holds(condition: &str, asked: &Asked) -> bool {
    let ruled = Ruled::new(&format!("{{forbidden: {{if: {condition}}}}}"));
    ruled.ask(asked) == "403 -"
}

#[test]
fn headers_by_name_and_by_value() {
    let asked = Asked::get("/").header("x-a", b"one").header("x-a", b"two").header("x-b", b"\xff!");
    for (condition, expected) in [
        ("{header: X-A}", true),
        ("{header: X-C}", false),
        ("{header: {name: x-A, regexp: '^two$'}}", true),
        ("{header: {name: X-A, regexp: '^three$'}}", false),
        ("{header: {name: X-C, regexp: ''}}", false),
        ("{header: {name: X-B, regexp: '!$'}}", true),
    ] {
        assert_eq!(holds(condition, &asked), expected, "{condition}");
    }
}

#[test]
fn cookies_are_found_in_every_line() {
    let asked = Asked::get("/").header("cookie", b"a=1; b = \"two\" ;c").header("cookie", b"d=x=y");
    for (condition, expected) in [
        ("{cookie: a}", true),
        ("{cookie: c}", false),
        ("{cookie: A}", false),
        ("{cookie: {name: b, regexp: '^two$'}}", true),
        ("{cookie: {name: d, regexp: '^x=y$'}}", true),
        ("{cookie: {name: a, regexp: '^2$'}}", false),
        ("{cookie: x}", false),
    ] {
        assert_eq!(holds(condition, &asked), expected, "{condition}");
    }
    assert!(!holds("{cookie: a}", &Asked::get("/")));
}

#[test]
fn query_parameters_are_decoded() {
    let asked = Asked::get("/?a=1&b%20c=d+e%2Bf&&flag&x=%ff");
    for (condition, expected) in [
        ("{query-param: a}", true),
        ("{query-param: flag}", true),
        ("{query-param: 'b c'}", true),
        ("{query-param: {name: 'b c', regexp: '^d e\\+f$'}}", true),
        ("{query-param: {name: a, regexp: '^2$'}}", false),
        ("{query-param: {name: flag, regexp: '^$'}}", true),
        ("{query-param: ag}", false),
        ("{query-param: x}", true),
    ] {
        assert_eq!(holds(condition, &asked), expected, "{condition}");
    }
    assert!(!holds("{query-param: a}", &Asked::get("/")));
}

#[test]
fn what_is_known_of_the_connection() {
    let asked = Asked { secure: true, ..Asked::get("/") };
    for (condition, expected) in [
        ("{method: GET}", true),
        ("{method: [HEAD, POST]}", false),
        ("{remote-addr: 192.168.0.0/16}", true),
        ("{remote-addr: [10.0.0.0/8, '::/0']}", false),
        ("{secure: true}", true),
        ("{secure: false}", false),
        ("{server-name: WWW.example.com}", true),
        ("{server-name: [example.com, www.example.org]}", false),
        (r"{server-name: {regexp: '(^|\.)example\.com$'}}", true),
        ("{local-port: [80, 8080]}", true),
        ("{local-port: 443}", false),
        ("{cron: '* 22-23 * * sun'}", true),
        ("{cron: '* * * * 1-6'}", false),
    ] {
        assert_eq!(holds(condition, &asked), expected, "{condition}");
    }
}

#[test]
fn server_names_are_bare() {
    for (host, name) in [("[::1]:8080", "'[::1]'"), ("[::1]", "'::1'"), ("A.b.:1", "a.b"), ("a.b", "A.B")] {
        let asked = Asked { host: host.to_owned(), ..Asked::get("/") };
        assert!(holds(&format!("{{server-name: {name}}}"), &asked), "{host}");
    }
}

#[test]
fn conditions_combine() {
    let asked = Asked::get("/");
    for (condition, expected) in [
        ("{method: GET, secure: false}", true),
        ("{method: GET, secure: true}", false),
        ("{not: {method: GET, secure: true}}", true),
        ("{and: [{method: GET}, {not: {secure: true}}]}", true),
        ("{or: [{method: POST}, {secure: false}]}", true),
        ("{or: [{method: POST}, {and: [{secure: false}, {cookie: a}]}]}", false),
    ] {
        assert_eq!(holds(condition, &asked), expected, "{condition}");
    }
}
