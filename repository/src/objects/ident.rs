//! Who made a commit or a tag, and when: `Name <mail@host> 1700000000 +0100`.

use super::Signature;

/// What is wrong with it, as `git fsck --strict` sees it (fsck.c, `fsck_ident`).
pub(crate) fn parse(line: &[u8]) -> Result<Signature, &'static str> {
    let open = line.iter().position(|it| *it == b'<').ok_or("its author has no mail address")?;
    let (name, rest) = (&line[..open], &line[open + 1..]);
    if name.is_empty() || !name.ends_with(b" ") || name.contains(&b'>') {
        return Err("its author's name is not followed by a mail address");
    }
    let close =
        rest.iter().position(|it| matches!(it, b'<' | b'>')).ok_or("its author's mail is not ended")?;
    if rest[close] != b'>' {
        return Err("its author's mail has a < in it");
    }
    let (mail, date) = (&rest[..close], &rest[close + 1..]);
    let date = date.strip_prefix(b" ").ok_or("its author's mail is not followed by a date")?;
    let space = date.iter().position(|it| *it == b' ').ok_or("its date has no time zone")?;
    let (seconds, zone) = (&date[..space], &date[space + 1..]);
    let time_s = seconds_of(seconds).ok_or("its date is not a number of seconds")?;
    let zone_fits =
        zone.len() == 5 && matches!(zone[0], b'+' | b'-') && zone[1..].iter().all(u8::is_ascii_digit);
    if !zone_fits {
        return Err("its time zone is not like +0100");
    }
    Ok(Signature { name: text(name), email: text(mail), time_s })
}

fn seconds_of(digits: &[u8]) -> Option<i64> {
    let zero_padded = digits.len() > 1 && digits[0] == b'0';
    if zero_padded || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// As Git writes it; what can't be in a name is left out.
pub(crate) fn encode(signature: &Signature) -> String {
    let clean = |text: &str| -> String {
        let kept: String = text.chars().filter(|it| !matches!(it, '<' | '>') && !it.is_control()).collect();
        kept.trim().to_owned()
    };
    let name = clean(&signature.name);
    let name = if name.is_empty() { "unknown" } else { &name };
    format!("{name} <{}> {} +0000", clean(&signature.email), signature.time_s.max(0))
}
