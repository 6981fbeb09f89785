//! Sessions.

/// Why a request's session could not be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SessionError {
    /// Stale.
    #[error("the session was changed on another server")]
    Stale,
}

impl SessionError {
    /// Whether the same request, sent again at once, may succeed.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(self, Self::Stale)
    }
}
