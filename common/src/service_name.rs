//! Names of what apps share: leases, caches, queues, topics, jobs, daemons, pipelines.

use std::fmt;

/// In place of an app's name: the leases of web-tiers, by which one of them at a time orders certificates. No app has such a name.
pub const ACME_LEASES: &str = ":acme";

/// A name: 1 to 63 of `a`–`z`, `0`–`9`, `.`, `_` and `-`. It may stand in a path, a header and a file's name as it is, but for `.` and `..`, which are none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(String);

/// Not such a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {}", ServiceName::EXPECTED)]
pub struct BadServiceName;

impl ServiceName {
    /// The longest, in bytes.
    pub const LENGTH_MAX: usize = 63;

    /// For messages.
    pub const EXPECTED: &'static str = "1 to 63 of a-z, 0-9, '.', '_' and '-', not '.' or '..'";

    /// A name, if it is one.
    ///
    /// # Errors
    /// It has other characters, none, or too many.
    pub fn new(text: &str) -> Result<Self, BadServiceName> {
        let is_ok = |it: u8| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let fits = (1..=Self::LENGTH_MAX).contains(&text.len());
        let is_name = fits && text.bytes().all(is_ok) && text != "." && text != "..";
        if is_name { Ok(Self(text.to_owned())) } else { Err(BadServiceName) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for good in ["a", "msg", "0", "a.b_c-d", "...", &"x".repeat(63)] {
            assert_eq!(ServiceName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "A", "a b", "a/b", "ä", "a\n", "a:b", "a=b", &"x".repeat(64)] {
            assert_eq!(ServiceName::new(bad), Err(BadServiceName), "{bad:?}");
        }
    }
}
