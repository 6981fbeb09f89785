//! A process that dies at any step leaves a repository that real Git finds whole, with the old or the new state.
//!
//! Each test runs itself again as a child, which aborts right after a step that changed the disk. (What a power loss takes is what was not
//! synced; that files and folders are synced before they are relied upon is for reading: `files.rs`, `store.rs`.)

use super::*;
use repository::Options;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

const FOLDER: &str = "REPOSITORY_TEST_FOLDER";
const STEP: &str = "REPOSITORY_TEST_STEP";

static STEPS: AtomicUsize = AtomicUsize::new(0);

/// Aborts at the step whose number the parent chose.
fn on_step(_: &'static str) {
    let number = std::env::var(STEP).ok().and_then(|it| it.parse().ok()).unwrap_or(usize::MAX);
    if STEPS.fetch_add(1, Ordering::SeqCst) == number {
        std::process::abort();
    }
}

/// In the child: does the work and does not return. In the parent: prepares a folder, runs a child for each step, and checks what it left.
fn dying(test: &str, prepare: fn(&Repository), work: fn(&Repository), check: fn(&Repository)) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let options = Options { on_step, ..Options::default() };
        work(&Repository::open_with(Path::new(&folder), options).unwrap());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for step in 0..50 {
        let path = folder.path().join(format!("{step}")).join("repository.git");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        prepare(&Repository::open(&path).unwrap());
        let damaged = !Repository::open(&path).unwrap().scrub(|_| {}).unwrap().is_empty();
        let survived = child(test, &path, step);
        if let Some(git) = Git::at(&path).filter(|_| !damaged) {
            git.fsck();
        }
        let repository = Repository::open(&path).unwrap();
        assert_eq!(leftovers(&path), Vec::<PathBuf>::new(), "after step {step}");
        check(&repository);
        work(&repository);
        check(&repository);
        assert_eq!(repository.scrub(|_| {}).unwrap(), []);
        if let Some(git) = Git::at(&path) {
            git.fsck();
        }
        if survived {
            assert!(step > 1, "there are steps");
            return;
        }
    }
    panic!("it never ends");
}

/// Did it come to its end?
fn child(test: &str, path: &Path, step: usize) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--test-threads=1"])
        .env(FOLDER, path)
        .env(STEP, step.to_string())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    status.success()
}

fn leftovers(path: &Path) -> Vec<PathBuf> {
    let files =
        [path.to_owned(), path.join("objects/pack")].map(|it| std::fs::read_dir(it).unwrap().flatten());
    files
        .into_iter()
        .flatten()
        .map(|it| it.path())
        .filter(|it| it.file_name().unwrap().to_string_lossy().starts_with("tmp_"))
        .collect()
}

fn first(repository: &Repository) {
    deploy(repository, &[("a", b"1"), ("d/b", b"2")], &[]);
}

/// The reference leads to something whole, whatever it is.
fn is_whole(repository: &Repository) {
    let main = repository.references().unwrap()["refs/heads/main"];
    repository.verify(main, &[]).unwrap();
}

fn second(repository: &Repository) {
    let before = commit(&[("a", b"1"), ("d/b", b"2")], &[]).0;
    deploy(repository, &[("a", b"1"), ("d/b", b"changed")], &[before]);
}

#[test]
fn while_storing_and_setting_a_reference() {
    dying("crash::while_storing_and_setting_a_reference", first, second, is_whole);
}

fn collect(repository: &Repository) {
    // Of two packs the first holds garbage alone, the second what is kept too.
    repository.delete_garbage(&[], SystemTime::UNIX_EPOCH).unwrap();
    repository.delete_garbage(&[], SystemTime::now() + Duration::from_secs(3600)).unwrap();
}

fn with_garbage(repository: &Repository) {
    first(repository);
    let (_, mut objects) = commit(&[("a", b"1"), ("new", b"n")], &[]);
    objects.push((Kind::Blob, b"garbage".to_vec()));
    repository.store_pack(&pack(&objects)[..]).unwrap();
    deploy(repository, &[("a", b"1"), ("new", b"n")], &[]);
}

#[test]
fn while_collecting_garbage() {
    dying("crash::while_collecting_garbage", with_garbage, collect, is_whole);
}

fn heal(repository: &Repository) {
    let (_, objects) = commit(&[("a", b"1"), ("d/b", b"2")], &[]);
    let damaged = repository.scrub(|_| {}).unwrap();
    repository.heal(&damaged, &pack(&objects)[..]).unwrap();
}

#[test]
fn while_healing() {
    fn with_damage(repository: &Repository) {
        first(repository);
        damage(repository, blob_id(1, &b"1"[..]).unwrap());
    }
    dying("crash::while_healing", with_damage, heal, is_whole);
}

#[test]
fn while_checking_out() {
    fn out(repository: &Repository) {
        let main = repository.references().unwrap()["refs/heads/main"];
        let to = repository.path().with_file_name("out");
        if !to.exists() {
            repository.checkout(repository.commit_info(main).unwrap().tree, &to, None).unwrap();
        }
    }
    fn check(repository: &Repository) {
        let main = repository.references().unwrap()["refs/heads/main"];
        let to = repository.path().with_file_name("out");
        if to.exists() {
            let tree = repository.commit_info(main).unwrap().tree;
            assert_eq!(repository.verify_checkout(tree, &to).unwrap(), Vec::<PathBuf>::new());
        }
    }
    dying("crash::while_checking_out", first, out, check);
}

#[test]
fn while_being_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r");
    Repository::open(&path).unwrap();
    // Each file that is made last, missing.
    for file in ["HEAD", "config"] {
        std::fs::remove_file(path.join(file)).unwrap();
        if file == "config" {
            std::fs::remove_file(path.join("HEAD")).unwrap();
        }
        first(&Repository::open(&path).unwrap());
        if let Some(git) = Git::at(&path) {
            git.fsck();
        }
    }
}
