//! The same tree through every format, by our own builders and by the tools that people have.

use super::{Given, Tar, Zip, file, gzip, link, read_bytes, read_path, zstd};
use crate::{Format, Limits};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};

const LONG: &str =
    "a-folder-whose-name-is-rather-long-so-that-a-path-through-it-has-no-room-in-the-header-of-a-tar";

fn tree() -> Vec<Given> {
    let mut tree = vec![
        file("app.yaml", false, b"static: htdocs\n"),
        file("bin/run", true, b"#!/bin/sh\n"),
        file("htdocs/empty", false, b""),
        file("htdocs/größe.txt", false, "ü".as_bytes()),
        file("htdocs/large", false, &b"0123456789abcdef".repeat(9000)),
        file(&format!("{LONG}/{LONG}/{LONG}/file"), false, b"deep"),
        link("current", "htdocs"),
        link("bin/deep", &format!("../{LONG}/{LONG}/{LONG}/file")),
    ];
    tree.sort();
    tree
}

fn lay_out(folder: &Path) {
    for given in tree() {
        match given {
            Given::File { path, executable, content } => {
                let path = folder.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, content).unwrap();
                let mode = if executable { 0o755 } else { 0o644 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
            Given::Link { path, target } => {
                let path = folder.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                symlink(target, path).unwrap();
            }
            Given::Copy { .. } => unreachable!(),
        }
    }
}

fn sorted(path: &Path, expected: Format) -> Vec<Given> {
    let (summary, mut given) = read_path(path, &Limits::default()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(summary.format, expected);
    given.sort();
    given
}

#[test]
fn every_format_gives_the_same() {
    let mut tar = Tar::new();
    let mut zip = Zip::new();
    for given in tree() {
        match given {
            Given::File { path, executable, content } => {
                let change = |header: &mut [u8; 512]| {
                    if executable {
                        Tar::executable(header);
                    }
                };
                tar = tar.pax(&[("path", &path)]).with(b'0', b"x", b"", &content, change);
                let mode = if executable { 0o100_755 } else { 0o100_644 };
                zip = zip.stored(path.as_bytes(), &content, mode);
            }
            Given::Link { path, target } => {
                tar = tar.pax(&[("path", &path), ("linkpath", &target)]).link("x", "");
                zip = zip.link(&path, &target);
            }
            Given::Copy { .. } => unreachable!(),
        }
    }
    let tar = tar.end();
    for (archive, expected) in [
        (gzip(&tar), Format::TarGz),
        (zstd(&tar), Format::TarZst),
        (tar, Format::Tar),
        (zip.end(), Format::Zip),
        (zip.wide().end(), Format::Zip),
    ] {
        let (summary, mut given) = read_bytes(&archive).unwrap();
        given.sort();
        assert_eq!(given, tree());
        assert_eq!((summary.format, summary.files, summary.links), (expected, 6, 2));
    }
    let folder = tempfile::tempdir().unwrap();
    lay_out(folder.path());
    assert_eq!(sorted(folder.path(), Format::Folder), tree());
}

/// Runs a command line in `folder`; false where its program is not installed.
fn run(folder: &Path, command: &str) -> bool {
    let words: Vec<_> = command.split(' ').collect();
    let Ok(status) = Command::new(words[0]).args(&words[1..]).current_dir(folder).status() else {
        println!("skipped: no {}", words[0]);
        return false;
    };
    if !status.success() {
        println!("skipped: `{command}` failed");
    }
    status.success()
}

#[test]
fn what_other_tools_write_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("tree");
    lay_out(&at);
    let python =
        "import shutil; shutil.make_archive('py', 'gztar', 'tree'); shutil.make_archive('pz', 'zip', 'tree')";
    fs::write(folder.path().join("pack.py"), python).unwrap();
    let mut made = Vec::new();
    for (command, name, format) in [
        ("tar --format=gnu -cf gnu.tar -C tree .", "gnu.tar", Format::Tar),
        ("tar --format=pax -cf pax.tar -C tree .", "pax.tar", Format::Tar),
        ("tar --format=ustar --exclude=deep -cf - -C tree .", "", Format::Tar),
        ("tar -czf a.tgz -C tree .", "a.tgz", Format::TarGz),
        ("tar --zstd -cf a.tar.zst -C tree .", "a.tar.zst", Format::TarZst),
        ("zstd -q -19 gnu.tar -o b.tar.zst", "b.tar.zst", Format::TarZst),
        ("env -C tree zip -q -r -y ../a.zip .", "a.zip", Format::Zip),
        ("python3 pack.py", "py.tar.gz", Format::TarGz),
    ] {
        if !name.is_empty() && run(folder.path(), command) {
            made.push((folder.path().join(name), format));
        }
    }
    for (path, format) in made {
        assert_eq!(sorted(&path, format), tree(), "{}", path.display());
    }
    // Python's zip writes the files that links lead to in their place.
    let zip = folder.path().join("pz.zip");
    if zip.exists() {
        let files =
            |given: Vec<Given>| given.into_iter().filter(|it| matches!(it, Given::File { .. })).count();
        assert!(files(sorted(&zip, Format::Zip)) >= files(tree()));
    }
}

#[test]
fn hard_links_that_tar_writes_are_copies() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tree")).unwrap();
    fs::write(folder.path().join("tree/a"), "content").unwrap();
    fs::hard_link(folder.path().join("tree/a"), folder.path().join("tree/b")).unwrap();
    if run(folder.path(), "tar --sort=name -cf a.tar -C tree .") {
        let copy = Given::Copy { path: "b".to_owned(), of: "a".to_owned() };
        assert_eq!(sorted(&folder.path().join("a.tar"), Format::Tar), [file("a", false, b"content"), copy]);
    }
}
