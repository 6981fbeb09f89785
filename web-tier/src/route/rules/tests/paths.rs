//! Paths that servers read in different ways: a rule is not passed by whoever answers.

use super::*;
use crate::http1::Name;

#[test]
fn what_refuses_is_not_passed_by() {
    let ruled = Ruled::new(
        "{forbidden: {regexp: '^/private(/|$)'}}, {forbidden: {regexp: '\\.php$'}},
         {not-found: {regexp: '^/users/[^/]+/secret$'}}, {load-balance: {cluster: one}}",
    );
    for path in [
        "/private",
        "/private/x",
        "/%2Fprivate/x",
        "/%2F%2Fprivate",
        "/.%2Fprivate",
        "/%2E%2Fprivate/x",
        "/.%5Cprivate",
        "/%5Cprivate",
        "/private%2Fx",
        "/private%5Cx",
        "/private;a=1/x",
        "/private;a=1",
        "/private%3Ba=1/x",
        "/;a=1/private/x",
        "/.;a=1/private",
        "/;/private",
        "//private",
        "/x/../private",
        "/uploads/x;.php",
        "/uploads/x%3B.php",
        "/uploads/x.php;y",
        "/uploads/x.php%3By",
    ] {
        let Some(asked) = Asked::get_unless(path) else { continue };
        assert_eq!(ruled.ask(&asked), "403 -", "{path}");
    }
    for path in ["/users/7/secret", "/users/a%2Fb/secret", "/users/7;v=1/secret", "/users/7/secret;v=1"] {
        assert_eq!(ruled.get(path), "404 -", "{path}");
    }
    for path in ["/privates", "/a/private%20x", "/a;private", "/uploads/x.php.txt", "/a%2Fb"] {
        assert_eq!(ruled.get(path), "one", "{path}");
    }
    for hidden in
        ["/a/..;/private", "/..%2Fprivate", "/a/..%3Bx/private", "/a/..%5Cprivate", "/a/%2e%2e%2Fprivate"]
    {
        assert!(Asked::get_unless(hidden).is_none(), "{hidden}");
    }
}

/// What lets pass is not widened: `;.css` is a parameter to the server that would answer.
#[test]
fn what_lets_pass_sees_the_path_without_parameters() {
    let ruled = Ruled::new("{load-balance: {regexp: '\\.(css|png)$', cluster: two}}, {forbidden: {}}");
    for path in ["/a.css", "/a.css;jsessionid=x", "/a%2Fb.css"] {
        assert_eq!(ruled.get(path), "two", "{path}");
    }
    for path in ["/admin;.css", "/admin/users;a.png", "/admin;%2Fa.css", "/admin"] {
        assert_eq!(ruled.get(path), "403 -", "{path}");
    }
}

#[test]
fn what_is_legitimate_goes_where_it_is_to_go() {
    let ruled = Ruled::new(
        "{load-balance: {regexp: '^/api/v4/projects/[^/]+/', cluster: one}},
         {load-balance: {regexp: '^/shop(/|$)', cluster: two}}, {not-found: {}}",
    );
    for (path, expected) in [
        ("/api/v4/projects/group%2Fproject/issues", "one"),
        ("/shop;jsessionid=0F4A", "two"),
        ("/shop/;jsessionid=0F4A", "two"),
        ("/shop/cars;color=red/1", "two"),
        ("/shop/a%3Bb", "two"),
        ("/shop/https%3A%2F%2Fx.org%2F", "two"),
        ("/shop/%E9", "two"),
    ] {
        assert_eq!(ruled.get(path), expected, "{path}");
    }
}

#[test]
fn a_host_can_keep_its_slashes_and_rules_see_them_merged_all_the_same() {
    let ruled = Ruled::of_host(
        "merge-slashes: false, dispatch: [{forbidden: {regexp: '^/private'}},
         {redirect: {regexp: '^/go/(.*)', target: 'https://x.org/$1'}}, {forward: {regexp: '^/fetch/(.*)', target: '/get/$1'}}]",
    );
    let ask = |path: &str| ruled.ask(&Asked::normalised(path, false).unwrap());
    assert_eq!(ask("/fetch/https://example.com//a"), "none as /get/https://example.com//a");
    assert_eq!(ask("/go/https://example.com/"), "302 https://x.org/https://example.com/");
    for path in ["//private", "/private//x", "///private"] {
        assert_eq!(ask(path), "403 -", "{path}");
    }
    let (mut of_any, of_none) = (RequestHead::default(), RequestHead::default());
    of_any.fields.push(Name::Host, b"host", b"any");
    assert!(!ruled.hosts.merges_slashes(&of_any) && !ruled.hosts.merges_slashes(&of_none));
    assert!(Ruled::new("{forbidden: {}}").hosts.merges_slashes(&of_any));
}
