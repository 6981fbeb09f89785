//! Garbage, damage, and folders that somebody changed.

use super::checkout::{listing, tree};
use super::*;
use repository::RepositoryError;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

fn now() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3600)
}

fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH
}

fn blob_of(content: &[u8]) -> ObjectId {
    blob_id(content.len() as u64, content).unwrap()
}

#[test]
fn garbage_goes_and_what_is_kept_stays() {
    let (_folder, repository) = fresh();
    let one = deploy(&repository, &[("a", b"1"), ("d/b", b"old")], &[]);
    let two = deploy(&repository, &[("a", b"1"), ("d/b", b"kept")], &[]);
    let three = deploy(&repository, &[("a", b"1"), ("d/b", b"new")], &[]);
    assert_eq!(repository.size().unwrap().packs, 3);
    // A reader that began before goes on.
    let mut reading = repository.reader(blob_of(b"old")).unwrap();
    let keep = [two, ObjectId::from([8; 20])];
    let done = repository.delete_garbage(&keep, now()).unwrap();
    assert_eq!((done.deleted, done.set_aside), (4, 0), "the commit, two trees, a blob");
    assert!(done.freed > 0);
    let mut text = String::new();
    reading.read_to_string(&mut text).unwrap();
    assert_eq!(text, "old");
    for id in [one, blob_of(b"old")] {
        assert!(matches!(repository.header(id), Err(RepositoryError::Missing(_))));
    }
    repository.verify(two, &[]).unwrap();
    repository.verify(three, &[]).unwrap();
    let size = repository.size().unwrap();
    assert_eq!(size.objects, 9);
    assert_eq!(repository.delete_garbage(&keep, now()).unwrap().deleted, 0);
    let again = Repository::open(repository.path()).unwrap();
    again.verify(three, &[]).unwrap();
    assert_eq!(
        fs::read_dir(repository.path().join("objects/pack")).unwrap().count() as u64,
        2 * again.size().unwrap().packs
    );
    let Some(git) = Git::at(repository.path()) else { return };
    git.fsck();
}

#[test]
fn garbage_is_set_aside_first() {
    let (_folder, repository) = fresh();
    let one = deploy(&repository, &[("a", b"old")], &[]);
    let two = deploy(&repository, &[("a", b"new")], &[]);
    let done = repository.delete_garbage(&[], long_ago()).unwrap();
    assert_eq!((done.deleted, done.set_aside), (0, 3));
    // It is there for who needs it.
    repository.commit_info(one).unwrap();
    assert!(repository.missing(&[one, two]).is_empty());
    let done = repository.delete_garbage(&[], long_ago()).unwrap();
    assert_eq!((done.deleted, done.set_aside), (0, 0));
    let repository = Repository::open(repository.path()).unwrap();
    // Who verifies it takes it back, until nothing leads to it at the next collection.
    let objects = repository.size().unwrap().objects;
    repository.verify(one, &[]).unwrap();
    repository.verify(one, &[]).unwrap();
    assert_eq!(repository.size().unwrap().objects, objects + 3);
    assert_eq!(repository.delete_garbage(&[], long_ago()).unwrap().set_aside, 0, "it is aside already");
    assert_eq!(repository.size().unwrap().objects, objects);
    // A reference to it takes it back, also when it is old enough.
    repository.set_reference("refs/tags/v1", Some(one)).unwrap();
    assert_eq!(repository.delete_garbage(&[], now()).unwrap().deleted, 0);
    repository.verify(one, &[]).unwrap();
    assert_eq!(repository.size().unwrap().objects, objects);
    // And without one it goes for good.
    repository.set_reference("refs/tags/v1", None).unwrap();
    assert_eq!(repository.delete_garbage(&[], long_ago()).unwrap().set_aside, 3);
    assert_eq!(repository.delete_garbage(&[], now()).unwrap().deleted, 3);
    assert!(repository.commit_info(one).is_err());
    let Some(git) = Git::at(repository.path()) else { return };
    git.fsck();
    assert_eq!(git.run(&["fsck", "--unreachable"]), "");
}

#[test]
fn what_was_set_aside_and_sent_again_stays() {
    let (_folder, repository) = fresh();
    let one = deploy(&repository, &[("a", b"old")], &[]);
    deploy(&repository, &[("a", b"new")], &[]);
    repository.delete_garbage(&[], long_ago()).unwrap();
    assert_eq!(deploy(&repository, &[("a", b"old")], &[]), one);
    repository.delete_garbage(&[], now()).unwrap();
    repository.verify(one, &[]).unwrap();
    assert_eq!(repository.size().unwrap().objects, 3);
}

#[test]
fn many_packs_become_few() {
    let (_folder, repository) = fresh();
    let mut parents = Vec::new();
    for number in 0..40 {
        let text = format!("{number}");
        parents = vec![deploy(&repository, &[("a", text.as_bytes())], &parents)];
        if number % 8 == 0 {
            repository.delete_garbage(&[], long_ago()).unwrap();
        }
    }
    repository.delete_garbage(&[], long_ago()).unwrap();
    assert!(repository.size().unwrap().packs <= 4, "{:?}", repository.size());
    repository.verify(parents[0], &[]).unwrap();
    let Some(git) = Git::at(repository.path()) else { return };
    git.fsck();
    assert_eq!(git.run(&["rev-list", "--count", "main"]), "40");
}

#[test]
fn nothing_is_deleted_while_something_is_broken() {
    let (_folder, repository) = fresh();
    deploy(&repository, &[("a", b"old")], &[]);
    let two = deploy(&repository, &[("a", b"new")], &[]);
    damage(&repository, repository.commit_info(two).unwrap().tree);
    let before = repository.size().unwrap();
    assert!(repository.delete_garbage(&[], now()).is_err());
    assert_eq!(repository.size().unwrap(), before);
}

#[test]
fn storing_and_collecting_at_once() {
    let (_folder, repository) = fresh();
    let first = deploy(&repository, &[("a", b"first")], &[]);
    std::thread::scope(|scope| {
        let storing = scope.spawn(|| {
            let mut parents = vec![first];
            for number in 0..60 {
                let text = format!("{}", number % 7);
                parents = vec![deploy(&repository, &[("a", text.as_bytes()), ("b", b"same")], &parents)];
                repository.verify(parents[0], &[]).unwrap();
            }
            parents[0]
        });
        while !storing.is_finished() {
            repository.delete_garbage(&[], long_ago()).unwrap();
        }
        let last = storing.join().unwrap();
        repository.verify(last, &[]).unwrap();
        assert_eq!(repository.log(last, 100).unwrap().len(), 61);
    });
    let Some(git) = Git::at(repository.path()) else { return };
    git.fsck();
}

#[test]
fn damage_is_found_and_healed() {
    let (_here, here) = fresh();
    let (_there, there) = fresh();
    let text: Vec<u8> = (0..3000u32).flat_map(|it| it.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let id = deploy(&here, &[("a", &text), ("b", b"other")], &[]);
    deploy(&there, &[("a", &text), ("b", b"other")], &[]);
    let mut read = 0;
    assert_eq!(here.scrub(|bytes| read += bytes).unwrap(), []);
    assert!(read > 12_000);
    let (blob, tree) = (blob_of(&text), here.commit_info(id).unwrap().tree);
    damage(&here, blob);
    damage(&here, tree);
    let mut expected = vec![blob, tree];
    expected.sort();
    assert_eq!(here.scrub(|_| {}).unwrap(), expected);
    // Half of what is needed does not do.
    let mut half = Vec::new();
    there.pack_objects(&expected[..1], &mut half).unwrap();
    assert!(
        matches!(here.heal(&expected, &half[..]), Err(RepositoryError::Damaged { id, .. }) if id == expected[1])
    );
    let mut good = Vec::new();
    there.pack_objects(&expected, &mut good).unwrap();
    here.heal(&expected, &good[..]).unwrap();
    assert_eq!(here.scrub(|_| {}).unwrap(), []);
    here.verify(id, &[]).unwrap();
    let reopened = Repository::open(here.path()).unwrap();
    assert_eq!(reopened.scrub(|_| {}).unwrap(), []);
    let Some(git) = Git::at(here.path()) else { return };
    git.fsck();
}

#[test]
fn every_flipped_bit_of_a_pack_and_its_index_is_found() {
    let (_folder, repository) = fresh();
    let (_there, there) = fresh();
    let id = deploy(&repository, &[("a", b"one"), ("b", b"two")], &[]);
    deploy(&there, &[("a", b"one"), ("b", b"two")], &[]);
    let mut all = Vec::new();
    there.pack(&[id], &[], &mut all).unwrap();
    let file = |extension: &str| -> PathBuf {
        let files =
            fs::read_dir(repository.path().join("objects/pack")).unwrap().flatten().map(|it| it.path());
        let mut files: Vec<_> = files.filter(|it| it.extension().unwrap() == extension).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files.pop().unwrap()
    };
    let flip = |extension: &str, at: usize| {
        let path = file(extension);
        let mut bytes = fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << (at % 8);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        // In place: the repository has the file open.
        fs::write(&path, bytes).unwrap();
    };
    let size = |extension| fs::metadata(file(extension)).unwrap().len() as usize;
    for at in (0..size("pack")).step_by(7).chain(0..12).chain(size("pack") - 20..size("pack")) {
        flip("pack", at);
        let damaged = repository.scrub(|_| {}).unwrap();
        if !damaged.is_empty() {
            repository.heal(&damaged, &all[..]).unwrap();
        }
        repository.delete_garbage(&[], long_ago()).unwrap();
        assert_eq!(repository.scrub(|_| {}).unwrap(), [], "byte {at}");
        assert_eq!(Repository::open(repository.path()).unwrap().scrub(|_| {}).unwrap(), []);
    }
    for at in (0..size("idx")).step_by(61) {
        flip("idx", at);
        if at % 2 == 0 {
            assert_eq!(repository.scrub(|_| {}).unwrap(), []);
        }
        let reopened = Repository::open(repository.path()).unwrap();
        reopened.verify(id, &[]).unwrap();
    }
    let Some(git) = Git::at(repository.path()) else { return };
    git.fsck();
}

#[test]
fn folders_that_somebody_changed() {
    let (folder, repository) = fresh();
    let root = tree(&repository, 20);
    let to = folder.path().join("version");
    repository.checkout(root, &to, None).unwrap();
    assert_eq!(repository.verify_checkout(root, &to).unwrap(), Vec::<PathBuf>::new());
    let good = listing(&to);
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f3"), "file 3\n").unwrap();
    fs::write(to.join("d0/f0"), "file 1\n").unwrap();
    fs::remove_file(to.join("d1/f1")).unwrap();
    fs::set_permissions(to.join("d2/f2"), Permissions::from_mode(0o755)).unwrap();
    fs::remove_dir_all(to.join("d3")).unwrap();
    std::os::unix::fs::symlink(&outside, to.join("d3")).unwrap();
    fs::remove_file(to.join("d4/f4")).unwrap();
    fs::create_dir_all(to.join("d4/f4/deep")).unwrap();
    fs::create_dir(to.join("extra")).unwrap();
    fs::write(to.join("extra/x"), "").unwrap();
    fs::remove_file(to.join("run")).unwrap();
    std::os::unix::fs::symlink("/etc", to.join("run")).unwrap();
    fs::set_permissions(to.join("bin"), Permissions::from_mode(0o700)).unwrap();
    let wrong = repository.verify_checkout(root, &to).unwrap();
    let names: Vec<_> = wrong.iter().map(|it| it.to_str().unwrap()).collect();
    assert_eq!(names, ["bin", "d0/f0", "d1/f1", "d2/f2", "d3", "d4/f4", "extra", "run"]);
    let out =
        |path: &str| repository.mend_checkout(root, &to, &[PathBuf::from(path)]).unwrap_err().to_string();
    for path in ["../outside", "/etc/passwd", "d3/f3", "", "d0/../../x"] {
        assert!(out(path).contains("there is no"), "{path}");
    }
    repository.mend_checkout(root, &to, &wrong).unwrap();
    assert_eq!(repository.verify_checkout(root, &to).unwrap(), Vec::<PathBuf>::new());
    assert_eq!(listing(&to), good);
    assert!(outside.join("f3").exists());
}
