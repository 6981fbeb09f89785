//! Tests of what targets and headers can have of a request.

use super::*;

fn redirected(target: &str, asked: &Asked) -> String {
    Ruled::new(&format!("{{redirect: {{regexp: '^/a', target: '{target}'}}}}")).ask(asked)
}

#[test]
fn targets_have_what_was_asked_for() {
    let secure = Asked { secure: true, ..Asked::get("/a%2Fb/c?x=1&y=%20") };
    for (target, expected) in [
        ("https://new.example$request-uri", "302 https://new.example/a%2Fb/c?x=1&y=%20"),
        ("$scheme://new.example$path", "302 https://new.example/a%2Fb/c?x=1&y=%20"),
        ("$scheme://$host:8443/x?", "302 https://www.example.com:8443/x%2Fb/c"),
        ("/login?return=$request-uri", "302 /login?return=/a%252Fb/c%3Fx%3D1%26y%3D%2520"),
        ("/new$path?$query&z=2", "302 /new/a%2Fb/c?x=1&y=%20&z=2"),
        ("/$scheme/$remote-addr", "302 /https/192.168.0.7%2Fb/c?x=1&y=%20"),
    ] {
        assert_eq!(redirected(target, &secure), expected, "{target}");
    }
    let plain = Asked::get("/a");
    assert_eq!(redirected("$scheme://$host$request-uri", &plain), "302 http://www.example.com/a");
    assert_eq!(redirected("/x?$query", &plain), "302 /x");
}

#[test]
fn a_request_uri_is_the_one_that_was_asked_for_whatever_became_of_the_path() {
    let ruled = Ruled::new(
        "{forward: {regexp: '^/a', target: '/b?n=1'}},
         {redirect: {regexp: '^/b', target: '/c$path?$query&was=$request-uri'}}",
    );
    assert!(ruled.get("/a?q").starts_with("302 /c/b?n=1&q&was=/a%3Fq as "), "{}", ruled.get("/a?q"));
    let ruled = Ruled::new(
        "{forward: {regexp: '^/a', target: '/b?n=1'}}, {redirect: {target: 'https://x.org$request-uri'}}",
    );
    assert!(ruled.get("/a?q").starts_with("302 https://x.org/a?q as "));
}

#[test]
fn headers_have_it_too() {
    let ruled = Ruled::new(
        "{set-header: {name: X-Uri, value: $request-uri}}, {set-request-header: {name: X-From, value: '$scheme $host $remote-addr'}},
         {add-header: {regexp: '^/item/([^/]+)', name: X-Item, value: 'no. $1, $$5'}}, {set-header: {name: X-Query, value: $query}},
         {set-request-header: {name: Host, value: $host}}",
    );
    let values = |asked: &Asked| {
        let outcome = ruled.hosts.evaluate(&asked.view());
        outcome.noted.edits.iter().map(|it| it.value.clone().into_owned()).collect::<Vec<_>>()
    };
    let asked = Asked::get("/item/a%2Fb%E9;v=1/x?q=1");
    let from = "http www.example.com 192.168.0.7";
    // The name ends where rules see a slash.
    assert_eq!(values(&asked), ["/item/a%2Fb%E9;v=1/x?q=1", from, "no. a, $5", "q=1", "www.example.com"]);
    assert_eq!(values(&Asked::get("/")), ["/", from, "", "www.example.com"], "nothing takes the header away");
    let nameless = Asked { host: String::new(), ..Asked::get("/?") };
    assert_eq!(values(&nameless), ["/?", "http  192.168.0.7", "", ""]);
}

#[test]
fn what_becomes_too_long_is_refused() {
    let value = "$request-uri".repeat(20);
    let ruled = Ruled::new(&format!("{{set-header: {{name: X-A, value: '{value}'}}}}"));
    assert!(ruled.get(&format!("/{}", "a".repeat(1000))).starts_with("414 "));
}
