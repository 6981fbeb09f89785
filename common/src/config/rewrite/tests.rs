//! Tests of targets as the file writes them.

use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> RewriteTarget {
    RewriteTarget::parse(text, 3, true).unwrap_or_else(|cause| panic!("{text}: {cause}"))
}

fn refused(text: &str) -> String {
    RewriteTarget::parse(text, 3, true).unwrap_err()
}

fn text(text: &str) -> Piece {
    Piece::Text(text.to_owned())
}

#[test]
fn paths_hold_groups() {
    assert_eq!(parse("/new/$1").path, [text("/new/"), Piece::Group(1)]);
    assert_eq!(parse("$2/x$0y").path, [Piece::Group(2), text("/x"), Piece::Group(0), text("y")]);
    assert_eq!(parse("/$host/$$1").path, [text("/"), Piece::Variable(Variable::Host), text("/$1")]);
    assert_eq!(parse("").path, []);
    // As many digits as there are groups for.
    assert_eq!(parse("/$12").path, [text("/"), Piece::Group(1), text("2")]);
    let many = RewriteTarget::parse("/$12", 13, true).unwrap();
    assert_eq!(many.path, [text("/"), Piece::Group(12)]);
}

#[test]
fn a_query_is_its_own_and_the_requests_unless_it_ends_at_once() {
    let target = parse("/a?b=$1&c=/?#top");
    assert_eq!(target.query, [text("b="), Piece::Group(1), text("&c=/?")]);
    assert_eq!((target.keep_query, target.fragment.as_deref()), (true, Some("top")));
    assert!(parse("/a").keep_query && !parse("/a?").keep_query);
}

#[test]
fn a_url_has_an_origin_that_no_group_reaches() {
    let origin = |text: &str| parse(text).origin.unwrap();
    assert_eq!(
        origin("https://www.example.com/$1"),
        Origin { scheme: Some("https"), host: Some("www.example.com".to_owned()), port: None }
    );
    assert_eq!(
        origin("http://[::1]:8080"),
        Origin { scheme: Some("http"), host: Some("[::1]".to_owned()), port: Some(8080) }
    );
    assert_eq!(
        origin("https://$host:8443$0"),
        Origin { scheme: Some("https"), host: None, port: Some(8443) }
    );
    // The group is part of the path, which gets its slash when it is filled in.
    let target = parse("https://www.example.com$1");
    assert_eq!(target.path, [Piece::Group(1)]);
    assert_eq!(target.origin.unwrap().host.as_deref(), Some("www.example.com"));
    assert_eq!(parse("/to/http://x").origin, None);
}

#[test]
fn variables_have_their_places() {
    let variable = Piece::Variable;
    let target = parse("$scheme://www.example.com$request-uri");
    let origin = Origin { scheme: None, host: Some("www.example.com".to_owned()), port: None };
    assert_eq!(target.origin, Some(origin));
    assert_eq!(target.path, [variable(Variable::RequestUri)]);
    assert_eq!((target.keep_query, target.keep_rest), (false, false));
    let target = parse("/login?return=$request-uri&from=$remote-addr");
    let query =
        [text("return="), variable(Variable::RequestUri), text("&from="), variable(Variable::RemoteAddr)];
    assert_eq!(target.query, query);
    assert_eq!((target.keep_query, target.keep_rest), (false, false), "it is all in there");
    let target = parse("/old$path?was=here&$query");
    assert_eq!(target.path, [text("/old"), variable(Variable::Path)]);
    assert_eq!((target.keep_query, target.keep_rest), (false, false));
}

#[test]
fn a_header_has_groups_and_variables_too() {
    let header = |text: &str| header_value(text, 2);
    assert_eq!(header("a $1; b").unwrap(), [text("a "), Piece::Group(1), text("; b")]);
    assert_eq!(header("$remote-addr").unwrap(), [Piece::Variable(Variable::RemoteAddr)]);
    assert_eq!(header("costs 5$$").unwrap(), [text("costs 5$")]);
    assert_eq!(header("").unwrap(), []);
    assert_eq!(header("costs $5").unwrap_err(), "the value uses $5, and the regexp has one group");
    assert!(header("a\r\nb").is_err() && header("$uri").is_err());
}

#[test]
fn what_is_wrong_is_told() {
    for (target, told) in [
        ("/$3", "the value uses $3, and the regexp has 2 groups"),
        ("/?q=$9", "the value uses $9, and the regexp has 2 groups"),
        (
            "/$x",
            "expected $0 to $2, $host, $path, $query, $remote-addr, $request-uri, $scheme, or $$ for the character itself, found `$x`",
        ),
        (
            "/$hostname",
            "expected $0 to $2, $host, $path, $query, $remote-addr, $request-uri, $scheme, or $$ for the character itself, found `$hostname`",
        ),
        ("//evil.com/", "`//evil.com/` is a URL without its scheme: write http:// or https://"),
        (
            "/a$",
            "expected $0 to $2, $host, $path, $query, $remote-addr, $request-uri, $scheme, or $$ for the character itself, found `$`",
        ),
        (
            "new",
            "expected a path that begins with a slash, or a URL that begins with http:// or https://, found `new`",
        ),
        ("ftp://x/", "expected http:// or https://, found `ftp://`"),
        ("https://$1/", "expected a host name or $host behind https://, found ``"),
        ("https:///x", "expected a host name or $host behind https://, found ``"),
        ("https://a b/", "expected a host name or $host behind https://, found `a b`"),
        ("https://user@x/", "expected a host name or $host behind https://, found `user@x`"),
        ("https://$host.evil/", "expected a host name or $host behind https://, found `$host.evil`"),
        ("/$query", "`$query` belongs behind a `?`"),
        ("/$request-uri/x", "`$request-uri` has the query in it, so nothing can follow it: take `$path`"),
        ("$request-uri?a", "`$request-uri` has the query in it, so nothing can follow it: take `$path`"),
        ("https://x:0/", "expected a port from 1 to 65535, found `0`"),
        ("https://x:http/", "expected a port from 1 to 65535, found `http`"),
        ("/a b", "the target has ` `, which a URL can't have as it is: write it percent-encoded"),
        ("/ü", "the target has `ü`, which a URL can't have as it is: write it percent-encoded"),
        ("/a\r\nX: y", "the target has `\\r`, which a URL can't have as it is: write it percent-encoded"),
        ("/a\\b", "the target has `\\`, which a URL can't have as it is: write it percent-encoded"),
        ("/%2", "the target has `%`, which a URL can't have as it is: write it percent-encoded"),
        ("/%00", "the target has `%`, which a URL can't have as it is: write it percent-encoded"),
        ("/a#$1 ", "the target has ` `, which a URL can't have as it is: write it percent-encoded"),
    ] {
        assert_eq!(refused(target), told, "{target}");
    }
    assert!(RewriteTarget::parse(".html", 1, false).is_ok(), "in the middle of a path anything may stand");
    assert!(RewriteTarget::parse("/$1", 1, true).unwrap_err().ends_with("has no groups"));
    assert!(RewriteTarget::parse("/$2", 2, true).unwrap_err().ends_with("has one group"));
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,40}", groups in 1_usize..4) {
        let _ = RewriteTarget::parse(&text, groups, groups == 1);
    }

    #[test]
    fn whatever_is_accepted_has_no_spaces_or_controls(text in "[a-z$0-9/?#:% \\r\\n]{0,20}") {
        if let Ok(target) = RewriteTarget::parse(&text, 3, false) {
            let literal = |piece: &Piece| if let Piece::Text(text) = piece { text.clone() } else { String::new() };
            let literals: String = target.path.iter().chain(&target.query).map(literal).collect();
            let clean = |text: &str| text.bytes().all(|it| it.is_ascii_graphic());
            prop_assert!(clean(&literals) && target.fragment.as_deref().is_none_or(clean));
        }
    }
}
