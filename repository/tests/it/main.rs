//! The repository as a whole, beside real Git.

mod git;
mod hostile;
mod references;
mod stored;

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
