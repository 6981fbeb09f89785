//! Numbers, sizes and times as people read them at three in the morning.

use crate::timestamp;
use common::recent_logs::is_harmless;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Between the digits of a long number: narrow, and no line breaks there.
const SPACE: char = '\u{202f}';

/// What is not known.
pub(super) const NONE: &str = "–";

/// A count, its digits in threes.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(SPACE);
        }
        text.push(digit);
    }
    text
}

/// A size, in powers of 1024.
pub(super) fn bytes(bytes: u64) -> String {
    let mut size = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, next);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{} {unit}", short(size)) }
}

/// Three digits or so.
pub(super) fn short(number: f64) -> String {
    match number {
        it if it >= 1000.0 => count(it.round() as u64),
        it if it >= 99.95 => format!("{it:.0}"),
        it if it >= 9.995 => format!("{it:.1}"),
        it if it > 0.0 => format!("{it:.2}"),
        _ => "0".to_owned(),
    }
}

/// A time in milliseconds.
pub(super) fn millis(ms: Option<f64>) -> String {
    match ms {
        Some(ms) if ms >= 1000.0 => format!("{} s", short(ms / 1000.0)),
        Some(ms) => format!("{} ms", short(ms)),
        None => NONE.to_owned(),
    }
}

/// A duration in its two greatest units.
pub(super) fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) if minutes < 10 => format!("{minutes} min {} s", seconds % 60),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{} d {hours} h", count(days)),
    }
}

/// How long before `now` it was; empty where that is not known.
pub(super) fn ago(at: Option<&str>, now: Option<&str>) -> String {
    let times = at.and_then(timestamp::parse).zip(now.and_then(timestamp::parse));
    times.map_or(String::new(), |(at, now)| duration(now.saturating_sub(at) / 1000))
}

/// The time of day of a timestamp, in UTC.
pub(super) fn clock_time(at: Option<&str>) -> String {
    let time = at.and_then(|it| it.get(11..19));
    time.map_or(String::new(), |it| format!("{it} UTC"))
}

/// The first digits of an object's id.
pub(super) fn short_id(id: Option<&String>) -> String {
    id.map_or(NONE.to_owned(), |it| it.chars().take(10).collect())
}

/// A number, or what stands for none.
pub(super) fn optional(number: Option<u64>) -> String {
    number.map_or(NONE.to_owned(), count)
}

/// The beginning of a text of others: so many characters and lines; those that would not show themselves alone by their numbers.
pub(super) fn beginning(text: &str, characters: usize, lines: usize) -> String {
    let mut shown = String::new();
    let mut ends = 0;
    for (place, it) in text.chars().enumerate() {
        ends += usize::from(it == '\n');
        if place >= characters || ends >= lines {
            shown.push('…');
            break;
        }
        if it == '\n' || is_harmless(it) {
            shown.push(it);
        } else {
            shown.extend(it.escape_unicode());
        }
    }
    shown
}

/// A text of others as a part of a path.
pub(super) fn path_part(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Thousandths of a core, or of anything, in hundredths.
pub(super) fn percent(per_mille: u64) -> String {
    format!("{} %", short(per_mille as f64 / 10.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0, 7, 999, 1000, 1_234_567].map(count),
            ["0", "7", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]
        );
        assert_eq!(
            [0, 1023, 1024, 64 << 20, 3 << 30, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.00 KiB", "64.0 MiB", "3.00 GiB", "16\u{202f}384 PiB"]
        );
        assert_eq!(
            [0.0, 0.456, 9.994, 9.996, 99.96, 1234.5].map(short),
            ["0", "0.46", "9.99", "10.0", "100", "1\u{202f}235"]
        );
        assert_eq!(
            [None, Some(0.25), Some(12.0), Some(2500.0)].map(millis),
            ["–", "0.25 ms", "12.0 ms", "2.50 s"]
        );
        assert_eq!(
            [0, 59, 61, 3599, 3600, 90_061].map(duration),
            ["0 s", "59 s", "1 min 1 s", "59 min", "1 h 0 min", "1 d 1 h"]
        );
    }

    #[test]
    fn a_moment_is_told_by_how_long_ago_it_was() {
        let (at, now) = (Some("2026-03-01T09:00:00.000Z"), Some("2026-03-01T10:02:00.500Z"));
        assert_eq!((ago(at, now), ago(now, at)), ("1 h 2 min".into(), "0 s".into()));
        assert_eq!((ago(None, now), ago(at, Some("now"))), (String::new(), String::new()));
        assert_eq!((clock_time(at), clock_time(Some("x"))), ("09:00:00 UTC".into(), String::new()));
    }

    #[test]
    fn a_text_of_others_is_short_and_drives_no_terminal() {
        assert_eq!(beginning("ä\tb\nc", 9, 9), "ä\tb\nc");
        assert_eq!(beginning("abc", 2, 9), "ab…");
        assert_eq!(beginning("a\nb\nc\nd", 99, 2), "a\nb…");
        assert_eq!(beginning("\u{1b}[31m\u{202e}\r", 99, 9), "\\u{1b}[31m\\u{202e}\\u{d}");
        assert_eq!(path_part("job:a b"), "job%3Aa%20b");
    }
}
