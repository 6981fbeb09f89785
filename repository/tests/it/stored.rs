//! What is stored is what real Git reads, and the other way round.

use super::*;
use std::fs;
use std::io::Read;

fn content(repository: &Repository, id: &str) -> String {
    let mut text = String::new();
    repository.reader(id.parse().unwrap()).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn git_clones_what_was_stored() {
    let (folder, repository) = fresh();
    let id = deploy(&repository, &[("a/b.txt", b"one\n"), ("c.txt", b"two\n")], &[]);
    let info = repository.commit_info(id).unwrap();
    assert_eq!((info.author.name.as_str(), info.message.as_str()), ("Ada", "A change\n"));
    let Some(git) = Git::at(repository.path()) else { return };
    git.fsck();
    assert_eq!(git.run(&["rev-parse", "HEAD"]), id.to_string());
    let clone = folder.path().join("clone");
    git.run(&["clone", "-q", repository.path().to_str().unwrap(), clone.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(clone.join("a/b.txt")).unwrap(), "one\n");
}

#[test]
fn a_hundred_commits() {
    let (_folder, repository) = fresh();
    let mut files: Vec<(String, String)> = Vec::new();
    let mut parents = Vec::new();
    for number in 0..100 {
        files.push((format!("d{}/e/f{number}", number % 7), format!("content {number}\n")));
        let all: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_bytes())).collect();
        parents = vec![deploy(&repository, &all, &parents)];
    }
    // A later process finds the same.
    let path = repository.path().to_owned();
    drop(repository);
    let repository = Repository::open(&path).unwrap();
    assert_eq!(repository.references().unwrap()["refs/heads/main"], parents[0]);
    let Some(git) = Git::at(&path) else { return };
    git.fsck();
    assert_eq!(git.run(&["rev-list", "--count", "main"]), "100");
    assert_eq!(git.run(&["ls-tree", "-r", "--name-only", "main"]).lines().count(), 100);
    for pack in fs::read_dir(path.join("objects/pack"))
        .unwrap()
        .flatten()
        .filter(|it| it.path().extension().unwrap() == "pack")
    {
        git.run(&["verify-pack", pack.path().to_str().unwrap()]);
    }
}

/// A repository of real Git with two commits, the second with small changes to large files.
fn two_commits(folder: &std::path::Path) -> Option<(Git, Vec<String>)> {
    let git = Git::at(folder)?;
    git.run(&["init", "-q", "-b", "main", "."]);
    let text = |changed: usize| {
        (0..3000)
            .map(|it| if it == changed { "changed\n".to_owned() } else { format!("{}\n", it * 7919) })
            .collect::<String>()
    };
    let mut ids = Vec::new();
    for round in 0..3 {
        for name in ["a", "b", "c"] {
            fs::write(folder.join(name), format!("{name}\n{}", text(round * 100))).unwrap();
        }
        git.run(&["add", "."]);
        git.run(&["commit", "-q", "-m", "round"]);
        ids.push(git.run(&["rev-parse", "HEAD"]));
    }
    git.run(&["tag", "-a", "-m", "the tag", "v1"]);
    ids.push(git.run(&["rev-parse", "v1"]));
    Some((git, ids))
}

#[test]
fn thin_packs_of_git() {
    for offsets in [true, false] {
        let work = tempfile::tempdir().unwrap();
        let Some((git, ids)) = two_commits(work.path()) else { return };
        let (_folder, repository) = fresh();
        let kind = if offsets { "--delta-base-offset" } else { "--no-reuse-delta" };
        let arguments = ["pack-objects", "--revs", "--thin", "--stdout", "-q", kind];
        let first = git.bytes(&arguments, ids[0].as_bytes());
        let second = git.bytes(&arguments, format!("{}\n{}\n^{}\n", ids[2], ids[3], ids[0]).as_bytes());
        assert!(second.len() < 8000, "the second is thin: {} bytes", second.len());
        let before = repository.store_pack(&second[..]).unwrap_err().to_string();
        assert!(before.contains("which is not here"), "{before}");
        repository.store_pack(&first[..]).unwrap();
        let stored = repository.store_pack(&second[..]).unwrap();
        assert!(stored.objects >= 10, "{stored:?}");
        repository.set_reference("refs/heads/main", Some(ids[2].parse().unwrap())).unwrap();
        repository.set_reference("refs/tags/v1", Some(ids[3].parse().unwrap())).unwrap();
        let there = Git::at(repository.path()).unwrap();
        there.fsck();
        let blob = git.run(&["rev-parse", "main:b"]);
        assert_eq!(content(&repository, &blob).trim(), git.run(&["cat-file", "blob", &blob]));
        assert_eq!(
            repository.header(blob.parse().unwrap()).unwrap().1,
            content(&repository, &blob).len() as u64
        );
        there.run(&["rev-list", "--objects", "--all"]);
    }
}

#[test]
fn packs_are_as_git_has_them() {
    let work = tempfile::tempdir().unwrap();
    let Some(git) = Git::at(work.path()) else { return };
    git.run(&["init", "-q", "."]);
    let big =
        (0..300_000u32).flat_map(|it| (it.wrapping_mul(2_654_435_761)).to_le_bytes()).collect::<Vec<u8>>();
    let (id, objects) = commit(&[("big", &big), ("empty", b""), ("small", b"x")], &[]);
    git.bytes(&["index-pack", "--strict", "--stdin"], &pack(&objects));
    git.run(&["cat-file", "-e", &format!("{id}^{{commit}}")]);
    git.bytes(&["index-pack", "--strict", "--stdin"], &pack(&[]));
}

#[test]
fn small_objects_are_written_once() {
    let (_folder, repository) = fresh();
    let (id, objects) = commit(&[("a", b"1"), ("b", b"1")], &[]);
    let twice: Vec<_> = objects.iter().chain(&objects).cloned().collect();
    let ids = repository.write_objects(&twice).unwrap();
    assert_eq!(ids.len(), twice.len());
    assert_eq!(ids[objects.len() - 1], id);
    let files = || fs::read_dir(repository.path().join("objects/pack")).unwrap().count();
    assert_eq!(files(), 2);
    repository.write_objects(&twice).unwrap();
    assert_eq!(files(), 2);
    assert!(repository.write_objects(&[(Kind::Tree, b"x".to_vec())]).is_err());
    assert_eq!(files(), 2);
}

#[test]
fn the_same_pack_from_many_at_once() {
    let (_folder, repository) = fresh();
    let (id, objects) = commit(&[("a", b"1")], &[]);
    let pack = pack(&objects);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| repository.clone().store_pack(&pack[..]).unwrap());
        }
    });
    assert!(repository.missing(&[id]).is_empty());
    let reopened = Repository::open(repository.path()).unwrap();
    reopened.set_reference("refs/heads/main", Some(id)).unwrap();
    let Some(git) = Git::at(repository.path()) else { return };
    git.fsck();
}

#[test]
fn missing_in_the_order_asked() {
    let (_folder, repository) = fresh();
    let (id, objects) = commit(&[("a", b"1")], &[]);
    repository.store_pack(&pack(&objects)[..]).unwrap();
    let other = |it: u8| ObjectId::from([it; 20]);
    assert_eq!(repository.missing(&[other(9), id, other(1)]), [other(9), other(1)]);
}

#[test]
fn what_a_dead_process_left_is_removed() {
    let (_folder, repository) = fresh();
    deploy(&repository, &[("a", b"1")], &[]);
    let packs = repository.path().join("objects/pack");
    let count = fs::read_dir(&packs).unwrap().count();
    for name in ["tmp_pack_1", "pack-1111.pack", "pack-2222.idx", "pack-3333.garbage"] {
        fs::write(packs.join(name), "x").unwrap();
    }
    Repository::open(repository.path()).unwrap();
    assert_eq!(fs::read_dir(&packs).unwrap().count(), count);
}

#[test]
fn git_may_tidy_up_while_it_is_closed() {
    let (_folder, repository) = fresh();
    let old = deploy(&repository, &[("a", b"old")], &[]);
    let one = deploy(&repository, &[("a", b"1")], &[]);
    let two = deploy(&repository, &[("a", b"2")], &[one]);
    let path = repository.path().to_owned();
    drop(repository);
    let Some(git) = Git::at(&path) else { return };
    git.run(&["gc", "-q"]);
    git.run(&["commit-graph", "write", "--reachable"]);
    git.run(&["multi-pack-index", "write"]);
    let repository = Repository::open(&path).unwrap();
    repository.verify(two, &[]).unwrap();
    assert!(repository.missing(&[old]).is_empty());
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    repository.delete_garbage(&[], later).unwrap();
    assert_eq!(repository.missing(&[old, one]), [old]);
    git.fsck();
    drop(repository);
    // Objects in files of their own are told of.
    git.bytes(&["hash-object", "-w", "--stdin"], b"loose");
    let error = Repository::open(&path).unwrap_err().to_string();
    assert!(error.contains("repack -a -d"), "{error}");
}

#[test]
fn a_sender_that_goes_away_leaves_nothing() {
    struct Broken<'a>(&'a [u8]);
    impl Read for Broken<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() {
                Err(std::io::ErrorKind::ConnectionReset.into())
            } else {
                self.0.read(buffer)
            }
        }
    }
    let (_folder, repository) = fresh();
    let (_, objects) = commit(&[("a", &[7; 5000])], &[]);
    let pack = pack(&objects);
    for end in 0..pack.len() {
        let error = repository.store_pack(Broken(&pack[..end])).unwrap_err().to_string();
        assert!(error.contains("could not be received"), "{error}");
    }
    assert_eq!(fs::read_dir(repository.path().join("objects/pack")).unwrap().count(), 0);
}
