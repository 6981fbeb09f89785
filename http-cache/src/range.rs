//! Parts of an answer (RFC 9110 §14): one range of bytes; what asks for several gets the whole.

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

    proptest! {
        #[test]
        fn a_part_is_in_its_body(range in "bytes=[0-9]{0,3}-[0-9]{0,3}", length in 0_u64..200) {
            if let Part::Bytes(from, to) = part(range.as_bytes(), length) {
                prop_assert!(from < to && to <= length);
            }
        }
    }
}
