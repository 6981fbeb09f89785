//! `traceparent` (W3C Trace Context): for a request without a span of the proxy's own a valid one is passed on as it is, with its
//! `tracestate`. An invalid one would make the server begin a trace that nobody can follow: it is replaced, and without one a new
//! one is made, so that what the servers behind each other log about one request has one id.

use crate::http1::{Fields, Name, hex};
use std::cell::Cell;
use traces::TraceContext;

/// `00-` trace id `-` parent id `-` flags.
const LENGTH: usize = 55;

/// The places of the two ids, and of the flags.
const TRACE: std::ops::Range<usize> = 3..35;
const PARENT: std::ops::Range<usize> = 36..52;
const FLAGS: std::ops::Range<usize> = 53..55;

/// A valid `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceParent([u8; LENGTH]);

impl TraceParent {
    /// The one that a request has, if it has one and that is valid.
    pub(crate) fn of(fields: &Fields) -> Option<Self> {
        let mut lines = fields.all(Name::TraceParent);
        let only = lines.next().filter(|_| lines.next().is_none())?;
        Self::parse(only)
    }

    /// Reads version 00, the only one there is, strictly (Trace Context §3.2): lower-case hexadecimal digits, no id zero.
    fn parse(value: &[u8]) -> Option<Self> {
        let value: [u8; LENGTH] = value.try_into().ok()?;
        let hex = |place: std::ops::Range<usize>| {
            value[place].iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let set = |place: std::ops::Range<usize>| value[place].iter().any(|byte| *byte != b'0');
        let valid = value.starts_with(b"00-")
            && value[35] == b'-'
            && value[52] == b'-'
            && hex(TRACE)
            && hex(PARENT)
            && hex(FLAGS)
            && set(TRACE)
            && set(PARENT);
        valid.then_some(Self(value))
    }

    /// That of a span of this server.
    pub(crate) fn of_span(span: &TraceContext) -> Self {
        let mut value = *b"00-00000000000000000000000000000000-0000000000000000-01";
        value[3..19].copy_from_slice(&hex((span.trace >> 64) as u64));
        value[19..35].copy_from_slice(&hex(span.trace as u64));
        value[PARENT].copy_from_slice(&hex(span.span));
        Self(value)
    }

    /// The field's value.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The trace's id, 32 hexadecimal digits.
    pub(crate) fn trace_id(&self) -> &[u8] {
        &self.0[TRACE]
    }
}

/// A worker's source of new traces.
#[derive(Debug)]
pub(crate) struct Traces {
    prefix: u64,
    state: Cell<u64>,
}

impl Traces {
    /// A source of its own randomness.
    pub(crate) fn new() -> Self {
        Self { prefix: rand::random(), state: Cell::new(rand::random()) }
    }

    /// A new trace, not sampled: that is for the servers to decide.
    pub(crate) fn begin(&self) -> TraceParent {
        let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
        value[3..19].copy_from_slice(&hex(self.prefix ^ self.next()));
        value[19..35].copy_from_slice(&hex(self.next()));
        value[PARENT].copy_from_slice(&hex(self.next()));
        TraceParent(value)
    }

    /// SplitMix64: ids have to differ, nobody has to be kept from guessing them. Never zero.
    fn next(&self) -> u64 {
        let state = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(state);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(values: &[&str]) -> Option<TraceParent> {
        let mut fields = Fields::default();
        for value in values {
            fields.push(Name::TraceParent, b"traceparent", value.as_bytes());
        }
        TraceParent::of(&fields)
    }

    #[test]
    fn a_valid_one() {
        let parent = of(&[VALID]).unwrap();
        assert_eq!((parent.as_bytes(), parent.trace_id()), (VALID.as_bytes(), &VALID.as_bytes()[3..35]));
    }

    #[test]
    fn invalid_ones() {
        for value in [
            "",
            "00",
            &VALID.to_uppercase(),
            &VALID.replacen("00-", "01-", 1),
            &VALID.replacen("00-", "ff-", 1),
            &VALID.replace('-', "_"),
            &format!("{VALID}-"),
            &format!("{VALID}-00"),
            &format!(" {VALID}"),
            &VALID[..54],
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
        ] {
            assert_eq!(of(&[value]), None, "{value}");
        }
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[VALID, VALID]), None, "two of them");
    }

    #[test]
    fn new_ones_are_valid_and_differ_within_and_between_workers() {
        let workers = [Traces::new(), Traces::new()];
        let made: Vec<_> = (0..2000).map(|number| workers[number % 2].begin()).collect();
        assert!(made.iter().all(|it| TraceParent::parse(it.as_bytes()) == Some(*it)), "{made:?}");
        let ids: HashSet<_> = made.iter().map(TraceParent::trace_id).collect();
        assert_eq!(ids.len(), 2000);
        assert!(made.iter().all(|it| it.as_bytes().ends_with(b"-00")), "not sampled");
    }

    proptest! {
        #[test]
        fn what_is_taken_is_of_the_form(value in "[0-9a-fA-Fg-]{50,60}|(00|01)-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}") {
            let form = regex::Regex::new("^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$").unwrap();
            let zero = value.contains("-0000000000000000-") || value.contains(&"0".repeat(32));
            prop_assert_eq!(of(&[&value]).is_some(), form.is_match(&value) && !zero);
        }
    }
}
