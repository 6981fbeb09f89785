//! Tests of targets filled in with what clients send.

use super::*;
use proptest::prelude::*;

fn redirected(rule: &str, target: &str) -> String {
    Ruled::new(&format!("{{redirect: {{{rule}}}}}")).get(target)
}

#[test]
fn a_target_takes_the_place_of_what_matched() {
    for (rule, path, expected) in [
        ("regexp: '^/old/(.*)', target: '/new/$1'", "/old/a/b", "302 /new/a/b"),
        ("regexp: '^/old', target: '/new'", "/old/a", "302 /new/a"),
        ("regexp: 'old', target: 'new'", "/x/old/old", "302 /x/new/old"),
        (r"regexp: '\.php$', target: '.html'", "/a.php", "302 /a.html"),
        ("regexp: '^/app', target: ''", "/app/x", "302 /x"),
        ("regexp: '^/app', target: ''", "/app", "302 /"),
        ("regexp: '^/(a)|^/(b)', target: '/x$2'", "/a", "302 /x"),
        ("target: 'https://$host$0'", "/a/b?c=d", "302 https://www.example.com/a/b?c=d"),
        ("target: 'https://$host:8443$0'", "/", "302 https://www.example.com:8443/"),
        ("regexp: '^', target: 'https://x.org'", "/a?b", "302 https://x.org/a?b"),
        ("regexp: '/b', target: 'https://x.org/c'", "/a/b/d", "302 https://x.org/c/d"),
        (r"regexp: '^/(\d+)$', target: '/item?id=$1#top'", "/7?x=y", "302 /item?id=7&x=y#top"),
        ("regexp: '^/q', target: '/r?'", "/q?x=y", "302 /r"),
        ("regexp: '^/$', target: '/$$1'", "/", "302 /$1"),
    ] {
        assert_eq!(redirected(rule, path), expected, "{rule}");
    }
    assert_eq!(Ruled::new("{moved-permanently: {target: /x}}").get("/"), "301 /x");
}

#[test]
fn nothing_that_a_client_sends_becomes_a_host_or_a_line() {
    let open = "regexp: '^/go/(.*)', target: '/$1'";
    for (path, expected) in [
        ("/go//evil.example/", "302 /evil.example/"),
        ("/go///evil.example", "302 /evil.example"),
        ("/go/%2Fevil.example/", "302 /evil.example/"),
        ("/go/%2F%2Fevil.example", "302 /evil.example"),
        ("/go/\\evil.example", "302 /evil.example"),
        ("/go/%5Cevil.example", "302 /evil.example"),
        ("/go/%5C%5Cevil.example", "302 /evil.example"),
        ("/go/%09%2Fevil.example", "302 /%09%2Fevil.example"),
        ("/go/a%0D%0ASet-Cookie:%20b=c", "302 /a%0D%0ASet-Cookie:%20b=c"),
        ("/go/https://evil.example", "302 /https:/evil.example"),
        ("/go/a?b", "302 /a?b"),
        ("/go/ü%25", "302 /%C3%BC%25"),
        ("/go/\"<a>", "302 /%22%3Ca%3E"),
    ] {
        assert_eq!(redirected(open, path), expected, "{path:?}");
    }
    // The slash before it is a part of what was found: it stays what it was, which is no beginning of a host.
    assert_eq!(
        redirected("regexp: '^/go(/.*)', target: '$1'", "/go/%2Fevil.example"),
        "302 /%2Fevil.example"
    );
    // Not www.example.com.evil.example, nor a name and password before another host.
    let glued = "regexp: '^/x(.*)', target: 'https://www.example.com$1'";
    assert_eq!(redirected(glued, "/x.evil.example"), "302 https://www.example.com/.evil.example");
    assert_eq!(redirected(glued, "/x@evil.example/"), "302 https://www.example.com/@evil.example/");
    assert_eq!(redirected("regexp: '^/(.*)', target: '$1'", "/a:b"), "302 /a:b");
    let query = "regexp: '^/s/(.*)', target: '/find?q=$1'";
    assert_eq!(redirected(query, "/s/a&admin=1%23x%20y+"), "302 /find?q=a%26admin%3D1%23x%20y%2B");
}

/// RFC 3986 §2.2: `%2F` is not `/`. What is redirected is what was asked for.
#[test]
fn escapes_survive() {
    let whole = "target: 'https://$host$0'";
    for path in [
        "/a%2Fb",
        "/a%3Bb;c=d",
        "/caf%E9",
        "/%C3%BC",
        "/a%20b",
        "/a%5Cb",
        "/a%3Fb%23c",
        "/https%3A%2F%2Fx.org",
        "/a;v=1/b",
    ] {
        assert_eq!(redirected(whole, path), format!("302 https://www.example.com{path}"));
        let ruled = Ruled::new("{forward: {regexp: '^/from/(.*)', target: '/to/$1'}}");
        assert_eq!(ruled.get(&format!("/from{path}")), format!("none as /to{path}"));
        let prefix = format!("{path}/old/x");
        assert_eq!(redirected("regexp: '/old', target: '/new'", &prefix), format!("302 {path}/new/x"));
    }
    assert_eq!(
        redirected(whole, "/%7euser%2fa"),
        "302 https://www.example.com/~user%2Fa",
        "in their normal form"
    );
    let value = "regexp: '^/f/(.*)', target: '/find?q=$1'";
    assert_eq!(redirected(value, "/f/a%2Fb%E9;c"), "302 /find?q=a%2Fb%E9%3Bc");
}

#[test]
fn a_decoded_question_mark_stays_in_the_path() {
    assert_eq!(redirected("regexp: '^/go/', target: '/'", "/go/a%3Fb%23c"), "302 /a%3Fb%23c");
}

#[test]
fn what_cannot_be_filled_in_is_refused() {
    let up = "regexp: '^/a(.*)', target: '/static/$1'";
    let dots = "400 the path has a dot segment after a rule has changed it";
    assert_eq!(redirected(up, "/a../secret"), dots);
    assert_eq!(redirected(up, "/a..;x/secret"), dots);
    assert_eq!(redirected(up, "/a..%2Fsecret"), dots);
    assert_eq!(redirected(up, "/a..%3Bx/secret"), dots);
    assert_eq!(redirected(up, "/a./secret"), dots);
    assert_eq!(
        redirected(up, &format!("/a{}", "%C3%A9".repeat(3000))),
        "414 the address that a rule makes of it is longer than 16384 bytes"
    );
    let ruled = Ruled::new("{redirect: {target: 'https://$host$0'}}");
    for host in ["", "a b", "a@b", "a/b", "a\r\nb", "[::g]", "ü"] {
        let asked = Asked { host: host.to_owned(), ..Asked::get("/") };
        assert_eq!(ruled.ask(&asked), "400 the request names no host", "{host:?}");
    }
    let asked = Asked { host: "[::1]:80".to_owned(), ..Asked::get("/") };
    assert_eq!(ruled.ask(&asked), "302 https://[::1]/");
}

#[test]
fn a_forward_begins_the_rules_again() {
    let ruled = Ruled::new(
        "{load-balance: {regexp: '^/new/', cluster: one}}, {forward: {regexp: '^/old/(.*)', target: '/new/$1?from=$1'}},
         {forward: {regexp: '^/spaced', target: '/new/a%20b'}}, {forward: {regexp: '^/param', target: '/check?x=1'}},
         {load-balance: {regexp: '^/check', cluster: two, if: {query-param: {name: x, regexp: '^1$'}}}}",
    );
    assert_eq!(ruled.get("/old/é&?q=1"), "one as /new/%C3%A9&?from=%C3%A9%26&q=1");
    assert_eq!(ruled.get("/spaced"), "one as /new/a%20b");
    assert_eq!(ruled.get("/param"), "two as /check?x=1");
    let asked = Asked::get("/spaced");
    let outcome = ruled.hosts.evaluate(&asked.view());
    assert_eq!(outcome.rewritten.unwrap().seen, "/new/a b");
}

#[test]
fn a_circle_of_forwards_ends() {
    let ruled = Ruled::new("{forward: {regexp: '^/a', target: /b}}, {forward: {regexp: '^/b', target: /a}}");
    assert_eq!(ruled.get("/a").split(" as ").next().unwrap(), format!("500 {CIRCLE}"));
    // Each round is twice as long as the one before: it ends by its length.
    let doubling = Ruled::new("{forward: {regexp: '^/.*$', target: '$0$0'}}");
    let long = format!("/{}", "x".repeat(2000));
    assert!(doubling.get(&long).starts_with("414 "), "{}", &doubling.get(&long)[..40]);
}

#[test]
fn ten_forwards_are_no_circle() {
    let rules = |count: usize| {
        let rule = |n: usize| format!("{{forward: {{regexp: '^/{n}$', target: /{}}}}}", n + 1);
        Ruled::new(&(0..count).map(rule).collect::<Vec<_>>().join(", "))
    };
    assert_eq!(rules(FORWARDS_MAX).get("/0"), "none as /10");
    assert!(rules(FORWARDS_MAX + 1).get("/0").starts_with("500 "));
}

proptest! {
    #[test]
    fn a_location_is_always_one_line_of_this_host(path in "/([a-z./;:@\\\\]|%2F|%5C|%0D%0A|%E9|%09|\\PC){0,30}", merges: bool) {
        prop_assume!(!path.contains(['?', '#', ' ']));
        let Some(asked) = Asked::normalised(&path, merges) else { return Ok(()) };
        for target in ["/$1", "$1", "/a$1", "$1$1", "$path", "$request-uri"] {
            let rule = format!("{{redirect: {{regexp: '(?s)^/(.*)$', target: '{target}'}}}}");
            let ruled = Ruled::of_host(&format!("merge-slashes: {merges}, dispatch: [{rule}]"));
            match ruled.hosts.evaluate(&asked.view()).decision {
                Decision::Redirect { location, .. } => {
                    prop_assert!(location.bytes().all(|it| it.is_ascii_graphic()), "{:?}", location);
                    prop_assert!(location.starts_with('/') && !location[1..].starts_with(['/', '\\']), "{:?}", location);
                }
                Decision::Error { status, .. } => prop_assert_eq!(status, 400),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    /// What is rewritten is in the normal form that requests have.
    #[test]
    fn a_forwarded_path_is_normal(path in "/([a-z./;\\\\]|%2F|%2e|%5C|%3B|%E9|%20){0,30}") {
        let ruled = Ruled::new("{forward: {regexp: '^/(.*)$', target: '/to/$1', if: {not: {header: x}}}}");
        let Some(asked) = Asked::get_unless(&path) else { return Ok(()) };
        if let Some(it) = ruled.hosts.evaluate(&asked.view()).rewritten {
            prop_assert_eq!(normalise(&it.path, true), Ok(Path::Same), "{}", it.path);
            prop_assert!(it.path.starts_with("/to"), "{}", it.path);
            prop_assert!(it.seen.split('/').all(|part| part != ".." && part != "."), "{}", it.seen);
        }
    }
}
