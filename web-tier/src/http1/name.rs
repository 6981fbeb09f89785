//! The names of header fields that a proxy has to know.

/// A known name; all others are [`Other`](Self::Other).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Connection,
    ContentLength,
    Cookie,
    Date,
    Expect,
    Host,
    Te,
    Trailer,
    /// `traceparent`.
    TraceParent,
    /// `tracestate`.
    TraceState,
    TransferEncoding,
    Upgrade,
    Via,
    /// Hop-by-hop, and of no use to a proxy: `Keep-Alive`, `Proxy-Connection` and their like.
    HopByHop,
    /// What only a proxy may say of a client: `X-Forwarded-*`, `Forwarded`, `X-Real-IP`.
    Forwarded,
    /// `X-Request-Id`.
    RequestId,
    /// Between Copal's own servers: `Copal-*`, `X-Session-Id`.
    Internal,
    Other,
}

/// The longest known name, and the longest known prefix: others need no look.
const LONGEST: usize = 25;

impl Name {
    /// Of a name in any case.
    pub(crate) fn of(name: &[u8]) -> Self {
        let mut lower = [0; LONGEST];
        let length = name.len().min(LONGEST);
        for (lower, byte) in lower.iter_mut().zip(name) {
            *lower = byte.to_ascii_lowercase();
        }
        let lower = &lower[..length];
        match lower[..].first() {
            Some(b'x') => Self::of_x(lower, name.len() == length),
            Some(b'c') if lower.starts_with(b"copal-") => Self::Internal,
            Some(b'c' | b'd' | b'e' | b'f' | b'h' | b'k' | b'p' | b't' | b'u' | b'v')
                if name.len() == length =>
            {
                Self::of_lower(lower)
            }
            _ => Self::Other,
        }
    }

    /// Whether a name that is not one of framing could be taken for it by a server that drops or mixes up `-` and `_` (CGI and
    /// its kin do).
    pub(crate) fn resembles_framing(name: &[u8]) -> bool {
        let plain = |names: &[u8]| {
            let mut letters = name.iter().filter(|byte| !matches!(byte, b'-' | b'_'));
            names.iter().all(|expected| letters.next().is_some_and(|it| it.eq_ignore_ascii_case(expected)))
                && letters.next().is_none()
        };
        match name.first() {
            Some(b'c' | b'C' | b'-' | b'_' | b't' | b'T') => {
                plain(b"contentlength") || plain(b"transferencoding")
            }
            _ => false,
        }
    }

    fn of_lower(lower: &[u8]) -> Self {
        match lower {
            b"connection" => Self::Connection,
            b"content-length" => Self::ContentLength,
            b"cookie" => Self::Cookie,
            b"date" => Self::Date,
            b"expect" => Self::Expect,
            b"forwarded" => Self::Forwarded,
            b"host" => Self::Host,
            b"http2-settings"
            | b"keep-alive"
            | b"proxy-connection"
            | b"proxy-authorization"
            | b"proxy-authenticate"
            | b"proxy-authentication-info" => Self::HopByHop,
            b"te" => Self::Te,
            b"traceparent" => Self::TraceParent,
            b"tracestate" => Self::TraceState,
            b"trailer" => Self::Trailer,
            b"transfer-encoding" => Self::TransferEncoding,
            b"upgrade" => Self::Upgrade,
            b"via" => Self::Via,
            _ => Self::Other,
        }
    }

    fn of_x(lower: &[u8], whole: bool) -> Self {
        match lower {
            b"x-request-id" if whole => Self::RequestId,
            b"x-session-id" if whole => Self::Internal,
            b"x-real-ip" if whole => Self::Forwarded,
            _ if lower.starts_with(b"x-forwarded-") => Self::Forwarded,
            _ => Self::Other,
        }
    }
}
