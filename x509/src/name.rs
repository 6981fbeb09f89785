//! Distinguished names as text (RFC 4514).

use super::der::{Der, Element, tag};
use std::fmt::Write;

/// The longest name as text; a longer one is not a name that an application could use.
const LENGTH_MAX: usize = 2048;

/// The attributes that have a short name (RFC 4514 §3, and `emailAddress` as OpenSSL writes it).
const ATTRIBUTES: [(&[u8], &str); 10] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19], "DC"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01], "emailAddress"),
];

/// A distinguished name in DER as text: `CN=Ada,O=Example`, the most specific first, printable ASCII alone. `None` when it is
/// malformed or longer than 2048 characters.
pub fn distinguished_name(der: &[u8]) -> Option<String> {
    let mut sets = Der::new(Der::new(der).take(tag::SEQUENCE)?);
    let mut parts = Vec::new();
    while let Some(set) = sets.next()? {
        let mut attributes = Der::new((set.tag == tag::SET).then_some(set.content)?);
        let mut part = String::new();
        while let Some(attribute) = attributes.next()? {
            let mut fields = Der::new(attribute.content);
            let (id, value) = (fields.take(tag::OBJECT_IDENTIFIER)?, fields.any()?);
            if !part.is_empty() {
                part.push('+');
            }
            write_attribute(&mut part, id, &value)?;
        }
        parts.push(part);
    }
    parts.reverse();
    Some(parts.join(",")).filter(|name| name.len() <= LENGTH_MAX)
}

fn write_attribute(out: &mut String, id: &[u8], value: &Element<'_>) -> Option<()> {
    let known = ATTRIBUTES.iter().find(|(it, _)| *it == id).map(|(_, name)| *name);
    match known {
        Some(name) => out.push_str(name),
        None => write_identifier(out, id)?,
    }
    out.push('=');
    let text = match value.tag {
        tag::UTF8_STRING | tag::PRINTABLE_STRING | tag::IA5_STRING => std::str::from_utf8(value.content).ok(),
        _ => None,
    };
    match text.filter(|_| known.is_some()) {
        Some(text) => write_escaped(out, text),
        None => {
            out.push('#');
            for byte in value.whole {
                let _ = write!(out, "{byte:02x}");
            }
        }
    }
    Some(())
}

/// An object identifier in dotted form (X.690 §8.19).
fn write_identifier(out: &mut String, id: &[u8]) -> Option<()> {
    let mut arc = 0_u64;
    let mut first = true;
    for byte in id {
        arc = arc.checked_mul(128)? | u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        if first {
            let root = (arc / 40).min(2);
            let _ = write!(out, "{root}.{}", arc - 40 * root);
            first = false;
        } else {
            let _ = write!(out, ".{arc}");
        }
        arc = 0;
    }
    (!first).then_some(())
}

/// A value with what means something escaped (§2.4); whatever is not printable ASCII goes as the hex of its bytes, so that the
/// text may stand in a header.
fn write_escaped(out: &mut String, text: &str) {
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => out.extend(['\\', char::from(byte)]),
            b'#' if at == 0 => out.push_str("\\#"),
            b' ' if at == 0 || at == last => out.push_str("\\ "),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\{byte:02X}");
            }
        }
    }
}
