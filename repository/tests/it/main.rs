//! The repository as a whole, beside real Git.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod checkout;
mod crash;
mod git;
mod hostile;
mod references;
mod stored;
mod upkeep;
mod walk;

use git::Git;
use repository::{Kind, NewCommit, ObjectId, PackWriter, Repository, Signature, TreeBuilder, blob_id};
use tempfile::TempDir;

/// A fresh repository in a folder of its own.
pub(crate) fn fresh() -> (TempDir, Repository) {
    let folder = tempfile::tempdir().unwrap();
    let repository = Repository::open(&folder.path().join("repository.git")).unwrap();
    (folder, repository)
}

/// A pack of whole objects.
pub(crate) fn pack(objects: &[(Kind, Vec<u8>)]) -> Vec<u8> {
    let mut writer = PackWriter::new(Vec::new(), objects.len().try_into().unwrap()).unwrap();
    for (kind, content) in objects {
        writer.add(*kind, content.len() as u64, &mut &content[..]).unwrap();
    }
    writer.finish().unwrap().1
}

/// A commit of files, and all its objects.
pub(crate) fn commit(files: &[(&str, &[u8])], parents: &[ObjectId]) -> (ObjectId, Vec<(Kind, Vec<u8>)>) {
    let mut builder = TreeBuilder::new();
    let mut objects = Vec::new();
    for (path, content) in files {
        builder.file(path, false, blob_id(content.len() as u64, *content).unwrap());
        objects.push((Kind::Blob, content.to_vec()));
    }
    objects.sort();
    objects.dedup();
    let (tree, trees) = builder.build().unwrap();
    objects.extend(trees.into_iter().map(|(_, content)| (Kind::Tree, content)));
    let (id, content) = commit_of(tree, parents);
    objects.push((Kind::Commit, content));
    (id, objects)
}

pub(crate) fn commit_of(tree: ObjectId, parents: &[ObjectId]) -> (ObjectId, Vec<u8>) {
    let author =
        Signature { name: "Ada".to_owned(), email: "ada@example.com".to_owned(), time_s: 1_700_000_000 };
    NewCommit { tree, parents: parents.to_vec(), author, message: "A change".to_owned() }.encode()
}

/// Stores a commit of files, and sets `refs/heads/main` to it.
pub(crate) fn deploy(repository: &Repository, files: &[(&str, &[u8])], parents: &[ObjectId]) -> ObjectId {
    let (id, objects) = commit(files, parents);
    let missing: Vec<_> = objects
        .into_iter()
        .filter(|(kind, content)| {
            let id = repository::objects::id(*kind, content).unwrap();
            !repository.missing(&[id]).is_empty()
        })
        .collect();
    repository.store_pack(&pack(&missing)[..]).unwrap();
    repository.set_reference("refs/heads/main", Some(id)).unwrap();
    id
}

/// Flips a bit in the middle of an object, in every pack that has it.
pub(crate) fn damage(repository: &Repository, id: ObjectId) {
    use std::os::unix::fs::{FileExt, PermissionsExt};
    for file in std::fs::read_dir(repository.path().join("objects/pack")).unwrap().flatten() {
        let path = file.path();
        if path.extension().unwrap() != "idx" {
            continue;
        }
        let index = std::fs::read(&path).unwrap();
        let word = |at: usize| u32::from_be_bytes(index[at..at + 4].try_into().unwrap());
        let count = word(8 + 255 * 4) as usize;
        let ids = 8 + 1024;
        let Some(line) = (0..count).find(|it| &index[ids + it * 20..ids + it * 20 + 20] == id.as_bytes())
        else {
            continue;
        };
        let offset = |line: usize| u64::from(word(ids + count * 24 + line * 4));
        let pack = path.with_extension("pack");
        let end = std::fs::metadata(&pack).unwrap().len() - 20;
        let next = (0..count).map(offset).filter(|it| *it > offset(line)).min().unwrap_or(end);
        std::fs::set_permissions(&pack, std::fs::Permissions::from_mode(0o644)).unwrap();
        let pack = std::fs::OpenOptions::new().read(true).write(true).open(&pack).unwrap();
        let middle = offset(line).midpoint(next);
        let mut byte = [0];
        pack.read_exact_at(&mut byte, middle).unwrap();
        pack.write_all_at(&[byte[0] ^ 0x10], middle).unwrap();
    }
}
