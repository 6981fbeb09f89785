//! From a folder to packs that a repository takes.

use crate::{ImportError, pack, scan};
use repository::Repository;
use std::{collections::HashSet, fs, io::Read, path::Path};
use tokio::sync::mpsc;

/// Packs what `repository` lacks of `source`, and stores it there.
fn import(source: &Path, repository: &Repository) -> Result<repository::ObjectId, ImportError> {
    let scan = scan(source)?;
    let missing = repository.missing(&scan.ids().collect::<Vec<_>>()).into_iter().collect();
    let (packs, mut next) = mpsc::channel(1);
    std::thread::scope(|scope| {
        let packing = scope.spawn({
            let (scan, missing) = (&scan, &missing);
            move || pack(source, scan, missing, &packs)
        });
        while let Some(mut chunks) = next.blocking_recv() {
            let mut pack = Vec::new();
            while let Some(chunk) = chunks.blocking_recv() {
                pack.extend_from_slice(&chunk);
            }
            repository.store_pack(&pack[..]).unwrap();
        }
        packing.join().unwrap()
    })?;
    Ok(scan.tree)
}

#[test]
fn a_folder_becomes_a_tree_and_only_what_is_new_is_packed() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("shop");
    fs::create_dir_all(source.join("css")).unwrap();
    fs::write(source.join("app.yaml"), "name: shop\nversion: 1.2\n").unwrap();
    fs::write(source.join("css/style.css"), "a {}").unwrap();
    let repository = Repository::open(&folder.path().join("repository.git")).unwrap();
    let first = import(&source, &repository).unwrap();
    let mut style = String::new();
    repository.blob(first, "css/style.css").unwrap().read_to_string(&mut style).unwrap();
    assert_eq!(style, "a {}");

    fs::write(source.join("css/style.css"), "b {}").unwrap();
    let found = scan(&source).unwrap();
    assert_eq!(
        (found.names().name.as_deref(), found.names().version.as_deref()),
        (Some("shop"), Some("1.2"))
    );
    let missing = repository.missing(&found.ids().collect::<Vec<_>>());
    assert_eq!(missing.len(), 3, "the file and the two trees above it: {missing:?}");
    assert!(found.bytes_of(&missing.into_iter().collect()) > 4);
    assert_ne!(import(&source, &repository).unwrap(), first);
}

#[test]
fn what_changes_in_between_and_packs_that_nobody_takes_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("index.html");
    fs::write(&file, "first").unwrap();
    let found = scan(folder.path()).unwrap();
    let wanted: HashSet<_> = found.ids().collect();
    let (packs, next) = mpsc::channel(4);
    drop(next);
    assert!(matches!(pack(folder.path(), &found, &wanted, &packs), Err(ImportError::Untaken)));
    fs::write(folder.path().join("more.html"), "more").unwrap();
    let (packs, _next) = mpsc::channel(4);
    let ended = pack(folder.path(), &found, &wanted, &packs);
    assert!(ended.unwrap_err().to_string().contains("changed while it was read"));
}
