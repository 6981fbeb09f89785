//! What a watcher may want to hear of.

use bytes::Bytes;
use proto::hub::v1::{App, CacheKey, Lease, LeaseFree, Member, Purge, Secret, SessionKey, Token};
use std::sync::Arc;

/// What a watcher may want to hear of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// A member as it is now.
    Member(Member),
    /// An app as it is now.
    App(Arc<App>),
    /// The app of this tag is gone.
    AppGone(String),
    /// A token as it is now.
    Token(Token),
    /// The token with this hash, which had ended, is forgotten.
    TokenForgotten(Bytes),
    /// Web-tiers are to forget this.
    Purge(Purge),
    /// A secret as it is now.
    Secret(Secret),
    /// The secret of this name is gone.
    SecretGone(String),
    /// A lease was granted.
    Lease(Arc<Lease>),
    /// Nobody holds it any more.
    LeaseFree(LeaseFree),
    /// A cached value is another one, or gone.
    Cached(CacheKey),
    /// So are all of this cache.
    CacheCleared(String),
    /// Messages, or replies, are handed to this server.
    Delivered(Arc<str>),
    /// `former`'s copy of a session is stale.
    SessionMoved {
        /// Who held the session.
        former: String,
        /// Which session.
        key: SessionKey,
        /// Who holds it now; empty when it is gone.
        owner: String,
    },
}
