//! The key of a session in the state.

use proto::hub::v1::SessionKey;
use std::sync::Arc;

/// App and id as one string; neither holds a NUL (checked where requests come in).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key(Arc<str>);

impl Key {
    pub(super) fn new(key: &SessionKey) -> Self {
        let mut joined = String::with_capacity(key.app.len() + 1 + key.id.len());
        joined.push_str(&key.app);
        joined.push('\0');
        joined.push_str(&key.id);
        Self(joined.into())
    }

    /// The app's name.
    pub(super) fn app(&self) -> &str {
        self.0.split_once('\0').map_or("", |(app, _)| app)
    }

    /// Bytes of both names.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn parts(&self) -> SessionKey {
        let (app, id) = self.0.split_once('\0').unwrap_or_default();
        SessionKey { app: app.to_owned(), id: id.to_owned() }
    }
}
