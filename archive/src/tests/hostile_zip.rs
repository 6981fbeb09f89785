//! Zips that lie or are damaged.

use super::{Zip, file, given, read_bytes, refused};

fn large() -> String {
    "0123456789".repeat(20_000)
}

#[test]
fn stored_deflated_wide_and_streamed_entries_are_read() {
    let zip = Zip::new().file("a", "1").deflated("b/c", &large()).folder("d/").stored(b"e", b"2", 0o100_755);
    let streamed = zip.clone().deflated("f", "3").last(|entry| entry.descriptor = true);
    let expected = [file("a", false, b"1"), file("b/c", false, large().as_bytes()), file("e", true, b"2")];
    assert_eq!(given(&zip.end()), expected);
    assert_eq!(given(&zip.wide().end()), expected);
    assert_eq!(given(&streamed.end())[3], file("f", false, b"3"));
    assert_eq!(given(&Zip::new().deflated("a", "").end()), [file("a", false, b"")]);
}

#[test]
fn a_name_in_unicode_counts_if_it_is_for_this_name() {
    let field = |of: &[u8]| [&[1][..], &crc32fast::hash(of).to_le_bytes(), "ü".as_bytes()].concat();
    let right = Zip::new().stored(b"\x81", b"", 0).extra(0x7075, &field(b"\x81"));
    assert_eq!(given(&right.end()), [file("ü", false, b"")]);
    let other = Zip::new().file("u", "").extra(0x7075, &field(b"v"));
    assert_eq!(given(&other.end()), [file("u", false, b"")]);
}

#[test]
fn encrypted_entries_and_other_methods_are_refused() {
    let encrypted = Zip::new().file("a", "1").last(|entry| entry.flags = 1).end();
    assert_eq!(refused(&encrypted), "`a`: encrypted: expected an archive without a password");
    for method in [1, 9, 12, 14, 93, 99] {
        let zip = Zip::new().file("a", "1").last(|entry| entry.method = method).end();
        let text = format!("`a`: compression method {method}: expected 0 (stored) or 8 (deflate)");
        assert_eq!(refused(&zip), text);
    }
}

#[test]
fn devices_are_refused() {
    for mode in [0o010_644, 0o020_644, 0o060_644, 0o140_644] {
        let text = refused(&Zip::new().stored(b"a", b"", mode).end());
        assert_eq!(
            text,
            format!(
                "`a`: a device, FIFO or socket (Unix type {mode:06o}): expected files, folders and symbolic links alone",
                mode = mode & 0o170_000
            )
        );
    }
}

#[test]
fn sizes_and_checksums_have_to_be_right() {
    let deflated = || Zip::new().deflated("a", &large());
    let right = crc32fast::hash(large().as_bytes());
    assert_eq!(
        refused(&deflated().checksum(1).end()),
        format!("`a`: damaged: checksum {right:08x}, expected 00000001")
    );
    assert_eq!(refused(&deflated().size(200_001).end()), "`a`: fewer bytes: expected 200001, as announced");
    assert_eq!(refused(&deflated().size(199_999).end()), "`a`: more bytes: expected 199999, as announced");
    assert_eq!(refused(&deflated().size(0).end()), "`a`: more bytes: expected 0, as announced");
    let text = "`a`: damaged: its compressed data is shorter than announced";
    assert_eq!(refused(&deflated().trailing(b"hidden").end()), text);
    let text = "`a`: damaged: two sizes, but it is stored uncompressed";
    assert_eq!(refused(&Zip::new().file("a", "1").size(2).end()), text);
    let text = "`a/`: damaged: a folder with content, expected a size of 0";
    assert_eq!(refused(&Zip::new().stored(b"a/", b"1", 0).end()), text);
    let link = Zip::new().link("a", "b").checksum(7).file("b", "").end();
    assert!(refused(&link).starts_with("`a`: damaged: checksum"));
}

#[test]
fn an_entrys_own_header_says_the_same() {
    let text = "`a`: damaged: its header differs from the archive's directory";
    assert_eq!(refused(&Zip::new().file("a", "1").own_name("b").end()), text);
    assert_eq!(refused(&Zip::new().file("a", "1").own_name("ab").end()), text);
    let mut zip = Zip::new().file("a", "1").end();
    zip[14] ^= 1;
    let text = "`a`: damaged: its header has other sizes or another checksum than the archive's directory";
    assert_eq!(refused(&zip), text);
    let text = "`a`: damaged: the directory names a place where no entry begins";
    assert_eq!(refused(&Zip::new().file("a", "1").offset(1).end()), text);
}

#[test]
fn entries_do_not_overlap() {
    let twice = Zip::new().file("a", "1").file("b", "1").offset(0).end();
    assert_eq!(refused(&twice), "damaged: two entries share their data");
    // The first one's data is the second entry as a whole: a bomb in the way of D. Fifield's.
    let inner = &Zip::new().file("b", "1").end()[..32];
    let quoted = Zip::new().stored(b"a", inner, 0).file("b", "1").offset(31).end();
    assert_eq!(refused(&quoted), "`a`: damaged: its data overlaps what comes after it");
    let beyond = Zip::new().file("a", "1").offset(0x7fff_ffff).end();
    assert_eq!(refused(&beyond), "`a`: cut off: expected more after its last byte");
}

#[test]
fn a_zip_that_is_cut_off_or_added_to_is_refused() {
    let zip = Zip::new().deflated("a", &large()).file("b", "2");
    for whole in [zip.end(), zip.wide().end()] {
        for length in (4..whole.len()).rev().step_by(3) {
            assert!(read_bytes(&whole[..length]).is_err(), "{length} bytes");
        }
        assert!(read_bytes(&[&whole[..], b"x"].concat()).is_err());
        assert!(read_bytes(&[b"PK\x03\x04", &whole[..]].concat()).is_err());
    }
}

#[test]
fn a_comment_is_fine_and_a_second_end_in_it_too() {
    let mut zip = Zip::new().file("a", "1").end();
    let at = zip.len() - 2;
    let comment = b"PK\x05\x06 a comment that looks like an end record";
    zip[at] = u8::try_from(comment.len()).unwrap();
    zip.extend(comment);
    assert_eq!(given(&zip), [file("a", false, b"1")]);
}

#[test]
fn counts_that_lie_are_refused() {
    let change = |at_from_end: usize, value: u8| {
        let mut zip = Zip::new().file("a", "1").file("b", "2").end();
        let at = zip.len() - at_from_end;
        zip[at] = value;
        if at_from_end == 12 {
            zip[at - 2] = value;
        }
        refused(&zip)
    };
    assert_eq!(change(12, 1), "damaged: the directory has more in it than the entries it counts");
    assert_eq!(change(12, 9), "damaged: the directory counts more entries than it has room for");
    assert_eq!(change(14, 1), "an archive in several files: expected one file");
    assert_eq!(change(18, 1), "an archive in several files: expected one file");
    assert_eq!(change(10, 1), "damaged: the directory does not end where the end record begins");
}
