//! What commits lead to: packed, verified, listed, compared.

use super::*;
use repository::{ChangeKind, Limits, Mode, Options, RepositoryError};
use std::collections::BTreeSet;
use std::io::Read;

type Object = (Kind, Vec<u8>);

fn ids(objects: &[Object]) -> Vec<ObjectId> {
    objects.iter().map(|(kind, content)| repository::objects::id(*kind, content).unwrap()).collect()
}

fn all_of(repository: &Repository, root: ObjectId, have: &[ObjectId]) -> BTreeSet<ObjectId> {
    repository.reachable(&[root], have).unwrap().into_iter().collect()
}

#[test]
fn packs_bring_what_the_other_lacks() {
    let (_here, here) = fresh();
    let (_there, there) = fresh();
    let one = deploy(&here, &[("a", b"1"), ("d/b", b"2"), ("e/f/g", b"3")], &[]);
    let two = deploy(&here, &[("a", b"1"), ("d/b", b"changed"), ("e/f/g", b"3")], &[one]);
    let send = |roots: &[ObjectId], have: &[ObjectId]| {
        let mut pack = Vec::new();
        let count = here.pack(roots, have, &mut pack).unwrap();
        assert_eq!(there.store_pack(&pack[..]).unwrap().objects, count);
        count
    };
    assert_eq!(send(&[one], &[]), 8);
    there.verify(one, &[]).unwrap();
    assert!(matches!(there.verify(two, &[one]), Err(RepositoryError::Missing(it)) if it == two));
    // The commit, the root, the folder d, the blob; an id that nobody knows is no matter.
    assert_eq!(send(&[two], &[one, ObjectId::from([5; 20])]), 4);
    there.verify(two, &[one]).unwrap();
    assert_eq!(send(&[two], &[two]), 0);
    there.set_reference("refs/heads/main", Some(two)).unwrap();
    let Some(git) = Git::at(there.path()) else { return };
    git.fsck();
    assert_eq!(git.run(&["rev-list", "--count", "--objects", "main"]), "12");
}

#[test]
fn the_hundredth_version_costs_as_much_as_the_second() {
    let (_folder, repository) = fresh();
    let (mut costs, mut parents) = (Vec::new(), Vec::new());
    for number in 0..100 {
        let text = format!("{number}");
        let files: [(&str, &[u8]); 3] = [("a", text.as_bytes()), ("d/b", b"2"), ("e/f/g", b"3")];
        let (id, objects) = commit(&files, &parents);
        repository.store_pack(&pack(&objects)[..]).unwrap();
        costs.push(repository.verify(id, &[]).unwrap());
        parents = vec![id];
    }
    // The commit and its four folders; then the commit and the top folder.
    assert_eq!(costs[0], 5);
    assert!(costs[1..].iter().all(|it| *it == 2), "{costs:?}");
    // After a start all of it is looked at, once; and once more when something was deleted.
    let again = Repository::open(repository.path()).unwrap();
    let costs = [(); 2].map(|()| again.verify(parents[0], &[]).unwrap());
    assert_eq!(costs, [100 + 3 + 100, 1]);
    again.set_reference("refs/heads/main", Some(parents[0])).unwrap();
    again.delete_garbage(&[], std::time::SystemTime::now()).unwrap();
    assert_eq!(again.verify(parents[0], &[]).unwrap(), 203);
}

#[test]
fn what_somebody_says_to_be_here_proves_nothing_for_the_next_time() {
    let (_here, here) = fresh();
    let (_there, there) = fresh();
    let one = deploy(&here, &[("a", b"1")], &[]);
    let two = deploy(&here, &[("a", b"2")], &[one]);
    let mut pack = Vec::new();
    here.pack(&[two], &[one], &mut pack).unwrap();
    there.store_pack(&pack[..]).unwrap();
    there.verify(two, &[one]).unwrap();
    assert!(matches!(there.verify(two, &[]), Err(RepositoryError::Missing(it)) if it == one));
}

#[test]
fn packed_deltas_are_sent_as_they_are() {
    let work = tempfile::tempdir().unwrap();
    let Some(git) = Git::at(work.path()) else { return };
    git.run(&["init", "-q", "-b", "main", "."]);
    for round in 0..5 {
        let text: String =
            (0..4000).map(|it| format!("{}\n", it * 7919 + usize::from(it == round))).collect();
        std::fs::write(work.path().join("file"), text).unwrap();
        git.run(&["add", "."]);
        git.run(&["commit", "-q", "-m", "round"]);
    }
    git.run(&["tag", "-a", "-m", "tag", "v1"]);
    let pack = git.bytes(&["pack-objects", "--revs", "--stdout", "-q", "--all", "--delta-base-offset"], b"");
    let (_folder, repository) = fresh();
    repository.store_pack(&pack[..]).unwrap();
    let tag: ObjectId = git.run(&["rev-parse", "v1"]).parse().unwrap();
    repository.verify(tag, &[]).unwrap();
    let mut sent = Vec::new();
    assert_eq!(repository.pack(&[tag], &[], &mut sent).unwrap(), 16);
    assert!(sent.len() < pack.len() + 300, "{} of {}", sent.len(), pack.len());
    let other = tempfile::tempdir().unwrap();
    let there = Git::at(other.path()).unwrap();
    there.run(&["init", "-q", "--bare", "."]);
    there.bytes(&["index-pack", "--strict", "--stdin"], &sent);
    there.run(&["rev-list", "--objects", &tag.to_string()]);
    let (_second, second) = fresh();
    second.store_pack(&sent[..]).unwrap();
    // A part whose deltas' bases are not in it.
    let head: ObjectId = git.run(&["rev-parse", "main"]).parse().unwrap();
    let before: ObjectId = git.run(&["rev-parse", "main~1"]).parse().unwrap();
    for (root, have) in [(head, before), (before, head)] {
        let mut part = Vec::new();
        let count = second.pack(&[root], &[have], &mut part).unwrap();
        assert_eq!(count, if root == head { 3 } else { 0 });
        let (_third, third) = fresh();
        third.store_pack(&part[..]).unwrap();
    }
    let log = repository.log(head, 3).unwrap();
    assert_eq!(log.len(), 3);
    let expected = git.run(&["log", "--format=%H", "-3", "main"]);
    assert_eq!(log.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>().join("\n"), expected);
}

#[test]
fn reachable_is_as_git_has_it() {
    let (_folder, repository) = fresh();
    let one = deploy(&repository, &[("a", b"1"), ("b", b"2")], &[]);
    let two = deploy(&repository, &[("a", b"1"), ("c/d", b"2")], &[one]);
    let merge = deploy(&repository, &[("a", b"3")], &[two, one]);
    assert_eq!(all_of(&repository, one, &[]).len(), 4);
    assert_eq!(all_of(&repository, merge, &[two]).len(), 3);
    let Some(git) = Git::at(repository.path()) else { return };
    let listed: BTreeSet<ObjectId> = git
        .run(&["rev-list", "--objects", "main"])
        .lines()
        .map(|it| it.split(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(all_of(&repository, merge, &[]), listed);
}

#[test]
fn whatever_is_missing_is_named() {
    let (id, objects) = commit(&[("a", b"1"), ("d/b", b"2")], &[]);
    for (gone, name) in ids(&objects).into_iter().enumerate() {
        let (_folder, repository) = fresh();
        let mut some = objects.clone();
        some.remove(gone);
        repository.store_pack(&pack(&some)[..]).unwrap();
        let error = repository.verify(id, &[]).unwrap_err();
        assert!(matches!(error, RepositoryError::Missing(it) if it == name), "{error}");
        repository.store_pack(&pack(&objects[gone..=gone])[..]).unwrap();
        repository.verify(id, &[]).unwrap();
        repository.verify(id, &[]).unwrap();
    }
}

#[test]
fn a_tree_is_complete_with_all_that_is_below_it() {
    let (commit, objects) = commit(&[("a", b"1"), ("d/b", b"2"), ("d/e/f", b"3"), ("g/a", b"1")], &[]);
    let all = ids(&objects);
    let one =
        |kind, content: &[u8]| all[objects.iter().position(|it| it.0 == kind && it.1 == content).unwrap()];
    let lacking = one(Kind::Blob, b"3");
    let (_folder, repository) = fresh();
    let some: Vec<_> = objects.iter().filter(|it| it.1 != b"3").cloned().collect();
    repository.store_pack(&pack(&some)[..]).unwrap();
    let incomplete: BTreeSet<_> = repository.incomplete(&all).into_iter().collect();
    // The root, d and d/e; neither g nor the commit, of which nobody asks more than whether it is here.
    assert_eq!(incomplete.len(), 4);
    assert!(incomplete.contains(&lacking) && !incomplete.contains(&commit));
    repository.store_pack(&pack(&[(Kind::Blob, b"3".to_vec())])[..]).unwrap();
    assert_eq!(repository.incomplete(&all), []);
    // What has been set aside is here, and a commit that needs it takes it back.
    repository.delete_garbage(&[], std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(repository.incomplete(&all), []);
    repository.verify(commit, &[]).unwrap();
    repository.delete_garbage(&[commit], std::time::SystemTime::now()).unwrap();
    assert_eq!(repository.incomplete(&all), []);
    repository.verify(commit, &[]).unwrap();
}

fn tree(entries: &[(&str, &str, ObjectId)]) -> Object {
    let mut content = Vec::new();
    for (mode, name, id) in entries {
        content.extend(format!("{mode} {name}\0").as_bytes());
        content.extend(id.as_bytes());
    }
    (Kind::Tree, content)
}

/// Stores objects and a commit of the last one; the commit, the tree.
fn commit_last(repository: &Repository, mut objects: Vec<Object>) -> (ObjectId, ObjectId) {
    let root = *ids(&objects).last().unwrap();
    let (id, content) = commit_of(root, &[]);
    objects.push((Kind::Commit, content));
    repository.store_pack(&pack(&objects)[..]).unwrap();
    (id, root)
}

#[test]
fn trees_that_are_too_much() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { files: 5000, ..Limits::default() };
    let options = Options { limits, ..Options::default() };
    let repository = Repository::open_with(&folder.path().join("repository.git"), options).unwrap();
    // Nothing in each of two folders, in each of two folders …
    let mut objects = vec![tree(&[])];
    for _ in 0..100 {
        let below = *ids(&objects).last().unwrap();
        objects.push(tree(&[("40000", "a", below), ("40000", "b", below)]));
    }
    let (bomb, root) = commit_last(&repository, objects);
    let error = repository.verify(bomb, &[]).unwrap_err().to_string();
    assert!(error.contains("the number of files is over the limit of 5000"), "{error}");
    assert!(repository.checkout(root, &folder.path().join("out"), None).is_err());
    let empty = ids(&[tree(&[])])[0];
    assert!(repository.diff(root, empty).unwrap_err().to_string().contains("the number of changes"));

    let mut objects = vec![tree(&[])];
    for _ in 0..200 {
        let below = *ids(&objects).last().unwrap();
        objects.push(tree(&[("40000", "deep", below)]));
    }
    let (deep, root) = commit_last(&repository, objects.clone());
    assert!(repository.verify(deep, &[]).unwrap_err().to_string().contains("the depth of folders"));
    assert!(repository.diff(root, empty).unwrap_err().to_string().contains("the depth of folders"));
    // Also when its lower half was verified before.
    objects.truncate(101);
    let (half, _) = commit_last(&repository, objects);
    repository.verify(half, &[]).unwrap();
    assert!(repository.verify(deep, &[]).unwrap_err().to_string().contains("the depth of folders"));

    let name = "n".repeat(250);
    let mut objects = vec![(Kind::Blob, b"x".to_vec())];
    for round in 0..15 {
        let below = *ids(&objects).last().unwrap();
        objects.push(tree(&[(if round == 0 { "100644" } else { "40000" }, &name, below)]));
    }
    let (long, _) = commit_last(&repository, objects);
    assert!(repository.verify(long, &[]).unwrap_err().to_string().contains("the bytes of a path"));
    assert!(!folder.path().join("out").exists());
}

#[test]
fn kinds_and_links_that_are_not_right() {
    let (folder, repository) = fresh();
    let blob = (Kind::Blob, b"x".to_vec());
    let id = ids(std::slice::from_ref(&blob))[0];
    let (wrong, _) = commit_last(&repository, vec![blob, tree(&[("40000", "a", id)])]);
    assert!(
        repository.verify(wrong, &[]).unwrap_err().to_string().contains("is a blob, and a tree was expected")
    );
    let empty = tree(&[]);
    let empty_id = ids(std::slice::from_ref(&empty))[0];
    let (wrong, _) = commit_last(&repository, vec![empty, tree(&[("100644", "a", empty_id)])]);
    assert!(
        repository.verify(wrong, &[]).unwrap_err().to_string().contains("is a tree, and a blob was expected")
    );
    let target = (Kind::Blob, b"../etc".to_vec());
    let id = ids(std::slice::from_ref(&target))[0];
    let (out, root) = commit_last(&repository, vec![target, tree(&[("120000", "a", id)])]);
    for error in [
        repository.verify(out, &[]).unwrap_err(),
        repository.checkout(root, &folder.path().join("out"), None).unwrap_err(),
    ] {
        assert!(error.to_string().contains("leads out of the tree"), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    // As a version of the past it is no matter: that is not checked out.
    let (good, mut objects) = commit(&[("a", b"1")], &[out]);
    objects.reverse();
    repository.store_pack(&pack(&objects)[..]).unwrap();
    repository.verify(good, &[]).unwrap();
}

#[test]
fn listed_read_and_compared() {
    let (_folder, repository) = fresh();
    let one = deploy(&repository, &[("a", b"1"), ("d/b", b"two"), ("d/e/f", b"3"), ("x", b"")], &[]);
    let two = deploy(&repository, &[("a", b"changed"), ("d", b"now a file"), ("y/z", b"")], &[one]);
    let (a, b) = (repository.commit_info(one).unwrap().tree, repository.commit_info(two).unwrap().tree);
    let list = |path| -> Vec<(String, Mode, Option<u64>)> {
        repository.entries(a, path).unwrap().into_iter().map(|it| (it.name, it.mode, it.size)).collect()
    };
    assert_eq!(list("").len(), 3);
    assert_eq!(list("d"), [("b".to_owned(), Mode::File, Some(3)), ("e".to_owned(), Mode::Folder, None)]);
    assert_eq!(list("d/b"), [("b".to_owned(), Mode::File, Some(3))]);
    assert!(repository.entries(a, "d/b/c").unwrap_err().to_string().contains("there is no d/b/c"));
    let mut text = String::new();
    repository.blob(a, "/d/b").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "two");
    assert!(
        repository.blob(a, "d").is_err()
            && repository.blob(a, "").is_err()
            && repository.blob(a, "no").is_err()
    );
    let changes: Vec<_> = repository.diff(a, b).unwrap().into_iter().map(|it| (it.path, it.kind)).collect();
    let expected = [
        ("a", ChangeKind::Changed),
        ("d", ChangeKind::Added),
        ("d/b", ChangeKind::Removed),
        ("d/e/f", ChangeKind::Removed),
        ("x", ChangeKind::Removed),
        ("y/z", ChangeKind::Added),
    ];
    assert_eq!(changes, expected.map(|(path, kind)| (path.to_owned(), kind)));
    assert_eq!(repository.diff(a, a).unwrap(), []);
}
