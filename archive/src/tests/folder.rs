//! Folders on disk, and what their ignore files leave out.

use super::{Given, file, link, read_path, refusal};
use crate::{Format, Limits, Problem};
use std::{
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    },
    path::Path,
};
use tempfile::TempDir;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

fn paths(folder: &Path) -> (Vec<String>, u64) {
    let (summary, given) = read_path(folder, &Limits::default()).unwrap();
    assert_eq!(summary.format, Format::Folder);
    let path = |given| match given {
        Given::File { path, .. } | Given::Copy { path, .. } | Given::Link { path, .. } => path,
    };
    (given.into_iter().map(path).collect(), summary.ignored)
}

#[test]
fn files_come_sorted_with_their_modes_and_links() {
    let folder = folder(&[("b/z", "1"), ("b/a", "2"), ("b.txt", "3"), ("a", "4"), ("B2", "5")]);
    fs::set_permissions(folder.path().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("b/z", folder.path().join("c")).unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    let (summary, given) = read_path(folder.path(), &Limits::default()).unwrap();
    let expected = [
        file("B2", false, b"5"),
        file("a", true, b"4"),
        file("b/a", false, b"2"),
        file("b/z", false, b"1"),
        file("b.txt", false, b"3"),
        link("c", "b/z"),
    ];
    assert_eq!(given, expected);
    assert_eq!((summary.empty_folders, summary.only_folder), (1, None));
}

#[test]
fn git_is_left_out_wherever() {
    let folder = folder(&[
        ("a", ""),
        (".git/config", ""),
        ("sub/.git", "gitdir: x"),
        ("sub/b", ""),
        (".gitignore", ""),
    ]);
    assert_eq!(paths(folder.path()), ([".gitignore", "a", "sub/b"].map(str::to_owned).to_vec(), 2));
}

#[test]
fn ignore_files_have_gits_rules() {
    let rules = "# comment\n*.log\n/build\ncache/\n!keep.log\ndoc/**/*.tmp\nx[0-9]\n";
    let folder = folder(&[
        (".gitignore", rules),
        ("a.log", ""),
        ("keep.log", ""),
        ("s/b.log", ""),
        ("build/x", ""),
        ("s/build/x", ""),
        ("cache/x", ""),
        ("s/cache", ""),
        ("doc/a/b/c.tmp", ""),
        ("doc/c.tmp", ""),
        ("c.tmp", ""),
        ("x1", ""),
        ("xa", ""),
    ]);
    let expected = [".gitignore", "c.tmp", "keep.log", "s/build/x", "s/cache", "xa"];
    assert_eq!(paths(folder.path()), (expected.map(str::to_owned).to_vec(), 7));
}

#[test]
fn nested_ignore_files_count_for_their_folder_and_win_over_those_above() {
    let folder = folder(&[
        (".gitignore", "*.log\n"),
        ("s/.gitignore", "!a.log\n/only\n"),
        ("s/a.log", ""),
        ("s/b.log", ""),
        ("s/only", ""),
        ("s/t/only", ""),
        ("only", ""),
        ("t/a.log", ""),
    ]);
    let expected = [".gitignore", "only", "s/.gitignore", "s/a.log", "s/t/only"];
    assert_eq!(paths(folder.path()).0, expected);
}

#[test]
fn copalignore_wins_over_gitignore() {
    let folder = folder(&[
        (".gitignore", "dist/\n"),
        (".copalignore", "!dist/\nsrc/\n.copalignore\n.gitignore\n"),
        ("dist/app.js", ""),
        ("src/app.ts", ""),
        ("index.html", ""),
    ]);
    assert_eq!(paths(folder.path()).0, ["dist/app.js", "index.html"]);
}

#[test]
fn what_is_left_out_is_not_looked_at() {
    let folder = folder(&[(".copalignore", "*.sock\nbad/\n"), ("a", ""), ("bad/ok", "")]);
    let _socket = UnixListener::bind(folder.path().join("x.sock")).unwrap();
    fs::write(folder.path().join("bad").join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
    symlink("/etc", folder.path().join("bad/link")).unwrap();
    assert_eq!(paths(folder.path()), ([".copalignore", "a"].map(str::to_owned).to_vec(), 2));
}

#[test]
fn what_an_archive_must_not_have_a_folder_must_not_either() {
    let refused = |prepare: &dyn Fn(&Path)| {
        let folder = folder(&[("a", "")]);
        prepare(folder.path());
        let (entry, problem) = refusal(read_path(folder.path(), &Limits::default()));
        (entry.unwrap(), problem)
    };
    let (entry, problem) = refused(&|folder| drop(UnixListener::bind(folder.join("s")).unwrap()));
    assert_eq!(entry, "s");
    let text = "a socket: expected files, folders and symbolic links alone; `.copalignore` leaves others out";
    assert_eq!(problem.to_string(), text);
    let (entry, _) = refused(&|folder| symlink("/etc/passwd", folder.join("l")).unwrap());
    assert_eq!(entry, "l");
    let (_, problem) = refused(&|folder| symlink("../x", folder.join("l")).unwrap());
    assert!(matches!(problem, Problem::LinkEscapes { .. }));
    let (_, problem) = refused(&|folder| fs::write(folder.join("A"), "").unwrap());
    assert!(matches!(problem, Problem::Clash { .. }));
    let (_, problem) = refused(&|folder| fs::create_dir(folder.join(".GIT")).unwrap());
    assert!(matches!(problem, Problem::Name(_)));
    let bad = std::ffi::OsStr::from_bytes(b"\xff");
    let (_, problem) = refused(&|folder| fs::write(folder.join(bad), "").unwrap());
    assert!(matches!(problem, Problem::Name(_)));
}

#[test]
fn a_folder_keeps_to_the_limits() {
    let folder = folder(&[("a/b/c/d", "12345"), ("e", "1")]);
    let is_ok = |limits: Limits| read_path(folder.path(), &limits).is_ok();
    assert!(is_ok(Limits { entries: 5, bytes: 6, depth: 4, ..Limits::default() }));
    assert!(!is_ok(Limits { entries: 4, ..Limits::default() }));
    assert!(!is_ok(Limits { bytes: 5, ..Limits::default() }));
    assert!(!is_ok(Limits { depth: 3, ..Limits::default() }));
}

#[test]
fn the_folder_itself_may_be_a_link() {
    let folder = folder(&[("real/a", "")]);
    symlink("real", folder.path().join("current")).unwrap();
    assert_eq!(paths(&folder.path().join("current")).0, ["a"]);
}

#[test]
fn the_example_site_is_deployed_without_its_readme() {
    let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/static-site");
    let expected = [".copalignore", "about/index.html", "css/site.css", "index.html"];
    assert_eq!(paths(&site), (expected.map(str::to_owned).to_vec(), 1));
}
