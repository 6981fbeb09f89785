//! From a folder to packs that a repository takes.

use crate::{ImportError, Scan, pack, scan};
use repository::{NewIndex, ObjectId, Repository};
use std::{
    collections::HashSet,
    fs,
    io::Read,
    path::Path,
    time::{Duration, SystemTime},
};
use tokio::sync::mpsc;

/// Every object, each once.
fn all(scan: &Scan) -> Vec<ObjectId> {
    let trees = scan.trees();
    [scan.blobs_in(&trees.iter().copied().collect()), trees].concat()
}

/// Packs what `repository` lacks of `source`, and stores it there.
fn import(source: &Path, repository: &Repository) -> Result<ObjectId, ImportError> {
    let scan = scan(source, None)?;
    let missing = repository.missing(&all(&scan)).into_iter().collect();
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
    let found = scan(&source, None).unwrap();
    assert_eq!(
        (found.names().name.as_deref(), found.names().version.as_deref()),
        (Some("shop"), Some("1.2"))
    );
    let missing = repository.missing(&all(&found));
    assert_eq!(missing.len(), 3, "the file and the two trees above it: {missing:?}");
    assert!(found.bytes_of(&missing.into_iter().collect()) > 4);
    assert_ne!(import(&source, &repository).unwrap(), first);
}

#[test]
fn what_changes_in_between_and_packs_that_nobody_takes_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("index.html");
    fs::write(&file, "first").unwrap();
    let found = scan(folder.path(), None).unwrap();
    let wanted: HashSet<_> = all(&found).into_iter().collect();
    let (packs, next) = mpsc::channel(4);
    drop(next);
    assert!(matches!(pack(folder.path(), &found, &wanted, &packs), Err(ImportError::Untaken)));
    fs::rename(&file, folder.path().join("renamed")).unwrap();
    fs::write(&file, "longer").unwrap();
    fs::write(folder.path().join("a.html"), "before it").unwrap();
    let (packs, _next) = mpsc::channel(4);
    let ended = pack(folder.path(), &found, &wanted, &packs);
    assert!(ended.unwrap_err().to_string().contains("changed while it was read"));
}

#[test]
fn files_that_nobody_has_touched_are_not_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (source, index) = (folder.path().join("site"), folder.path().join("index"));
    fs::create_dir(&source).unwrap();
    for name in ["a", "b", "app.yaml"] {
        fs::write(source.join(name), format!("name: {name}")).unwrap();
    }
    let plain = scan(&source, None).unwrap();
    assert_eq!(scan(&source, Some(&index)).unwrap().tree, plain.tree);
    // A file is not believed that may have changed after it was read, in the same instant.
    let later = || SystemTime::now() + Duration::from_secs(5);
    fs::File::open(&index).unwrap().set_modified(later()).unwrap();
    let again = scan(&source, Some(&index)).unwrap();
    assert_eq!((again.tree, again.names().name.as_deref()), (plain.tree, Some("app.yaml")));

    // An index that says of a file what is not so shows who was asked.
    let mut false_index = NewIndex::default();
    let other = repository::blob_id(5, &b"other"[..]).unwrap();
    false_index.add(b"a".to_vec(), other, &fs::symlink_metadata(source.join("a")).unwrap());
    false_index.write(&index).unwrap();
    fs::File::open(&index).unwrap().set_modified(later()).unwrap();
    assert!(all(&scan(&source, Some(&index)).unwrap()).contains(&other));

    fs::write(source.join("a"), "touched").unwrap();
    let touched = scan(&source, Some(&index)).unwrap();
    assert_eq!(touched.tree, scan(&source, None).unwrap().tree);
}
