//! Hop-by-hop headers (RFC 9110 §7.6.1): those that `Connection` names, and those that are known to be.

use http::{
    HeaderMap, HeaderName,
    header::{CONNECTION, EXPECT, TE, TRANSFER_ENCODING},
};

/// Which headers of a message are for this connection or not from where they say, found in one pass: to ask a map for a dozen
/// names that are not there costs more than to look at the few that are.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) connection: bool,
    pub(crate) te: bool,
    pub(crate) transfer_encoding: bool,
    /// Only looked for in a client's message.
    pub(crate) expect: bool,
    /// The rest of the hop-by-hop headers, and those that only a proxy of ours may set: removed unseen.
    remove: Vec<HeaderName>,
}

/// Whose message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// An untrusted client.
    Client,
    /// A server of ours.
    Server,
}

impl Found {
    /// Looks at all names.
    pub(crate) fn new(headers: &HeaderMap, from: From) -> Self {
        let mut found = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "connection" => found.connection = true,
                "te" => found.te = true,
                "transfer-encoding" => found.transfer_encoding = true,
                "expect" if from == From::Client => found.expect = true,
                "keep-alive"
                | "proxy-connection"
                | "upgrade"
                | "proxy-authorization"
                | "proxy-authenticate"
                | "proxy-authentication-info"
                | "http2-settings" => {
                    found.remove.push(name.clone());
                }
                other if from.forbids(other) => found.remove.push(name.clone()),
                _ => {}
            }
        }
        found
    }

    /// Removes what was found, and first of all what `Connection` names.
    pub(crate) fn remove(self, headers: &mut HeaderMap) {
        if self.connection {
            for name in nominated(headers) {
                headers.remove(name);
            }
            headers.remove(CONNECTION);
        }
        if self.te {
            headers.remove(TE);
        }
        if self.transfer_encoding {
            headers.remove(TRANSFER_ENCODING);
        }
        if self.expect {
            headers.remove(EXPECT);
        }
        for name in self.remove {
            headers.remove(name);
        }
    }
}

impl From {
    /// Headers that the other side must not set: on the cluster port they are believed.
    fn forbids(self, name: &str) -> bool {
        match self {
            Self::Client => {
                name.starts_with("x-forwarded-")
                    || name.starts_with("copal-")
                    || matches!(name, "forwarded" | "x-real-ip" | "x-session-id")
            }
            Self::Server => name.starts_with("copal-"),
        }
    }
}

/// The headers that `Connection` names, but for those that frame and address the message, which it can't take away, and the
/// common words that are no headers.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let mut names = Vec::new();
    for line in headers.get_all(CONNECTION) {
        if line.as_bytes().eq_ignore_ascii_case(b"keep-alive")
            || line.as_bytes().eq_ignore_ascii_case(b"close")
        {
            continue;
        }
        for token in line.as_bytes().split(|byte| *byte == b',') {
            let Ok(name) = HeaderName::from_bytes(token.trim_ascii()) else { continue };
            if !matches!(name.as_str(), "host" | "content-length" | "transfer-encoding" | "close" | "te") {
                names.push(name);
            }
        }
    }
    names
}
