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
    /// What only a proxy may say of a client: `X-Forwarded-*`, `Forwarded`, `X-Real-IP`; and what could be taken for
    /// `X-Request-Id`.
    Forwarded,
    /// `X-Request-Id`.
    RequestId,
    /// Between Copal's own servers, and between them and applications: `Copal-*`, `X-Copal-*`, `X-Session-Id`, `X-Session-Url`.
    Internal,
    Other,
}

/// The longest known name, and the longest known prefix: others need no look.
const LONGEST: usize = 25;

impl Name {
    /// Of a name in any case.
    pub(crate) fn of(name: &[u8]) -> Self {
        // Most that are not known are told by their first letter.
        if !matches!(
            name.first().map(u8::to_ascii_lowercase),
            Some(b'c'..=b'f' | b'h' | b'k' | b'p' | b't'..=b'v' | b'x')
        ) {
            return Self::Other;
        }
        let mut lower = [0; LONGEST];
        let length = name.len().min(LONGEST);
        for (lower, byte) in lower.iter_mut().zip(name) {
            *lower = byte.to_ascii_lowercase();
        }
        let lower = &mut lower[..length];
        match lower[..].first() {
            Some(b'x') => Self::of_x(lower, name.len() == length),
            Some(b'c') if lower.starts_with(b"copal") && lower.get(5).is_some_and(is_separator) => {
                Self::Internal
            }
            _ if name.len() == length => Self::of_lower(lower),
            _ => Self::Other,
        }
    }

    /// Whether a name that is not one of framing could be taken for it by a server that drops or mixes up what is no letter or digit (CGI
    /// and its kin do).
    pub(crate) fn resembles_framing(name: &[u8]) -> bool {
        if name.len() < b"contentlength".len() {
            return false;
        }
        let plain = |names: &[u8]| {
            let mut letters = name.iter().filter(|byte| !is_separator(byte));
            names.iter().all(|expected| letters.next().is_some_and(|it| it.eq_ignore_ascii_case(expected)))
                && letters.next().is_none()
        };
        match name.first() {
            Some(b'c' | b'C' | b't' | b'T') => plain(b"contentlength") || plain(b"transferencoding"),
            Some(first) if is_separator(first) => plain(b"contentlength") || plain(b"transferencoding"),
            _ => false,
        }
    }

    /// Whether a server could take one name for the other. CGI and its kin, WSGI and PHP among them, make variables of names: in one case, and
    /// of `-`, in some servers of all that is no letter or digit, a `_`.
    pub(crate) fn is_alike(one: &[u8], other: &[u8]) -> bool {
        let alike = |(one, other): (&u8, &u8)| {
            one.eq_ignore_ascii_case(other) || (is_separator(one) && is_separator(other))
        };
        one.len() == other.len() && one.iter().zip(other).all(alike)
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

    /// Of a name that begins with `x`, and is not to be taken for another ([`Name::is_alike`]): a client's `X_Forwarded_For` would stand
    /// beside ours, or in its place.
    fn of_x(lower: &mut [u8], whole: bool) -> Self {
        // All that is known begins with two letters; most names are told apart here.
        if !matches!(lower, [_, second, b'c' | b'f' | b'r' | b's', ..] if is_separator(second)) {
            return Self::Other;
        }
        let mut mixed = false;
        for byte in lower.iter_mut().filter(|byte| **byte != b'-' && is_separator(byte)) {
            (*byte, mixed) = (b'-', true);
        }
        match &*lower {
            // As an id it counts under its own name alone.
            b"x-request-id" if whole && mixed => Self::Forwarded,
            b"x-request-id" if whole => Self::RequestId,
            b"x-session-id" | b"x-session-url" if whole => Self::Internal,
            b"x-real-ip" if whole => Self::Forwarded,
            name if name.starts_with(b"x-forwarded-") => Self::Forwarded,
            name if name.starts_with(b"x-copal-") => Self::Internal,
            _ => Self::Other,
        }
    }
}

/// What is no letter or digit of a name.
fn is_separator(byte: &u8) -> bool {
    !byte.is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_could_take_for_ours_is_ours() {
        use Name::{ContentLength, Cookie, Forwarded, Internal, Other, RequestId};
        for (name, known) in [
            ("X-Forwarded-For", Forwarded),
            ("x_forwarded_for", Forwarded),
            ("X-FORWARDED_PROTO", Forwarded),
            ("X_Forwarded-A-Name-That-Is-Longer-Than-All", Forwarded),
            ("X_Real_IP", Forwarded),
            ("X.Forwarded.For", Forwarded),
            ("x~real!ip", Forwarded),
            ("X.Session.Id", Internal),
            ("copal.hub.age", Internal),
            ("X-Request-Id", RequestId),
            ("X_Request_Id", Forwarded),
            ("X-Request_Id", Forwarded),
            ("X_Session_Id", Internal),
            ("x-session-url", Internal),
            ("X_Copal_Request", Internal),
            ("X-Copal-A-Name-That-Is-Longer-Than-All", Internal),
            ("Copal_Session_Url", Internal),
            ("copal-", Internal),
            ("Content-Length", ContentLength),
            ("Cookie", Cookie),
            // Near, and nobody's.
            ("Content_Length", Other),
            ("X", Other),
            ("X-", Other),
            ("X-Forwarded", Other),
            ("X-Requested-With", Other),
            ("X-Request-Id-2", Other),
            ("X-Real-IP-And-A-Tail-Longer-Than-All", Other),
            ("X-Session-Identity", Other),
            ("XX-Forwarded-For", Other),
            ("Copal", Other),
            ("Copalx-A", Other),
            ("", Other),
        ] {
            assert_eq!(Name::of(name.as_bytes()), known, "{name}");
        }
    }
    #[test]
    fn names_of_framing_are_known_however_they_are_disguised() {
        for name in [
            "Content_Length",
            "content.length",
            "Transfer!Encoding",
            "_Content-Length",
            "~transfer-encoding",
            "ContentLength",
        ] {
            assert!(Name::resembles_framing(name.as_bytes()), "{name}");
        }
        for name in ["Content-Type", "Content-Length-2", "Transfer", "X-Content-Length", ""] {
            assert!(!Name::resembles_framing(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn names_that_become_the_same_variable_are_alike() {
        for name in ["X-User", "x-user", "X_User", "X_USER", "x.user", "X~User"] {
            assert!(Name::is_alike(name.as_bytes(), b"x-user"), "{name}");
        }
        for name in ["X-Use", "X-Users", "XX-User", "X-User-", "XaUser", ""] {
            assert!(!Name::is_alike(name.as_bytes(), b"x-user"), "{name}");
        }
    }
}
