//! The library's own conformance suite, on the real storage in temporary folders.

use super::{
    Types,
    log::{Log, LogAge, SEGMENT_BYTES},
    machine::{Machine, View},
    snapshots::Snapshots,
};
use crate::{disk::Folder, feed::Feed};
use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use std::sync::Arc;

struct Builder;

impl StoreBuilder<Types, Log, Machine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, Log, Machine), StorageError<Types>> {
        let folder = tempfile::tempdir().unwrap();
        let disk = |name: &str| Arc::new(Folder::open(&folder.path().join(name)).unwrap());
        let (log, age) = Log::open(disk("log"), SEGMENT_BYTES).unwrap();
        assert_eq!(age, LogAge::New);
        let snapshots = Snapshots::open(disk("snapshots")).unwrap();
        let machine = Machine::new(View::default(), Arc::new(Feed::default()), snapshots);
        Ok((folder, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_storage_passes_the_librarys_suite() {
    Suite::test_all(Builder).await.unwrap();
}
