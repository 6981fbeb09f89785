//! Which headers cross the app-tier, and which are its own.

use crate::error::NOT_PROCESSED;
use common::{hub_age, session_id};
use http::{HeaderMap, HeaderName, header};

/// Names the request's session to the app; a client's own is dropped.
pub(crate) const SESSION_ID: HeaderName = HeaderName::from_static("x-session-id");

/// What the app is to append to the paths of its links, if its user has sent no cookie and the rule takes sessions in URLs; a client's
/// own is dropped.
pub(crate) const SESSION_LINK: HeaderName = HeaderName::from_static("x-session-url");

/// Names the request in flight to the app API; a client's own is dropped.
pub(crate) const REQUEST: HeaderName = HeaderName::from_static("x-copal-request");

/// Says to the app that this server calls, and what for: no client can.
pub(crate) const DELIVERY: HeaderName = HeaderName::from_static("x-copal-delivery");

/// The name of what it is called for.
pub(crate) const SOURCE: HeaderName = HeaderName::from_static("x-copal-source");

/// A lease's name and token, `name=token`.
pub(crate) const FENCE: HeaderName = HeaderName::from_static("x-copal-fence");

/// What headers between this server and the app begin with.
const OWN: &str = "x-copal-";

/// Says what the URL names for a session, where a rule wants to know.
pub(crate) const SESSION_URL: HeaderName = HeaderName::from_static(session_id::SESSION_URL);

/// Says when a tier last heard from the hub.
const RECORDED: HeaderName = HeaderName::from_static(traces::RECORDED);
pub(crate) const HUB_AGE: HeaderName = HeaderName::from_static(hub_age::HUB_AGE);

/// Fields that `Connection` can't take away: they frame or route the message.
const KEPT: [HeaderName; 2] = [header::HOST, header::CONTENT_LENGTH];

/// Fields of one connection, not of the message (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Removes what a client can't know: it is this server's to say to an app.
pub(crate) fn without_own(headers: &mut HeaderMap) {
    if headers.keys().any(|name| name.as_str().starts_with(OWN)) {
        let own: Vec<HeaderName> =
            headers.keys().filter(|name| name.as_str().starts_with(OWN)).cloned().collect();
        own.iter().for_each(|name| drop(headers.remove(name)));
    }
}

/// Removes what belongs to one connection alone: first what `Connection` nominates, then the well-known fields; and what an
/// app must not claim.
pub(crate) fn end_to_end(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let nominated: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in nominated.iter().filter(|name| !KEPT.contains(name)) {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(NOT_PROCESSED);
    headers.remove(SESSION_URL);
    headers.remove(SESSION_LINK);
    headers.remove(HUB_AGE);
    headers.remove(RECORDED);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_nominated_fields_but_no_framing() {
        let mut headers = HeaderMap::new();
        headers.append("connection", "X-A, content-length".parse().unwrap());
        headers.append("connection", "host, close".parse().unwrap());
        for name in
            ["x-a", "x-b", "host", "content-length", "keep-alive", "upgrade", "te", "copal-not-processed"]
        {
            headers.insert(name, "1".parse().unwrap());
        }
        end_to_end(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "host", "x-b"]);
    }
}
