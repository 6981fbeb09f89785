//! A hub server whose disk is full, in words that go over the wire.

use repository::{Repository, RepositoryError};
use tonic::{Status, metadata::MetadataValue};

/// The metadata that tells it from other exhausted resources.
const KEY: &str = "copal-disk-full";

/// The server's own word: what it wanted to write, and what is left.
pub(crate) fn status(repository: &Repository, cause: &RepositoryError) -> Status {
    let free = repository.free_bytes().map_or_else(|_| "?".to_owned(), |free| free.to_string());
    let mut status = Status::resource_exhausted(format!(
        "{cause}; {free} bytes are free in {}",
        repository.path().display()
    ));
    status.metadata_mut().insert(KEY, MetadataValue::from_static("1"));
    status
}

/// A server that has less room than is needed, before anything was sent: both in bytes.
pub(crate) fn too_little(free: u64, needed: u64) -> Status {
    let megabytes = |bytes: u64| bytes / 1_000_000;
    let text = format!("{} MB free, {} MB needed", megabytes(free), megabytes(needed).saturating_add(1));
    let mut status = Status::resource_exhausted(text);
    status.metadata_mut().insert(KEY, MetadataValue::from_static("1"));
    status
}

/// Whether a server has said so.
pub(crate) fn is(status: &Status) -> bool {
    status.metadata().contains_key(KEY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_full_disk_is_told_with_what_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::open(&folder.path().join("repository.git")).unwrap();
        let full = |kind: io::ErrorKind| {
            let path = folder.path().join("tmp_pack");
            RepositoryError::Io { action: "write", path, cause: kind.into() }
        };
        let cause = full(io::ErrorKind::StorageFull);
        assert!(cause.is_disk_full() && !full(io::ErrorKind::PermissionDenied).is_disk_full());
        let told = status(&repository, &cause);
        assert!(is(&told) && !is(&Status::resource_exhausted("too large")));
        let words = ["can't write", "tmp_pack", "bytes are free in"];
        assert!(words.iter().all(|it| told.message().contains(it)), "{told:?}");
        let told = too_little(120_999_999, 499_000_000);
        assert!(is(&told) && told.message() == "120 MB free, 500 MB needed", "{told:?}");
    }
}
