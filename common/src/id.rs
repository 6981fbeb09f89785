//! Names of the things in the configuration file: servers, clusters and a server's index in its cluster.

use std::{borrow::Borrow, fmt, sync::Arc};

/// The longest id of a server or cluster, in bytes.
pub const ID_MAX: usize = 64;

/// Whether a text may be the id of a server or cluster: 1 to [`ID_MAX`] of `A-Z a-z 0-9 . _ -`, not dots alone, as those are no folders
/// of `data-dir`. Ids are parts of paths, metrics, logs and handshakes.
pub fn is_id(text: &str) -> bool {
    let characters = text.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it));
    (1..=ID_MAX).contains(&text.len()) && characters && !text.bytes().all(|it| it == b'.')
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as the file has it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(name.into())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// The `id` of a server, unique in the whole file.
    ServerId
}

name! {
    /// The `id` of a cluster, unique in the file.
    ClusterId
}

/// A server's place in its cluster's `servers` list, from 0. It is the first characters of every session id that the
/// server makes (see [`crate::session_id`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerIndex(pub u16);
