//! Sections that are read and written.

use super::*;
use proptest::prelude::*;

fn decoded(section: &[u8], max: usize) -> Result<Vec<(String, String)>, Fault> {
    let mut fields = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    decode(section, max, |name, value| {
        fields.push((text(name), text(value)));
        Ok::<_, Fault>(())
    })?;
    Ok(fields)
}

fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn examples() {
    // RFC 9204 §B.1: a name of the table and a value.
    let section = b"\x00\x00\x51\x0b/index.html";
    assert_eq!(decoded(section, 100).unwrap(), pairs(&[(":path", "/index.html")]));
    // By number, with a packed value, and with a packed name.
    let section = b"\x00\x00\xd1\x55\x86\xa8\xeb\x10\x64\x9c\xbf\x2e\xa8\xeb\x10\x64\x9c\xbf\x01z";
    let expected = [(":method", "GET"), ("cookie", "no-cache"), ("no-cache", "z")];
    assert_eq!(decoded(section, 1000).unwrap(), pairs(&expected));
}

#[test]
fn what_needs_a_dynamic_table_is_refused() {
    for bad in [
        &b"\x01\x00"[..],
        b"\x00\x00\x80",
        b"\x00\x00\x10",
        b"\x00\x00\x40\x00",
        b"\x00\x00\x00\x00",
        b"\x00\x00\xff\x24",
        b"\x00",
        b"",
        b"\x00\x00\x51",
        b"\x00\x00\x51\x0b/index.htm",
        b"\x00\x00\x23x-",
        b"\x00\x00\x51\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x00\x00\xff\xff\xff\xff\xff\x01",
    ] {
        assert_eq!(decoded(bad, 1000), Err(Fault::Invalid), "{bad:?}");
    }
    assert_eq!(decoded(b"\x00\x7f\x00\xd1", 1000).unwrap().len(), 1, "a base that nothing refers to");
}

#[test]
fn a_section_has_a_largest_size() {
    let mut section = Vec::new();
    begin(&mut section);
    (0..10).for_each(|_| put(&mut section, b"x", b"y"));
    assert_eq!(decoded(&section, 340).unwrap().len(), 10);
    assert_eq!(decoded(&section, 339), Err(Fault::TooLarge));
}

proptest! {
    #[test]
    fn what_is_put_is_read(fields in prop::collection::vec(("[a-z0-9-]{1,200}", "[ -~]{0,300}"), 0..20)) {
        let mut section = Vec::new();
        begin(&mut section);
        for (name, value) in &fields {
            put(&mut section, name.as_bytes(), value.as_bytes());
        }
        prop_assert_eq!(decoded(&section, usize::MAX).unwrap(), fields);
    }

    #[test]
    fn nothing_breaks_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decoded(&bytes, 1000);
        let _ = decoded(&[&[0, 0], &bytes[..]].concat(), 1000);
    }
}
