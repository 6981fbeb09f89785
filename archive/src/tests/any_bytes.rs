//! Whatever the bytes: an error, or entries that stay inside when they are laid out on a real file system.

use super::{Given, Tar, Zip, gzip, read_within, zstd};
use crate::Limits;
use proptest::{collection::vec, prelude::*, sample::select};
use std::{
    collections::HashSet,
    fs,
    os::unix::fs::symlink,
    path::{Component, Path},
};

fn limits() -> Limits {
    Limits { entries: 200, bytes: 1 << 20, ..Limits::default() }
}

/// Lays out what was accepted and follows every link by the kernel.
fn stays_inside(given: &[Given]) {
    let outside = tempfile::tempdir().unwrap();
    let root = outside.path().join("root");
    fs::create_dir(&root).unwrap();
    let mut seen = HashSet::new();
    for it in given {
        let (Given::File { path, .. } | Given::Copy { path, .. } | Given::Link { path, .. }) = it;
        assert!(Path::new(path).components().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
        assert!(!path.contains("//") && !path.ends_with('/'), "{path:?}");
        assert!(seen.insert(path.to_lowercase()), "{path:?} twice");
        let at = root.join(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        match it {
            Given::File { content, .. } => fs::write(at, content).unwrap(),
            Given::Copy { of, .. } => drop(fs::copy(root.join(of), at).unwrap()),
            Given::Link { target, .. } => symlink(target, at).unwrap(),
        }
    }
    let real = root.canonicalize().unwrap();
    for it in given {
        if let Given::Link { path, .. } = it
            && let Ok(end) = root.join(path).canonicalize()
        {
            assert!(end.starts_with(&real), "{path:?} leads to {}", end.display());
        }
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "something is beside the root");
}

fn check(bytes: &[u8]) {
    if let Ok((_, given)) = read_within(bytes, &limits()) {
        stays_inside(&given);
    }
}

fn archives() -> Vec<Vec<u8>> {
    let text = "0123456789".repeat(300);
    let tar = Tar::new()
        .pax(&[("path", "a/b")])
        .file("x", &text)
        .link("l", "a/b")
        .gnu(b'L', "c")
        .hard_link("", "a/b")
        .end();
    let zip = Zip::new().deflated("a/b", &text).link("l", "a/b").file("c", "1");
    vec![gzip(&tar), zstd(&tar), tar, zip.end(), zip.wide().end()]
}

/// Names and targets that are next to each other, and to harm.
fn path() -> impl Strategy<Value = String> {
    let part = select(vec!["a", "b", "c", "A", ".", "..", "", ".git", "é", "e\u{301}"]);
    vec(part, 1..5).prop_map(|parts| parts.join("/"))
}

/// Mostly such names as get in.
fn likely() -> impl Strategy<Value = String> {
    vec(select(vec!["a", "b", "c", "d", ".."]), 1..5).prop_map(|parts| parts.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(
        magic in select(vec![&b""[..], b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"PK\x05\x06"]),
        bytes in vec(any::<u8>(), 0..2000),
    ) {
        check(&[magic, &bytes].concat());
    }

    #[test]
    fn archives_with_changed_bytes(
        which in 0..5_usize,
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = archives().swap_remove(which);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        check(&bytes);
    }

    #[test]
    fn changed_tars_whose_streams_are_whole(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut tar = archives().swap_remove(2);
        for (at, value) in changes {
            let at = at.index(tar.len());
            tar[at] = value;
        }
        // The checksums of the headers made right again, wherever one may be.
        for block in tar.chunks_exact_mut(512) {
            if &block[257..262] == b"ustar" {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        check(&tar);
        check(&gzip(&tar));
    }

    #[test]
    fn any_entries(
        entries in vec((select(vec![b'0', b'1', b'2', b'2', b'5']), prop_oneof![path(), likely()], prop_oneof![path(), likely()]), 1..8),
    ) {
        let mut tar = Tar::new();
        let mut zip = Zip::new();
        for (kind, name, target) in entries {
            tar = tar.entry(kind, name.as_bytes(), target.as_bytes(), if kind == b'0' { b"1" } else { b"" });
            zip = if kind == b'2' { zip.link(&name, &target) } else { zip.file(&name, "1") };
        }
        check(&tar.end());
        check(&zip.end());
    }

    #[test]
    fn any_links_among_folders_that_exist(links in vec((likely(), likely()), 1..8)) {
        let tree = Tar::new().file("a/a/f", "").file("b/c/f", "").file("d/f", "");
        let tar = links.iter().enumerate().fold(tree, |tar, (at, (folder, target))| {
            let folder = folder.replace("..", "a");
            tar.link(&format!("{folder}/l{at}"), &format!("{target}/l{}", at / 2)).link(&format!("m{at}"), target)
        });
        check(&tar.end());
    }
}
