//! Each limit, at it and one past it.

use super::{ReadAll, Tar, Zip, gzip, read_bytes, read_within, refusal, zstd};
use crate::{BadName, Limits, Problem};

#[track_caller]
fn too_many(read: ReadAll, expected: &str) {
    match refusal(read).1 {
        Problem::TooMany { what, .. } => assert_eq!(what, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn entries_are_counted_with_the_folders_that_paths_imply() {
    let tar = Tar::new().file("a/b/c", "").file("a/b/d", "").end();
    let zip = Zip::new().file("a/b/c", "").file("a/b/d", "").end();
    let limits = |entries| Limits { entries, ..Limits::default() };
    for archive in [tar, zip] {
        assert!(read_within(&archive, &limits(4)).is_ok());
        too_many(read_within(&archive, &limits(3)), "entries");
        too_many(read_within(&archive, &limits(1)), "entries");
    }
    let again = (0..9).fold(Tar::new().file("a", ""), |tar, _| tar.folder("b")).end();
    too_many(read_within(&again, &limits(9)), "entries");
}

#[test]
fn bytes_are_counted_before_they_are_read() {
    let limits = |bytes| Limits { bytes, ..Limits::default() };
    let tar = Tar::new().file("a", "12345").hard_link("b", "a").end();
    assert!(read_within(&tar, &limits(10)).is_ok());
    too_many(read_within(&tar, &limits(9)), "bytes when unpacked");
    let zip = Zip::new().deflated("a", "12345").file("b", "12345").end();
    assert!(read_within(&zip, &limits(10)).is_ok());
    too_many(read_within(&zip, &limits(9)), "bytes when unpacked");
    let huge = |header: &mut [u8; 512]| header[124..136].copy_from_slice(b"777777777777");
    too_many(read_bytes(&Tar::new().with(b'0', b"a", b"", b"", huge).end()), "bytes when unpacked");
}

#[test]
fn bombs_end_early() {
    let limits = Limits { ratio: 100, ratio_from: 1 << 20, ..Limits::default() };
    let zeros = "\0".repeat(16 << 20);
    let tar = Tar::new().file("a", &zeros).end();
    let zip = Zip::new().deflated("a", &zeros).end();
    for archive in [gzip(&tar), zstd(&tar), zip] {
        let problem = refusal(read_within(&archive, &limits)).1;
        assert!(matches!(problem, Problem::Bomb { unpacked, .. } if unpacked < 8 << 20), "{problem:?}");
        // Few enough bytes in all.
        assert!(read_bytes(&archive).is_ok());
    }
    assert!(read_within(&tar, &limits).is_ok());
}

#[test]
fn padding_counts_too() {
    let mut tar = Tar::new().file("a", "").end();
    tar.resize(1 << 20, 0);
    let limits = Limits { bytes: 1000, entries: 10, ..Limits::default() };
    for archive in [gzip(&tar), zstd(&tar)] {
        too_many(read_within(&archive, &limits), "bytes when unpacked");
    }
}

#[test]
fn paths_names_and_depths_have_their_ends() {
    let limits = Limits { path: 20, name: 8, depth: 3, ..Limits::default() };
    let read = |path: &str| read_within(&Tar::new().file(path, "").end(), &limits);
    let bad = |path: &str| match refusal(read(path)).1 {
        Problem::Name(bad) => bad,
        other => panic!("{other:?}"),
    };
    assert!(read("12345678").is_ok());
    assert_eq!(bad("123456789"), BadName::NameTooLong(8));
    assert!(read("1/2/3").is_ok());
    assert_eq!(bad("1/2/3/4"), BadName::TooDeep(3));
    assert!(read("123456/123456/123456").is_ok());
    assert_eq!(bad("123456/123456/1234567"), BadName::PathTooLong(20));
    let target = Tar::new().link("a", "123456/123456/1234567").end();
    assert!(matches!(refusal(read_within(&target, &limits)).1, Problem::Name(BadName::PathTooLong(20))));
    let target = Zip::new().link("a", "123456/123456/1234567").end();
    assert!(matches!(refusal(read_within(&target, &limits)).1, Problem::Name(BadName::PathTooLong(20))));
}

#[test]
fn names_are_bounded_in_all() {
    let limits = |names| Limits { names, ..Limits::default() };
    let tar = Tar::new().file("ab/c", "").file("ab/d", "").link("l", "ab").end();
    assert!(read_within(&tar, &limits(7)).is_ok());
    too_many(read_within(&tar, &limits(6)), "bytes of names");
    too_many(read_within(&Zip::new().file("ab", "").file("cd", "").end(), &limits(3)), "bytes of names");
}
