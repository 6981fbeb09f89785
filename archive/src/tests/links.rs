//! Links: those that stay inside are kept, and no others.

use super::{Given, Tar, Zip, file, given, link, read_bytes, refusal, refused};
use crate::{BadName, Problem};

#[test]
fn links_inside_are_kept_as_they_are() {
    let links = [
        ("current", "releases/5"),
        ("releases/latest", "./5"),
        ("bin/tool", "../lib/../lib/tool.js"),
        ("dangling", "nowhere/at/all"),
        ("through", "current/index.html"),
        ("self", "."),
        ("a/up", ".."),
        ("chain", "through"),
    ];
    let tar = links.iter().fold(Tar::new(), |tar, (name, target)| tar.link(name, target));
    let zip = links.iter().fold(Zip::new(), |zip, (name, target)| zip.link(name, target));
    let mut expected: Vec<_> = links.iter().map(|(name, target)| link(name, target)).collect();
    expected.push(file("releases/5/index.html", false, b"5"));
    assert_eq!(given(&tar.file("releases/5/index.html", "5").end()), expected);
    assert_eq!(given(&zip.file("releases/5/index.html", "5").end()), expected);
}

/// That a tar and a zip with these links are refused for where the last of them leads.
#[track_caller]
fn escapes(links: &[(&str, &str)]) {
    let tar = links.iter().fold(Tar::new().file("s/file", ""), |tar, (name, target)| tar.link(name, target));
    let zip = links.iter().fold(Zip::new().file("s/file", ""), |zip, (name, target)| zip.link(name, target));
    for bytes in [tar.end(), zip.end()] {
        let problem = refusal(read_bytes(&bytes)).1;
        assert!(matches!(problem, Problem::LinkEscapes { .. }), "{links:?}: {problem:?}");
    }
}

#[test]
fn links_that_leave_the_archive_are_refused() {
    escapes(&[("x", "..")]);
    escapes(&[("x", "../x")]);
    escapes(&[("a/b/x", "../../../etc/passwd")]);
    escapes(&[("x", "s/../../etc")]);
    escapes(&[("x", "missing/../../etc")]);
    // By way of others, whichever comes first.
    escapes(&[("s/up", ".."), ("x", "s/up/../etc")]);
    escapes(&[("x", "s/up/../etc"), ("s/up", "..")]);
    escapes(&[("a/b/top", "../.."), ("deep", "a/b/top"), ("x", "deep/../etc")]);
    // Words alone would call this one inside: `s/l/..` is not `s`.
    escapes(&[("s/l", "../t"), ("t", "."), ("x", "s/l/../../etc")]);
}

#[test]
fn absolute_targets_and_strange_ones_are_refused() {
    for (target, bad) in [
        ("/etc/passwd", BadName::Absolute),
        ("a\\b", BadName::Backslash),
        ("a\nb", BadName::Control),
        ("", BadName::Empty),
        (".git/config", BadName::DotGit),
    ] {
        for bytes in [Tar::new().link("x", target).end(), Zip::new().link("x", target).end()] {
            let problem = refusal(read_bytes(&bytes)).1;
            assert!(matches!(problem, Problem::Name(found) if found == bad), "{target}: {problem:?}");
        }
    }
}

#[test]
fn nothing_is_below_a_link() {
    let text = "`a/b`: it is below the link `a`: expected links to have nothing below them";
    assert_eq!(refused(&Tar::new().link("a", "c").file("a/b", "").end()), text);
    assert_eq!(refused(&Zip::new().link("a", "c").file("a/b", "").end()), text);
    assert_eq!(refused(&Tar::new().link("a", ".").link("a/b", "c").end()), text);
    let after = refused(&Tar::new().file("a/b", "").link("a", "c").end());
    assert_eq!(after, "`a`: `a` is both a folder and none: expected one of them");
}

#[test]
fn links_in_a_circle_are_refused() {
    for tar in [Tar::new().link("a", "a"), Tar::new().link("a", "b").link("b", "c/../a").folder("c")] {
        let problem = refusal(read_bytes(&tar.end())).1;
        assert!(matches!(problem, Problem::LinkLoop { .. }), "{problem:?}");
    }
    let chain = |length: usize| {
        let first = Tar::new().file("0", "");
        (1..=length).fold(first, |tar, at| tar.link(&at.to_string(), &(at - 1).to_string())).end()
    };
    assert!(read_bytes(&chain(41)).is_ok());
    assert!(matches!(refusal(read_bytes(&chain(42))).1, Problem::LinkLoop { .. }));
}

#[test]
fn links_that_take_too_long_to_follow_are_refused() {
    // Each doubles the way of the one before.
    let first = Tar::new().folder("d").file("f", "").link("l0", &"d/../".repeat(200));
    let tar = (1..40).fold(first, |tar, at| {
        let before = format!("l{}/", at - 1);
        tar.pax(&[("linkpath", &before.repeat(38))]).link(&format!("l{at}"), "")
    });
    let tar = (0..3000).fold(tar, |tar, at| tar.pax(&[("linkpath", "l1/")]).link(&format!("m{at}"), ""));
    let started = refusal(read_bytes(&tar.end())).1;
    assert!(matches!(started, Problem::LinkLoop { .. }), "{started:?}");
}

#[test]
fn hard_links_name_earlier_files() {
    let tar = Tar::new()
        .with(b'0', b"d/a", b"", b"content", Tar::executable)
        .hard_link("b", "./d/a")
        .hard_link("c", "b");
    let copy = |path: &str, of: &str| Given::Copy { path: path.to_owned(), of: of.to_owned() };
    assert_eq!(given(&tar.end()), [file("d/a", true, b"content"), copy("b", "d/a"), copy("c", "b")]);
    for of in ["later", "missing", "folder", "link", "b", "LATER"] {
        let tar = Tar::new().folder("folder").link("link", "later").hard_link("b", of).file("later", "");
        let text = format!("`b`: a hard link to `{of}`: expected the name of an earlier file of the archive");
        assert_eq!(refused(&tar.end()), text);
    }
    let outside = refusal(read_bytes(&Tar::new().hard_link("b", "/etc/shadow").end())).1;
    assert!(matches!(outside, Problem::Name(BadName::Absolute)));
}
