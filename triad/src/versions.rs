//! Which commands the hub's servers can read: what one of them could not is not written. Each says it in its answer to `Hello`.

use crate::command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the servers have said.
#[derive(Debug)]
pub(crate) struct Versions(Mutex<Vec<Option<u32>>>);

/// A server that may not be able to read a version of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lacking {
    /// Which one.
    pub(crate) node: u64,
    /// The newest version that it reads; `None` when it has not said yet.
    pub(crate) reads: Option<u32>,
}

impl Versions {
    /// Of a hub of `servers`; `me` is this one, which reads [`command::VERSION`].
    pub(crate) fn new(servers: usize, me: u64) -> Self {
        let said = |node| (node == me).then_some(command::VERSION);
        Self(Mutex::new((0..servers as u64).map(said).collect()))
    }

    /// A server says which commands it reads; 0 is what those say that are older than the question.
    pub(crate) fn note(&self, node: u64, reads: u32) {
        let mut all = self.lock();
        if let Some(said) = usize::try_from(node).ok().and_then(|it| all.get_mut(it)) {
            *said = Some(reads.max(1));
        }
    }

    /// The first server that has not said that it reads `version`.
    pub(crate) fn lacking(&self, version: u32) -> Option<Lacking> {
        let said = self.lock();
        let mut servers = (0..).zip(said.iter().copied());
        let found = servers.find(|(_, reads)| reads.is_none_or(|it| it < version));
        found.map(|(node, reads)| Lacking { node, reads })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<u32>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_servers_must_have_said_so() {
        let versions = Versions::new(3, 1);
        assert_eq!(versions.lacking(2), Some(Lacking { node: 0, reads: None }));
        versions.note(0, 2);
        versions.note(2, 0);
        assert_eq!(versions.lacking(2), Some(Lacking { node: 2, reads: Some(1) }));
        assert_eq!(versions.lacking(1), None);
        versions.note(2, 3);
        assert_eq!(versions.lacking(2), None);
        versions.note(7, 1);
        assert_eq!(Versions::new(1, 0).lacking(command::VERSION), None);
    }
}
