//! Validators (RFC 9110 §8.8, §13), and what a 304 changes of a stored answer (RFC 9111 §4.3.4).

use crate::{date, members};

/// Whether two entity tags are the same, weakly compared (RFC 9110 §8.8.3.2). Quotes that were forgotten are added.
pub fn matches_weakly(one: &[u8], other: &[u8]) -> bool {
    opaque(one) == opaque(other)
}

/// The same strongly: neither may be weak.
pub fn matches_strongly(one: &[u8], other: &[u8]) -> bool {
    let weak = |tag: &[u8]| tag.starts_with(b"W/");
    !weak(one) && !weak(other) && opaque(one) == opaque(other)
}

fn opaque(tag: &[u8]) -> &[u8] {
    let tag = tag.strip_prefix(b"W/").unwrap_or(tag);
    let inner = tag.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\""));
    inner.unwrap_or(tag)
}

/// What a client has of an answer, by its conditions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Conditions<'a> {
    /// `If-None-Match`.
    pub none_match: Option<&'a [u8]>,
    /// `If-Modified-Since`.
    pub modified_since: Option<&'a [u8]>,
}

impl Conditions<'_> {
    /// Whether there is a condition.
    pub fn is_some(&self) -> bool {
        self.none_match.is_some() || self.modified_since.is_some()
    }

    /// Whether the client has the answer with these validators (RFC 9110 §13.2.2); `made` is its `Date`, or when it came, for an answer that
    /// does not say when it was modified.
    pub fn are_met(&self, etag: Option<&[u8]>, last_modified: Option<&[u8]>, made: u64) -> bool {
        if let Some(wanted) = self.none_match {
            let any = wanted.trim_ascii() == b"*";
            return any || etag.is_some_and(|tag| members(wanted).any(|it| matches_weakly(it, tag)));
        }
        let Some(since) = self.modified_since.and_then(date) else { return false };
        last_modified.and_then(date).unwrap_or(made) <= since
    }
}

/// Whether a field of a 304 takes the place of the stored answer's (RFC 9111 §3.2): not those that are about the body that is stored.
pub fn is_updated(name: &[u8]) -> bool {
    const KEPT: [&str; 6] = [
        "content-encoding",
        "content-length",
        "content-md5",
        "content-range",
        "content-type-options",
        "etag",
    ];
    !KEPT.iter().any(|it| name.eq_ignore_ascii_case(it.as_bytes()))
}

/// Whether a 304 to a client has this field of the stored answer (RFC 9110 §15.4.5).
pub fn is_told_with_304(name: &[u8]) -> bool {
    const TOLD: [&str; 8] = [
        "cache-control",
        "content-location",
        "date",
        "etag",
        "expires",
        "vary",
        "last-modified",
        "cdn-cache-control",
    ];
    TOLD.iter().any(|it| name.eq_ignore_ascii_case(it.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_weakly_and_strongly() {
        assert!(matches_weakly(b"\"a\"", b"W/\"a\"") && matches_weakly(b"a", b"\"a\""));
        assert!(!matches_strongly(b"\"a\"", b"W/\"a\"") && matches_strongly(b"\"a\"", b"\"a\""));
        assert!(!matches_weakly(b"\"a\"", b"\"A\""));
    }

    #[test]
    fn a_client_that_has_the_answer_is_told_so() {
        let none_match =
            |wanted: &'static str| Conditions { none_match: Some(wanted.as_bytes()), modified_since: None };
        assert!(none_match("\"x\", W/\"a\"").are_met(Some(b"\"a\""), None, 0));
        assert!(none_match("*").are_met(None, None, 0));
        assert!(
            !none_match("\"x\"").are_met(Some(b"\"a\""), None, 0)
                && !none_match("\"x\"").are_met(None, None, 0)
        );
        let at = |second: u32| format!("Sun, 06 Nov 1994 08:49:{second:02} GMT");
        let since = at(30);
        let since = Conditions { none_match: None, modified_since: Some(since.as_bytes()) };
        assert!(
            since.are_met(None, Some(at(30).as_bytes()), 0)
                && !since.are_met(None, Some(at(31).as_bytes()), 0)
        );
        assert!(!since.are_met(None, None, u64::MAX) && since.are_met(None, None, 784_111_770));
        // What the tag says comes first.
        let both = Conditions { none_match: Some(b"\"x\""), ..since };
        assert!(!both.are_met(Some(b"\"a\""), Some(at(30).as_bytes()), 0));
        let odd = Conditions { none_match: None, modified_since: Some(b"soon") };
        assert!(!odd.are_met(None, Some(at(30).as_bytes()), 0));
    }
}
