//! SHA-1 that notices collision attacks, as Git's does (sha1collisiondetection).

use crate::{Kind, ObjectId};
use std::io::{self, Write};

/// The content was made to have another content's SHA-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the content was made to collide with another one's SHA-1")]
pub(crate) struct Collision;

/// A running SHA-1.
#[derive(Debug)]
pub(crate) struct Hasher(sha1dc::Hasher);

impl Hasher {
    pub(crate) fn new() -> Self {
        Self(sha1dc::Hasher::new())
    }

    /// With an object's header in it.
    pub(crate) fn of_object(kind: Kind, size: u64) -> Self {
        let mut hasher = Self::new();
        hasher.update(format!("{kind} {size}\0").as_bytes());
        hasher
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Result<ObjectId, Collision> {
        let digest = self.0.finalize().map_err(|_| Collision)?;
        let bytes: [u8; 20] = digest.into();
        Ok(ObjectId::from(bytes))
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<Collision> for io::Error {
    fn from(collision: Collision) -> Self {
        Self::new(io::ErrorKind::InvalidData, collision)
    }
}
