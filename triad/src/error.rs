//! Why a hub server does not start, or has failed.

use common::id::ServerId;

/// Why a hub server can't start.
#[derive(Debug, thiserror::Error)]
pub enum TriadError {
    /// This server is not in the list, or the list is empty or too long.
    #[error(
        "server {me} can't be a hub server: the hub has {servers:?}, expected one to three with {me} among them"
    )]
    NotInHub {
        /// This server.
        me: ServerId,
        /// The hub's servers.
        servers: Vec<ServerId>,
    },
    /// A folder can't be made.
    #[error(transparent)]
    Io(std::io::Error),
    /// What is on disk can't be used.
    #[error("{0}")]
    Storage(String),
    /// The Raft library refuses.
    #[error("the hub's Raft can't start: {0}")]
    Raft(String),
    /// The storage, or Raft itself, has failed while running.
    #[error("the hub has failed: {0}")]
    Failed(String),
}
