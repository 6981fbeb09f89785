//! What this server had heard of a session when it asked the hub.

/// What this server had heard when a question to the hub was first asked: what the hub says after that makes the answer old.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// The link's epoch.
    pub(super) epoch: u64,
    /// How often the hub had said that the session moved.
    pub(super) moves: u64,
}
