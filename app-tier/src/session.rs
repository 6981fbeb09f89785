//! Sessions: the copies in this server's memory, and their way to and from the hub (docs/sessions.md).
//!
//! A [`Visit`] is one request's view of one session. It finds an `Entry` in [`Sessions`], which `open` makes current, the app
//! changes, and `save` brings to the hub before the answer leaves. The rules of versions and conflicts are in `replica`, which
//! does no I/O; what this server may believe without asking is in [`Link`].

mod cookie;
mod entry;
mod heard;
mod held;
mod hub;
mod inquiry;
mod link;
mod open;
mod replica;
mod returned;
mod save;
mod store;
mod touch;
mod visit;

pub(crate) use hub::SessionHub;
pub(crate) use link::{Link, Witness};
pub use store::SessionStats;
pub(crate) use store::{MEMORY_MAX, Sessions, SessionsConfig};
pub(crate) use visit::{Finished, Visit};

#[cfg(test)]
pub(crate) mod tests;

/// Why a session could not be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SessionError {
    /// Another server, or another request that ended the session, changed what this request had seen or changed.
    #[error("the session was changed elsewhere since this request saw it")]
    Stale,
    /// The hub did not answer, and what is in memory may not be used, or nothing is there.
    #[error("the hub can't be reached: {0}")]
    HubLost(String),
    /// The hub will not have this session.
    #[error("the hub refused the session: {0}")]
    Refused(String),
    /// The hub, or this server, has no memory for it. A visitor whose session would be new is served without one.
    #[error("there is no memory for this session (session-memory-max of the hub, session-max here)")]
    NoRoom,
    /// Memory is full of sessions that have changes that the hub does not have yet, or are in use.
    #[error(
        "no room for another session: {held} are held (session-max {max}) with {bytes} bytes (at most {max_bytes}), and those have \
         unsaved changes or are in use"
    )]
    Full {
        /// Sessions in memory.
        held: usize,
        /// The limit.
        max: usize,
        /// Bytes of their attributes.
        bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// An attribute or the session is too large.
    #[error("{what} has {size} bytes; at most {max}")]
    TooLarge {
        /// What.
        what: String,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The request has another session.
    #[error("the request has another session than the one that was named")]
    NotThisRequest,
}

impl SessionError {
    /// Whether the same request, sent again at once, may succeed.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(self, Self::Stale)
    }
}
