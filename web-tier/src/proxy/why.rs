//! Why a request failed, in words for operators.

use super::{
    Reply,
    forward::{NOT_PROCESSED, SHORT, STOPPED},
    local::{Local, Why},
};
use crate::{error::ProxyError, http1::ResponseHead};
use http::StatusCode;
use std::borrow::Cow;

/// Why a request failed; `None` if it is of the client's doing.
pub(crate) fn why(reply: &Reply) -> Option<Cow<'static, str>> {
    match reply {
        Reply::Server(answer) => Some(Cow::Borrowed(said(&answer.head))),
        Reply::Local(local) => why_here(local),
    }
}

/// Why this web tier answers so itself.
pub(crate) fn why_here(local: &Local) -> Option<Cow<'static, str>> {
    match &local.why {
        Why::Refused(cause) => is_ours(*cause).then(|| Cow::Owned(cause.to_string())),
        Why::Unreadable => Some(Cow::Borrowed("a file can't be read")),
        Why::Ruled => Some(Cow::Borrowed("a rule says so")),
        Why::File => Some(Cow::Borrowed("the folder of files says so")),
        Why::Server(said) => Some(Cow::Borrowed(*said)),
        Why::Cached => Some(Cow::Borrowed("the server answered so, and the answer is kept")),
    }
}

/// Why this web tier answers with an error, for the access log; of what clients have done wrong too.
pub(crate) fn of_local(local: &Local) -> Option<Cow<'static, str>> {
    match &local.why {
        Why::Refused(cause) => Some(Cow::Owned(cause.to_string())),
        // That it is not there, mostly, which is no more than the status says.
        Why::Cached if local.head.status.is_client_error() => None,
        Why::File if local.head.status == StatusCode::NOT_FOUND => {
            Some(Cow::Borrowed("there is no such file"))
        }
        Why::Ruled if local.head.status == StatusCode::TOO_MANY_REQUESTS => {
            Some(Cow::Borrowed("a limit of the rules is reached"))
        }
        _ => why_here(local),
    }
}

/// The same of a server's error; what it tells clients of their own faults is between them.
pub(crate) fn of_server(head: &ResponseHead) -> Option<Cow<'static, str>> {
    head.status.is_server_error().then(|| Cow::Borrowed(said(head)))
}

/// What a server says of its own failure.
pub(super) fn said(head: &ResponseHead) -> &'static str {
    match head.fields.internal(NOT_PROCESSED) {
        Some(SHORT) => "the server is short of resources",
        Some(STOPPED) => "the app is stopped",
        Some(_) => "the server can't serve requests now",
        None => "the server answers so",
    }
}

/// Whether a failure says something of this cluster: anybody can speak a version of HTTP that nobody knows.
fn is_ours(cause: ProxyError) -> bool {
    !matches!(cause, ProxyError::Version | ProxyError::MethodTooLong)
}
