//! Tars that lie or are damaged.

use super::{Tar, file, given, gzip, read_bytes, refusal, refused, zstd};
use crate::Problem;

#[test]
fn long_names_come_from_pax_gnu_and_ustar() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let prefixed = |header: &mut [u8; 512]| header[345..350].copy_from_slice(b"a/b/c");
    let tar = Tar::new()
        .pax(&[("mtime", "1.5"), ("path", &long), ("SCHILY.xattr.user.x", "a=b\nc")])
        .file("short", "1")
        .gnu(b'L', &format!("{long}2"))
        .file("short", "2")
        .with(b'0', b"d", b"", b"3", prefixed)
        .pax(&[("linkpath", &long)])
        .link("l", "")
        .gnu(b'K', &long)
        .gnu(b'L', "m")
        .link("short", "");
    let expected = [
        file(&long, false, b"1"),
        file(&format!("{long}2"), false, b"2"),
        file("a/b/c/d", false, b"3"),
        super::link("l", &long),
        super::link("m", &long),
    ];
    assert_eq!(given(&tar.end()), expected);
}

#[test]
fn sizes_come_from_pax_and_in_binary() {
    let no_size = |header: &mut [u8; 512]| header[124..136].fill(0);
    let binary = |header: &mut [u8; 512]| {
        header[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
    };
    let spaced = |header: &mut [u8; 512]| header[124..136].copy_from_slice(b"         5 \0");
    let tar = Tar::new()
        .pax(&[("size", "5")])
        .with(b'0', b"a", b"", b"12345", no_size)
        .with(b'0', b"b", b"", b"12345", binary)
        .with(b'\0', b"c", b"", b"12345", spaced);
    assert_eq!(given(&tar.end()), ["a", "b", "c"].map(|name| file(name, false, b"12345")));
    for size in [&b"-0000000001\0"[..], b"00000000009\0", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"]
    {
        let tar = Tar::new().with(b'0', b"a", b"", b"", |header| header[124..136].copy_from_slice(size));
        assert_eq!(refused(&tar.end()), "`a`: damaged: the size in its header is no number");
    }
    let huge = Tar::new().with(b'0', b"a", b"", b"", |header| header[124..136].fill(0x80)).end();
    assert!(refused(&huge).starts_with("`a`: damaged"));
}

#[test]
fn devices_and_other_kinds_are_refused() {
    for (kind, found) in [
        (b'3', "a character device"),
        (b'4', "a block device"),
        (b'6', "a FIFO"),
        (b'S', "a sparse file"),
        (b'M', "an entry of a backup (type M)"),
        (b'\n', "an entry of the type `\\n`"),
    ] {
        let text = refused(&Tar::new().entry(kind, b"x", b"", b"").end());
        assert_eq!(
            text,
            format!("`x`: {found}: expected files, folders, symbolic links and hard links alone")
        );
    }
    let sparse = Tar::new().pax(&[("GNU.sparse.major", "1")]).file("x", "1").end();
    assert_eq!(refused(&sparse), "a sparse file: expected files that are written in full");
}

#[test]
fn a_tar_that_is_cut_off_is_refused_wherever() {
    let whole = Tar::new().pax(&[("path", "a")]).file("x", &"1".repeat(700)).file("b", "2").end();
    assert!(read_bytes(&whole).is_ok());
    for (name, archive) in [("tar", whole.clone()), ("gz", gzip(&whole)), ("zst", zstd(&whole))] {
        // A tar's second block of zeros may be missing.
        let shortest = if name == "tar" { whole.len() - 512 } else { archive.len() };
        assert!(read_bytes(&archive[..shortest]).is_ok(), "{name}");
        for length in (1..shortest).rev().step_by(7) {
            assert!(read_bytes(&archive[..length]).is_err(), "{name} of {length} bytes");
        }
    }
    let cut = Tar::new().file("a", "1").cut();
    assert_eq!(refused(&cut), "cut off: expected more after its last byte");
    assert_eq!(refused(&cut[..512]), "`a`: fewer bytes: expected 1, as announced");
}

#[test]
fn wrong_checksums_are_refused() {
    let tar = Tar::new().file("a", "12345").file("b", "2").end();
    let mut spoilt = tar.clone();
    spoilt[1024 + 5] ^= 1;
    assert_eq!(refused(&spoilt), "damaged: the checksum of a header is wrong");

    let mut packed = gzip(&tar);
    let at = packed.len() - 6;
    packed[at] ^= 1;
    assert!(matches!(refusal(read_bytes(&packed)).1, Problem::Damaged(_)));

    let mut packed = zstd(&tar);
    let at = packed.len() - 1;
    packed[at] ^= 1;
    let text = refused(&packed);
    assert!(text.contains("of a Zstandard frame, expected"), "{text}");
}

#[test]
fn what_follows_the_end_is_refused() {
    let tar = Tar::new().file("a", "1").end();
    let with = |more: &[u8]| [&tar, more].concat();
    assert!(read_bytes(&with(&[0; 10_000])).is_ok());
    let text = "damaged: more after the archive's end, expected nothing but zeros";
    assert_eq!(refused(&with(&Tar::new().file("b", "2").end())), text);
    assert_eq!(refused(&gzip(&with(b"x"))), text);
    assert!(read_bytes(&[gzip(&tar), b"x".to_vec()].concat()).is_err());
    assert!(read_bytes(&[zstd(&tar), b"x".to_vec()].concat()).is_err());
}

#[test]
fn compressed_tars_may_be_in_several_pieces() {
    let tar = Tar::new().file("a", &"1".repeat(2000)).end();
    let (start, rest) = tar.split_at(700);
    let skippable = [0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    for archive in [
        [gzip(start), gzip(rest)].concat(),
        [skippable.to_vec(), zstd(start), skippable.to_vec(), zstd(b""), zstd(rest)].concat(),
    ] {
        assert_eq!(given(&archive), [file("a", false, "1".repeat(2000).as_bytes())]);
    }
    let cut = [zstd(&tar), skippable[..9].to_vec()].concat();
    assert_eq!(refused(&cut), "cut off: expected more after its last byte");
}

#[test]
fn a_large_zstandard_window_is_refused() {
    // A frame header with the window's exponent 17 (128 MiB), and one empty last block.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3, 1, 0, 0];
    let text = refused(&frame);
    assert!(text.starts_with("a Zstandard window of 134217728 bytes: expected at most 32 MiB"), "{text}");
}

#[test]
fn extended_headers_that_lie_are_refused() {
    let raw = |content: &str| Tar::new().entry(b'x', b"pax", b"", content.as_bytes()).file("a", "").end();
    for content in [
        "x",
        "5 a=b\n",
        "9999 path=x\n",
        "0 path=x\n",
        "11 path=x\n",
        "9 pathxx\n",
        "99999999999999999999999 a=b\n",
        " a=b\n",
    ] {
        let text = refused(&raw(content));
        assert!(text.starts_with("damaged: an extended header is not made of"), "{content}: {text}");
    }
    for records in [&[("size", "-1")][..], &[("size", "1e3")], &[("size", "99999999999999999999999")]] {
        assert!(refused(&Tar::new().pax(records).file("a", "").end()).contains("is none"));
    }
    let two = "damaged: two names or sizes for one entry, expected one";
    assert_eq!(refused(&Tar::new().pax(&[("path", "b"), ("path", "c")]).file("a", "").end()), two);
    assert_eq!(refused(&Tar::new().gnu(b'L', "b").pax(&[("path", "c")]).file("a", "").end()), two);
    assert_eq!(refused(&Tar::new().gnu(b'L', "b").gnu(b'L', "c").file("a", "").end()), two);
    let global = Tar::new().records(b'g', &[("path", "b")]).file("a", "").end();
    assert_eq!(refused(&global), "damaged: a name or size for all entries, expected one for each");
    let git = Tar::new().records(b'g', &[("comment", "c0ffee")]).file("a", "").end();
    assert_eq!(given(&git).len(), 1);
    let lost = Tar::new().file("a", "").pax(&[("path", "b")]).end();
    assert_eq!(refused(&lost), "damaged: an extended header at the end, expected an entry after it");
    let many = (0..9).fold(Tar::new(), |tar, _| tar.pax(&[("mtime", "1")])).file("a", "").end();
    assert_eq!(refused(&many), "damaged: more than 8 extended headers before an entry");
    let large = Tar::new().entry(b'x', b"pax", b"", &vec![b'1'; 300 << 10]).file("a", "").end();
    assert_eq!(refused(&large), "too many bytes in an extended header: at most 262144");
    let empty = Tar::new().pax(&[("path", "")]).file("a", "").end();
    assert_eq!(given(&empty), [file("a", false, b"")]);
}

#[test]
fn links_and_folders_have_no_content() {
    for kind in [b'1', b'2', b'5'] {
        let text = refused(&Tar::new().file("f", "").entry(kind, b"a", b"f", b"hidden").end());
        assert_eq!(text, "`a`: damaged: a link or folder with content, expected a size of 0");
    }
}
