//! Tests of path normalisation.

use super::*;
use proptest::prelude::*;

fn normal(path: &str) -> Result<String, PathError> {
    normal_if(path, true)
}

fn normal_if(path: &str, merges: bool) -> Result<String, PathError> {
    normalise(path, merges).map(|done| match done {
        Path::Same => path.to_owned(),
        Path::Other(other) => other,
    })
}

#[test]
fn the_table() {
    for (path, expected) in [
        ("/", "/"),
        ("/a/b.html", "/a/b.html"),
        ("/.well-known/x", "/.well-known/x"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/a/b/../", "/a/"),
        ("//a///b//", "/a/b/"),
        ("/%61%2d%7E", "/a-~"),
        ("/%c3%a4", "/%C3%A4"),
        ("/a%2fb", "/a%2Fb"),
        ("/a%20b", "/a%20b"),
        ("/a\\b\\..\\c", "/a/c"),
        ("/%2e%2e%2f", "/%2e%2e%2f"),
        ("/a/%2E%2e/b", "/b"),
        ("/a..b/...", "/a..b/..."),
        ("/a;x=1/b", "/a;x=1/b"),
    ] {
        if path == "/%2e%2e%2f" {
            assert_eq!(normal(path), Err(PathError::HiddenDots));
        } else {
            assert_eq!(normal(path).as_deref(), Ok(expected), "{path}");
        }
    }
}

#[test]
fn refused() {
    for (path, expected) in [
        ("/%", PathError::Escape),
        ("/%1", PathError::Escape),
        ("/%zz", PathError::Escape),
        ("/%+1", PathError::Escape),
        ("/a%00b", PathError::Nul),
        ("/..", PathError::AboveRoot),
        ("/a/../../b", PathError::AboveRoot),
        ("/%2e%2e/b", PathError::AboveRoot),
        ("/..\\b", PathError::AboveRoot),
        ("/a/..%2fb", PathError::HiddenDots),
        ("/a/x%5c..%5cb", PathError::HiddenDots),
        ("/a/..;/b", PathError::HiddenDots),
        ("/a/..%3B/b", PathError::HiddenDots),
        ("/a/..%3bx;y/b", PathError::HiddenDots),
        ("/a/b;c%2f../d", PathError::HiddenDots),
    ] {
        assert_eq!(normal(path), Err(expected), "{path}");
    }
}

#[test]
fn a_host_can_keep_its_slashes() {
    for (path, expected) in [
        ("/", "/"),
        ("//", "//"),
        ("/a//", "/a//"),
        ("/fetch/https://example.com//x", "/fetch/https://example.com//x"),
        ("/a\\\\b", "/a//b"),
        ("/a//../b", "/a/b"),
        ("/a//./b", "/a//b"),
        ("//..", "/"),
        ("/a/./b/", "/a/b/"),
    ] {
        assert_eq!(normal_if(path, false).as_deref(), Ok(expected), "{path}");
    }
    assert_eq!(normal_if("//../..", false), Err(PathError::AboveRoot));
}

#[test]
fn a_normal_path_is_not_copied() {
    for path in ["/", "/a", "/a/b.c/d;e", "/a..", "/.well-known/a"] {
        assert_eq!(normalise(path, true), Ok(Path::Same), "{path}");
    }
}

#[test]
fn rules_see_decoded_paths() {
    assert!(matches!(decoded("/a"), Cow::Borrowed("/a")));
    assert_eq!(decoded("/%C3%A4%20%2F"), "/ä /");
    assert_eq!(decoded("/%FF"), "/\u{fffd}");
}

proptest! {
    #[test]
    fn normal_forms_are_final_and_safe(path in "/([a-z.%/;\\\\0-9A-F]|%2e|%2F|\\.\\.|ä){0,24}") {
        if let Ok(once) = normal(&path) {
            prop_assert_eq!(normal(&once), Ok(once.clone()));
            prop_assert!(once.starts_with('/') && !once.contains("//") && !once.contains('\\'));
            prop_assert!(once.split('/').all(|segment| segment != ".." && segment != "."));
            prop_assert!(decoded(&once).split(['/', '\\']).all(|segment| segment != ".."));
        }
        if let Ok(once) = normal_if(&path, false) {
            prop_assert_eq!(normal_if(&once, false), Ok(once.clone()));
            prop_assert!(once.starts_with('/') && !once.contains('\\'));
            prop_assert!(once.split('/').all(|segment| segment != ".." && segment != "."));
        }
    }
}
