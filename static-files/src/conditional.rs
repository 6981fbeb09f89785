//! Conditional requests (RFC 9110 §13.2.2), in the order that the standard gives.

use http::{HeaderMap, HeaderName, header};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a request's conditions come to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The client has it: 304.
    NotModified,
    /// It is another one than the client meant: 412.
    Failed,
    /// Send it; `ranges`: a part of it if a part was asked for.
    Send {
        /// `If-Range` holds, or there is none.
        ranges: bool,
    },
}

/// Evaluates the conditions of a GET or HEAD.
pub(crate) fn evaluate(headers: &HeaderMap, etag: &str, modified: Option<SystemTime>) -> Condition {
    let modified = modified.map(whole_seconds);
    let date = |name: HeaderName| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| httpdate::parse_http_date(text).ok())
    };
    if headers.contains_key(header::IF_MATCH) {
        if !lists(headers, &header::IF_MATCH, etag, false) {
            return Condition::Failed;
        }
    } else if let (Some(limit), Some(modified)) = (date(header::IF_UNMODIFIED_SINCE), modified)
        && modified > limit
    {
        return Condition::Failed;
    }
    if headers.contains_key(header::IF_NONE_MATCH) {
        if lists(headers, &header::IF_NONE_MATCH, etag, true) {
            return Condition::NotModified;
        }
    } else if let (Some(since), Some(modified)) = (date(header::IF_MODIFIED_SINCE), modified)
        && modified <= since
    {
        return Condition::NotModified;
    }
    let ranges = match headers.get(header::IF_RANGE).map(|value| value.to_str().unwrap_or("")) {
        None => true,
        Some(text) if text.starts_with('"') => text == etag,
        // A weak validator never matches; a date only exactly.
        Some(text) => httpdate::parse_http_date(text).is_ok_and(|date| Some(date) == modified),
    };
    Condition::Send { ranges }
}

/// Whether a list of entity tags, or `*`, has this one; `weak`: `W/` is overlooked.
fn lists(headers: &HeaderMap, name: &HeaderName, etag: &str, weak: bool) -> bool {
    let fields = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    fields.flat_map(|field| field.split(',')).map(str::trim).any(|tag| {
        let tag = if weak { tag.strip_prefix("W/").unwrap_or(tag) } else { tag };
        tag == "*" || tag == etag
    })
}

/// HTTP's dates have no fractions.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG: &str = "\"a\"";
    const SEND: Condition = Condition::Send { ranges: true };

    fn check(fields: &[(&'static str, &str)]) -> Condition {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        evaluate(&headers, ETAG, Some(UNIX_EPOCH + Duration::from_millis(1_000_500)))
    }

    fn date(seconds: u64) -> String {
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn entity_tags_come_before_dates() {
        assert_eq!(check(&[]), SEND);
        assert_eq!(check(&[("if-none-match", "\"b\", W/\"a\"")]), Condition::NotModified);
        assert_eq!(check(&[("if-none-match", "*")]), Condition::NotModified);
        assert_eq!(check(&[("if-none-match", "\"b\""), ("if-modified-since", &date(2000))]), SEND);
        assert_eq!(check(&[("if-match", "\"b\"")]), Condition::Failed);
        assert_eq!(check(&[("if-match", "W/\"a\"")]), Condition::Failed);
        assert_eq!(check(&[("if-match", "\"a\""), ("if-unmodified-since", &date(1))]), SEND);
    }

    #[test]
    fn dates_have_whole_seconds() {
        assert_eq!(check(&[("if-modified-since", &date(1000))]), Condition::NotModified);
        assert_eq!(check(&[("if-modified-since", &date(999))]), SEND);
        assert_eq!(check(&[("if-modified-since", "yesterday")]), SEND);
        assert_eq!(check(&[("if-unmodified-since", &date(999))]), Condition::Failed);
        assert_eq!(check(&[("if-unmodified-since", &date(1000))]), SEND);
    }

    #[test]
    fn if_range_needs_a_strong_match() {
        assert_eq!(check(&[("if-range", "\"a\"")]), SEND);
        assert_eq!(check(&[("if-range", &date(1000))]), SEND);
        for stale in ["\"b\"", "W/\"a\"", &date(1001), "x"] {
            assert_eq!(check(&[("if-range", stale)]), Condition::Send { ranges: false }, "{stale}");
        }
    }
}
