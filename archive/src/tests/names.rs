//! Names that must not get in, through every format that can write them.

use super::{Tar, Zip, file, given, read_bytes, refusal, refused};
use crate::{BadName, Problem, name};

/// Why both a tar and a zip with this one file are refused.
#[track_caller]
fn bad(name: &[u8]) -> BadName {
    let tar = Tar::new().pax(&[]).entry(b'0', name, b"", b"x").end();
    let zip = Zip::new().stored(name, b"x", 0o100_644).end();
    let [of_tar, of_zip] = [tar, zip].map(|bytes| match refusal(read_bytes(&bytes)) {
        (Some(entry), Problem::Name(bad)) => {
            assert_eq!(entry, String::from_utf8_lossy(name));
            bad
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(of_tar, of_zip);
    of_tar
}

#[test]
fn paths_that_leave_the_archive_are_refused() {
    for name in ["/etc/passwd", "//x"] {
        assert_eq!(bad(name.as_bytes()), BadName::Absolute);
    }
    for name in ["..", "../x", "a/../../x", "a/../b", "./../x", "a/.."] {
        assert_eq!(bad(name.as_bytes()), BadName::Parent, "{name}");
    }
    for name in ["..\\x", "C:\\x", "a\\b"] {
        assert_eq!(bad(name.as_bytes()), BadName::Backslash);
    }
}

#[test]
fn names_that_no_one_can_read_are_refused() {
    assert_eq!(bad(b"a\xff"), BadName::NotUtf8);
    assert_eq!(bad(b"caf\x82"), BadName::NotUtf8);
    for name in ["a\nb", "a\u{1b}[31m", "a\u{7f}", "a\u{85}", "\t"] {
        assert_eq!(bad(name.as_bytes()), BadName::Control);
    }
    assert_eq!(bad(b"."), BadName::Empty);
    assert_eq!(bad(b"a/."), BadName::Folder);
}

#[test]
fn git_and_what_some_system_takes_for_it_is_refused() {
    let names = [
        ".git",
        ".GIT",
        ".Git/config",
        "a/.git/hooks/post-checkout",
        "git~1",
        "GIT~1",
        ".git ",
        ".git.",
        ".git . .",
        ".git::$INDEX_ALLOCATION",
        ".g\u{200c}it",
        ".\u{feff}git",
        ".gi\u{200d}T",
        "git~1.",
    ];
    for name in names {
        assert_eq!(bad(name.as_bytes()), BadName::DotGit, "{name:?}");
    }
    let fine = [".gitignore", ".gitattributes", ".github/x", "git", "a.git/x", "git~10", ".well-known/x"];
    let tar = fine.iter().fold(Tar::new(), |tar, name| tar.file(name, ""));
    assert_eq!(given(&tar.end()).len(), fine.len());
    let link = refusal(read_bytes(&Tar::new().link(".gitmodules", "x").end())).1;
    assert!(matches!(link, Problem::Name(BadName::GitModules)), "{link:?}");
}

#[test]
fn names_are_normalised() {
    let tar = Tar::new()
        .folder("./")
        .file("./a//b", "1")
        .file("./././c", "2")
        .entry(b'0', b"d/", b"", b"")
        .file("d/ü", "3");
    let expected = [file("a/b", false, b"1"), file("c", false, b"2"), file("d/ü", false, b"3")];
    assert_eq!(given(&tar.end()), expected);
}

#[test]
fn a_name_comes_once() {
    let text = "`a/b`: it is in the archive twice: expected each name once";
    for second in ["a/b", "./a//b"] {
        assert_eq!(
            refused(&Tar::new().file("a/b", "1").file(second, "2").end()).replace(second, "a/b"),
            text
        );
        assert_eq!(
            refused(&Zip::new().file("a/b", "1").file(second, "2").end()).replace(second, "a/b"),
            text
        );
    }
    assert_eq!(refused(&Tar::new().file("a/b", "1").link("a/b", "c").end()), text);
    // A folder may come again, before and after what is in it.
    let tar = Tar::new().file("a/b", "").folder("a").folder("a/").file("a/c", "");
    assert_eq!(given(&tar.end()).len(), 2);
}

#[test]
fn names_that_differ_only_in_case_or_form_clash() {
    for (one, other) in [
        ("a/Readme", "a/README"),
        ("A/x", "a/y"),
        ("straße", "STRASSE"),
        ("\u{e9}", "e\u{301}"),
        ("\u{c9}", "e\u{301}"),
        ("Σίσυφος", "ΣΊΣΥΦΟΣ"),
        ("\u{212a}", "k"),
    ] {
        let problem = refusal(read_bytes(&Tar::new().file(one, "").file(other, "").end())).1;
        let Problem::Clash { earlier } = problem else { panic!("{problem:?}") };
        assert!(one.starts_with(&earlier));
    }
    let problem = refused(&Tar::new().folder("Img").link("img", "x").end());
    assert!(problem.starts_with("`img`: `Img` differs from it only in case"), "{problem}");
}

#[test]
fn folding_keeps_apart_what_unicode_keeps_apart() {
    assert_eq!(name::folded("İSTANBUL"), name::folded("i\u{307}stanbul"));
    assert_ne!(name::folded("ı"), name::folded("i"));
    assert_ne!(name::folded("é"), name::folded("e"));
    assert_eq!(name::folded("ẞ"), name::folded("ss"));
}

#[test]
fn a_name_is_a_file_or_a_folder() {
    let text = "`a` is both a folder and none: expected one of them";
    for tar in [
        Tar::new().file("a", "").file("a/b", ""),
        Tar::new().file("a/b", "").file("a", ""),
        Tar::new().file("a", "").folder("a/"),
        Tar::new().folder("a/").file("a", ""),
        Tar::new().folder("a/").link("a", "b"),
    ] {
        assert!(refused(&tar.end()).ends_with(text));
    }
}
