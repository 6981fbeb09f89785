//! What `traceparent` says.

use std::fmt;

/// `00-` trace id `-` parent id `-` flags.
const LENGTH: usize = 55;

/// The flag of a trace that is recorded (Trace Context §3.2.2.5.1).
const SAMPLED: u8 = 1;

/// What a web-tier adds to a request that it records, for the app tier: `traceparent` alone could be the client's.
pub const RECORDED: &str = "copal-trace-recorded";

/// A place in a trace: whoever gets it is a child of `span`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace's id; not 0.
    pub trace: u128,
    /// The span's id; not 0.
    pub span: u64,
    /// The trace is recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// A new trace.
    pub fn begin(sampled: bool) -> Self {
        Self { trace: rand::random::<u128>().max(1), span: new_span(), sampled }
    }

    /// Reads version 00 strictly (Trace Context §3.2); `None`: it is no such value.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let fits =
            value.len() == LENGTH && value.starts_with(b"00-") && value[35] == b'-' && value[52] == b'-';
        let value = std::str::from_utf8(value).ok().filter(|_| fits)?;
        let hex = |from: usize, to: usize| {
            let digits = value.get(from..to)?;
            let all = digits.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
            u128::from_str_radix(digits, 16).ok().filter(|_| all)
        };
        let (trace, span, flags) = (hex(3, 35)?, u64::try_from(hex(36, 52)?).ok()?, hex(53, 55)?);
        let sampled = flags & u128::from(SAMPLED) != 0;
        (trace != 0 && span != 0).then_some(Self { trace, span, sampled })
    }

    /// A further span of the same trace.
    #[must_use]
    pub fn next(&self) -> Self {
        Self { span: new_span(), ..*self }
    }
}

/// As `traceparent` has it.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = if self.sampled { SAMPLED } else { 0 };
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
    }
}

fn new_span() -> u64 {
    rand::random::<u64>().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for sampled in [true, false] {
            let begun = TraceContext::begin(sampled);
            assert_eq!(TraceContext::parse(begun.to_string().as_bytes()), Some(begun));
            let next = begun.next();
            assert!(next.trace == begun.trace && next.span != begun.span && next.sampled == sampled);
        }
        let given = TraceContext::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03").unwrap();
        assert_eq!(given.to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    }

    #[test]
    fn nothing_else_is_read() {
        for value in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
            "00-4bf92f3577b34da6a3ce929d0e0e47\u{fc}-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(value.as_bytes()), None, "{value}");
        }
    }
}
