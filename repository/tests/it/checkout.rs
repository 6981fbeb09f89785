//! Trees as folders.

use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Every path below a folder with its mode and its content.
pub(crate) fn listing(folder: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        for file in fs::read_dir(next).unwrap().flatten() {
            let (path, kind) = (file.path(), fs::symlink_metadata(file.path()).unwrap());
            let content = match () {
                () if kind.is_dir() => Vec::new(),
                () if kind.is_symlink() => {
                    fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
                }
                () => fs::read(&path).unwrap(),
            };
            if kind.is_dir() {
                waiting.push(path.clone());
            }
            let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
            found.insert(name, (kind.permissions().mode(), content));
        }
    }
    found
}

/// A tree of a file, a program, a link and files in folders.
pub(crate) fn tree(repository: &Repository, more: usize) -> ObjectId {
    let mut builder = TreeBuilder::new();
    let mut objects = vec![(Kind::Blob, b"#!/bin/sh\n".to_vec()), (Kind::Blob, b"bin/run".to_vec())];
    let id = |content: &[u8]| blob_id(content.len() as u64, content).unwrap();
    builder.file("bin/run", true, id(b"#!/bin/sh\n"));
    builder.link("run", id(b"bin/run"));
    for number in 0..more {
        let content = format!("file {number}\n").into_bytes();
        builder.file(&format!("d{}/f{number}", number % 5), false, id(&content));
        objects.push((Kind::Blob, content));
    }
    let (root, trees) = builder.build().unwrap();
    objects.extend(trees.into_iter().map(|(_, content)| (Kind::Tree, content)));
    repository.store_pack(&pack(&objects)[..]).unwrap();
    root
}

#[test]
fn files_programs_links_and_folders() {
    let (folder, repository) = fresh();
    for more in [3, 200] {
        let root = tree(&repository, more);
        let to = folder.path().join(format!("version-{more}"));
        let done = repository.checkout(root, &to).unwrap();
        assert_eq!(done.files, more as u64 + 2);
        let found = listing(&to);
        assert_eq!(found["bin"].0, 0o40755);
        assert_eq!(found["bin/run"], (0o100755, b"#!/bin/sh\n".to_vec()));
        assert_eq!(found["run"].1, b"bin/run");
        assert_eq!(found["d1/f1"], (0o100644, b"file 1\n".to_vec()));
        assert_eq!(
            found
                .values()
                .map(|(mode, content)| if *mode == 0o40755 { 0 } else { content.len() as u64 })
                .sum::<u64>(),
            done.bytes
        );
        assert!(
            repository.checkout(root, &to).unwrap_err().to_string().contains("check out to"),
            "it is there"
        );
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left beside");
}

#[test]
fn what_a_dead_process_left_is_replaced() {
    let (folder, repository) = fresh();
    let root = tree(&repository, 3);
    let left = folder.path().join(".version.partial");
    fs::create_dir(&left).unwrap();
    std::os::unix::fs::symlink("/", left.join("bin")).unwrap();
    repository.checkout(root, &folder.path().join("version")).unwrap();
    assert!(!left.exists());
}

#[test]
fn a_large_file_streams() {
    let (folder, repository) = fresh();
    let content = vec![7; 40 << 20];
    let id = deploy(&repository, &[("large", &content)], &[]);
    let to = folder.path().join("out");
    repository.checkout(repository.commit_info(id).unwrap().tree, &to).unwrap();
    assert!(fs::read(to.join("large")).unwrap() == content);
}

#[test]
fn damage_is_found_and_nothing_is_left() {
    let (folder, repository) = fresh();
    let content: Vec<u8> = (0..5000u32).flat_map(|it| it.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let id = deploy(&repository, &[("a", b"small"), ("large", &content)], &[]);
    let tree = repository.commit_info(id).unwrap().tree;
    let blob = blob_id(content.len() as u64, &content[..]).unwrap();
    damage(&repository, blob);
    let to = folder.path().join("out");
    let error = repository.checkout(tree, &to).unwrap_err().to_string();
    assert!(error.contains(&format!("object {blob} is damaged")), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let mut out = Vec::new();
    assert!(repository.pack(&[id], &[], &mut out).unwrap_err().to_string().contains("is damaged"));
    // A second copy serves, wherever it is.
    repository.store_pack(&pack(&[(Kind::Blob, content.clone())])[..]).unwrap();
    repository.checkout(tree, &to).unwrap();
    assert!(fs::read(to.join("large")).unwrap() == content);
}
