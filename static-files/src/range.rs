//! Range requests (RFC 9110 §14): one range of bytes. Several at once are answered with the whole, as the standard allows.

use http::{HeaderMap, header};

/// What is to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// All of it.
    Whole,
    /// `length` > 0 bytes from `first` on.
    Part {
        /// The first byte's place.
        first: u64,
        /// How many.
        length: u64,
    },
    /// Nothing of it is there: 416.
    Unsatisfiable,
}

/// The range that `Range` asks of `length` bytes; one that is not understood is ignored.
pub(crate) fn parse(headers: &HeaderMap, length: u64) -> Range {
    let mut fields = headers.get_all(header::RANGE).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return Range::Whole };
    field.to_str().ok().and_then(|text| read(text, length)).unwrap_or(Range::Whole)
}

fn read(text: &str, length: u64) -> Option<Range> {
    let (unit, spec) = text.split_once('=')?;
    let (first, last) = spec.trim().split_once('-')?;
    if !unit.eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return None;
    }
    let number = |digits: &str| {
        let all = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        // A number that does not fit lies behind any end.
        all.then(|| digits.parse().unwrap_or(u64::MAX))
    };
    if first.is_empty() {
        let suffix = number(last)?.min(length);
        return Some(part(length - suffix, suffix));
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    if first >= length {
        return Some(Range::Unsatisfiable);
    }
    Some(part(first, last.min(length - 1) - first + 1))
}

fn part(first: u64, length: u64) -> Range {
    if length == 0 { Range::Unsatisfiable } else { Range::Part { first, length } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(text: &str, length: u64) -> Range {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, text.parse().unwrap());
        parse(&headers, length)
    }

    #[test]
    fn reads_the_three_forms() {
        assert_eq!(range("bytes=0-0", 10), Range::Part { first: 0, length: 1 });
        assert_eq!(range("bytes=2-99", 10), Range::Part { first: 2, length: 8 });
        assert_eq!(range("Bytes=2-", 10), Range::Part { first: 2, length: 8 });
        assert_eq!(range("bytes=-3", 10), Range::Part { first: 7, length: 3 });
        assert_eq!(range("bytes=-99999999999999999999", 10), Range::Part { first: 0, length: 10 });
    }

    #[test]
    fn what_is_not_there_or_not_understood() {
        for text in ["bytes=10-", "bytes=99999999999999999999-", "bytes=-0"] {
            assert_eq!(range(text, 10), Range::Unsatisfiable, "{text}");
        }
        assert_eq!(range("bytes=0-", 0), Range::Unsatisfiable);
        for text in
            ["bytes=5-2", "bytes=a-b", "bytes=0-1,3-4", "lines=1-2", "bytes=+1-2", "bytes=-", "bytes 1-2", ""]
        {
            assert_eq!(range(text, 10), Range::Whole, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parts_are_never_empty_or_outside(text in "bytes=[0-9]{0,3}-[0-9]{0,3}", length in 0_u64..500) {
            if let Range::Part { first, length: part } = range(&text, length) {
                prop_assert!(part > 0 && first + part <= length);
            }
        }
    }
}
