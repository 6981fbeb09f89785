//! How long ago a server last heard from the hub, and how a web-tier says so with each request that it forwards: an app server
//! that hears less than the web-tier is itself cut off, and must not trust its memory (docs/sessions.md).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The header of a forwarded request: the milliseconds since the web-tier last heard from the hub, by its own clock, as decimal
/// digits. Absent when it never has. Believed only on the cluster port; a client's own is dropped by the web-tier.
///
/// The header of an answer that rests on an app server's memory alone: the same of the app server. A web-tier that still hears the
/// hub does not give such an answer to anybody: see [`Times::is_ahead`](crate::witness::Times::is_ahead).
pub const HUB_AGE: &str = "copal-hub-age";

/// Digits of the largest age, `u32::MAX` milliseconds (49 days): a greater one is cut down to it.
const DIGITS: usize = 10;

/// When this server last heard from the hub. Clones are the same one; reading it is one atomic load, and never waits.
#[derive(Debug, Clone)]
pub struct LastHeard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    since: Instant,
    /// Milliseconds from `since` to the last word, and one; 0: never.
    heard: AtomicU64,
}

impl LastHeard {
    /// Nothing has been heard yet.
    pub fn never() -> Self {
        Self(Arc::new(Inner { since: Instant::now(), heard: AtomicU64::new(0) }))
    }

    /// Something that was sent at `at` has been heard.
    pub fn note(&self, at: Instant) {
        let passed = at.saturating_duration_since(self.0.since).as_millis();
        let heard = u64::try_from(passed).unwrap_or(u64::MAX - 1).saturating_add(1);
        self.0.heard.fetch_max(heard, Ordering::Relaxed);
    }

    /// How long before `now` that was; `None`: nothing was ever heard.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let before = self.0.heard.load(Ordering::Relaxed).checked_sub(1)?;
        Some(now.saturating_duration_since(self.0.since).saturating_sub(Duration::from_millis(before)))
    }
}

/// An age as [`HUB_AGE`] has it, on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgeText {
    digits: [u8; DIGITS],
    start: usize,
}

impl AgeText {
    /// The digits.
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }

    /// The same.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("digits are ASCII")
    }
}

/// Writes an age, in whole milliseconds.
pub fn format(age: Duration) -> AgeText {
    let mut left = u32::try_from(age.as_millis()).unwrap_or(u32::MAX);
    let mut text = AgeText { digits: [b'0'; DIGITS], start: DIGITS };
    loop {
        text.start -= 1;
        text.digits[text.start] = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
        if left == 0 {
            return text;
        }
    }
}

/// Reads an age; `None` for anything but one to ten digits that are at most `u32::MAX`: as if nothing had been said.
pub fn parse(text: &[u8]) -> Option<Duration> {
    if text.is_empty() || text.len() > DIGITS || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let ms = text.iter().fold(0_u64, |ms, digit| ms * 10 + u64::from(digit - b'0'));
    u32::try_from(ms).ok().map(|ms| Duration::from_millis(ms.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_age_grows_until_something_is_heard() {
        let last = LastHeard::never();
        let start = last.0.since;
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(last.age(at(500)), None);
        last.note(start);
        assert_eq!(last.age(at(500)), Some(Duration::from_millis(500)));
        last.note(at(400));
        assert_eq!(last.age(at(500)), Some(Duration::from_millis(100)));
        last.note(at(300));
        assert_eq!(last.age(at(500)), Some(Duration::from_millis(100)), "what comes late is not news");
        assert_eq!(last.age(at(100)), Some(Duration::ZERO));
    }

    #[test]
    fn only_digits_are_an_age() {
        for wrong in ["", "-1", "+1", " 1", "1 ", "1.5", "1ms", "0x1", "4294967296", "00000000001", "\u{661}"]
        {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong:?}");
        }
        assert_eq!(parse(b"0"), Some(Duration::ZERO));
        assert_eq!(parse(b"0000000012"), Some(Duration::from_millis(12)));
        assert_eq!(format(Duration::from_secs(u64::MAX)).as_bytes(), b"4294967295");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(ms in any::<u32>()) {
            let age = Duration::from_millis(ms.into());
            let (text, digits) = (format(age), ms.to_string());
            prop_assert_eq!(text.as_bytes(), digits.as_bytes());
            prop_assert_eq!(parse(text.as_bytes()), Some(age));
        }

        #[test]
        fn any_bytes_are_read_or_not(text in proptest::collection::vec(any::<u8>(), 0..14)) {
            if let Some(age) = parse(&text) {
                prop_assert!(age.as_millis() <= u128::from(u32::MAX));
            }
        }
    }
}
