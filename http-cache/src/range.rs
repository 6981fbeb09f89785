//! Parts of an answer (RFC 9110 §14): one range of bytes; what asks for several gets the whole.

use std::fmt;

/// What a request asks for of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it: it asks for no part, or in a way that is not known here.
    Whole,
    /// From the first byte to the one behind the last.
    Bytes(u64, u64),
    /// Nothing of it is there: 416.
    None,
}

/// The part of a body of `length` bytes that `Range` asks for.
pub fn part(range: &[u8], length: u64) -> Part {
    let Some((first, last)) = bounds(range) else { return Part::Whole };
    match (first, last) {
        (Some(first), _) if first >= length => Part::None,
        (Some(first), Some(last)) if last < first => Part::Whole,
        (Some(first), last) => {
            Part::Bytes(first, last.map_or(length, |last| last.saturating_add(1).min(length)))
        }
        (None, Some(0)) => Part::None,
        (None, Some(_)) if length == 0 => Part::None,
        (None, Some(count)) => Part::Bytes(length - count.min(length), length),
        (None, None) => Part::Whole,
    }
}

/// What `Content-Range` says of a 206 (RFC 9110 §14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// The first byte.
    pub from: u64,
    /// The one behind the last.
    pub to: u64,
    /// Bytes of the whole.
    pub total: u64,
}

impl ContentRange {
    /// `None`: it is none, contradicts itself, or does not say how long the whole is.
    pub fn of(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?.trim();
        let spec = text.get(..6).filter(|it| it.eq_ignore_ascii_case("bytes ")).map(|_| text[6..].trim())?;
        let (range, total) = spec.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let number = |text: &str| -> Option<u64> {
            let digits = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
            digits.then(|| text.parse().ok())?
        };
        let known = Self { from: number(first)?, to: number(last)?.checked_add(1)?, total: number(total)? };
        (known.from < known.to && known.to <= known.total).then_some(known)
    }

    /// How many bytes it is.
    pub fn length(&self) -> u64 {
        self.to - self.from
    }

    /// Whether it is all there is.
    pub fn is_whole(&self) -> bool {
        self.length() == self.total
    }

    /// What of it a `Range` asks for, from the first byte to the one behind the last; `None`: something that it does not have.
    pub fn part(&self, range: &[u8]) -> Option<(u64, u64)> {
        match part(range, self.total) {
            Part::Bytes(from, to) if self.from <= from && to <= self.to => Some((from, to)),
            _ => None,
        }
    }

    /// Both as one; `None`: they are of bodies of other lengths, or there is a gap between them.
    pub fn joined(&self, other: &Self) -> Option<Self> {
        let touches = self.from <= other.to && other.from <= self.to;
        (self.total == other.total && touches).then(|| Self {
            from: self.from.min(other.from),
            to: self.to.max(other.to),
            total: self.total,
        })
    }
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {}-{}/{}", self.from, self.to - 1, self.total)
    }
}

fn bounds(range: &[u8]) -> Option<(Option<u64>, Option<u64>)> {
    let text = std::str::from_utf8(range).ok()?.trim();
    let spec = text.get(..6).filter(|it| it.eq_ignore_ascii_case("bytes=")).map(|_| text[6..].trim())?;
    let (first, last) = spec.split_once('-')?;
    let number = |text: &str| {
        let digits = text.bytes().all(|it| it.is_ascii_digit());
        if text.is_empty() { Some(None) } else { digits.then(|| Some(text.parse().unwrap_or(u64::MAX))) }
    };
    Some((number(first.trim())?, number(last.trim())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_range_is_a_part() {
        for (range, expected) in [
            ("bytes=0-1", Part::Bytes(0, 2)),
            ("bytes=1-", Part::Bytes(1, 10)),
            ("Bytes=-3", Part::Bytes(7, 10)),
            ("bytes=-99", Part::Bytes(0, 10)),
            ("bytes=5-99999999999999999999", Part::Bytes(5, 10)),
            ("bytes=10-", Part::None),
            ("bytes=-0", Part::None),
            ("bytes=3-2", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("", Part::Whole),
        ] {
            assert_eq!(part(range.as_bytes(), 10), expected, "{range}");
        }
        assert_eq!(part(b"bytes=-1", 0), Part::None);
    }

    #[test]
    fn a_content_range_is_whole_and_sound_or_none() {
        let known = ContentRange::of(b"bytes 4-8/10").unwrap();
        assert_eq!(known, ContentRange { from: 4, to: 9, total: 10 });
        assert_eq!(known.to_string(), "bytes 4-8/10");
        for bad in [
            "",
            "bytes",
            "bytes 4-8/*",
            "bytes */10",
            "bytes 4-10/10",
            "bytes 8-4/10",
            "bytes -4/10",
            "items 1-2/3",
            "bytes +1-2/3",
            "bytes 0-18446744073709551615/18446744073709551615",
        ] {
            assert_eq!(ContentRange::of(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn what_a_part_has_of_a_range() {
        let known = ContentRange { from: 4, to: 9, total: 10 };
        for (range, expected) in [
            ("bytes=4-8", Some((4, 9))),
            ("bytes=5-5", Some((5, 6))),
            ("bytes=5-", None),
            ("bytes=-1", None),
            ("bytes=3-5", None),
            ("bytes=10-", None),
            ("bytes=0-1,4-5", None),
        ] {
            assert_eq!(known.part(range.as_bytes()), expected, "{range}");
        }
        let end = ContentRange { from: 9, to: 10, total: 10 };
        assert_eq!(end.part(b"bytes=-1"), Some((9, 10)));
        assert_eq!(known.joined(&end), Some(ContentRange { from: 4, to: 10, total: 10 }));
        assert_eq!(known.joined(&ContentRange { from: 0, to: 3, total: 10 }), None);
        assert_eq!(known.joined(&ContentRange { from: 9, to: 10, total: 11 }), None);
    }

    proptest! {
        #[test]
        fn a_part_is_in_its_body(range in "bytes=[0-9]{0,3}-[0-9]{0,3}", length in 0_u64..200) {
            if let Part::Bytes(from, to) = part(range.as_bytes(), length) {
                prop_assert!(from < to && to <= length);
            }
        }
    }
}
