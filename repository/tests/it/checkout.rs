//! Trees as folders.

use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

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
        let done = repository.checkout(root, &to, None).unwrap();
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
            repository.checkout(root, &to, None).unwrap_err().to_string().contains("check out to"),
            "it is there"
        );
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5, "nothing is left beside but the indexes");
}

#[test]
fn what_a_dead_process_left_is_replaced() {
    let (folder, repository) = fresh();
    let root = tree(&repository, 3);
    let left = folder.path().join(".version.partial");
    fs::create_dir(&left).unwrap();
    std::os::unix::fs::symlink("/", left.join("bin")).unwrap();
    repository.checkout(root, &folder.path().join("version"), None).unwrap();
    assert!(!left.exists());
}

#[test]
fn a_large_file_streams() {
    let (folder, repository) = fresh();
    let content = vec![7; 40 << 20];
    let id = deploy(&repository, &[("large", &content)], &[]);
    let to = folder.path().join("out");
    repository.checkout(repository.commit_info(id).unwrap().tree, &to, None).unwrap();
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
    let error = repository.checkout(tree, &to, None).unwrap_err().to_string();
    assert!(error.contains(&format!("object {blob} is damaged")), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let mut out = Vec::new();
    assert!(repository.pack(&[id], &[], &mut out).unwrap_err().to_string().contains("is damaged"));
    // A second copy serves, wherever it is.
    repository.store_pack(&pack(&[(Kind::Blob, content.clone())])[..]).unwrap();
    repository.checkout(tree, &to, None).unwrap();
    assert!(fs::read(to.join("large")).unwrap() == content);
}

/// A checkout whose index is older than no file of it, as after a moment.
fn settled(repository: &Repository, tree: ObjectId, to: &Path) {
    repository.checkout(tree, to, None).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    fs::File::open(index(to)).unwrap().set_modified(later).unwrap();
}

fn index(of: &Path) -> PathBuf {
    of.with_extension("index")
}

fn inode(path: PathBuf) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn a_spare_folder_becomes_the_new_version_and_what_nobody_touched_stays() {
    let (folder, repository) = fresh();
    let (first, second) = (tree(&repository, 40), tree(&repository, 60));
    let [old, to, fresh] = ["old", "new", "fresh"].map(|name| folder.path().join(name));
    settled(&repository, first, &old);
    let kept = inode(old.join("d1/f1"));
    // Of the same size, and with the time of before.
    let before = fs::metadata(old.join("d2/f2")).unwrap().modified().unwrap();
    fs::write(old.join("d2/f2"), "fIle 2\n").unwrap();
    fs::File::options().append(true).open(old.join("d2/f2")).unwrap().set_modified(before).unwrap();
    fs::write(old.join("d3/extra"), "made by an app").unwrap();
    fs::set_permissions(old.join("bin/run"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(old.join("d4"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::remove_dir_all(old.join("d0")).unwrap();
    std::os::unix::fs::symlink("/", old.join("d0")).unwrap();

    repository.checkout(second, &fresh, None).unwrap();
    let done = repository.checkout(second, &to, Some(&old)).unwrap();
    assert_eq!((done.files, listing(&to)), (62, listing(&fresh)));
    assert!(!old.exists() && !index(&old).exists());
    assert_eq!(inode(to.join("d1/f1")), kept);
    // And back, with fewer files.
    let back = folder.path().join("back");
    repository.checkout(first, &back, Some(&to)).unwrap();
    assert_eq!(repository.verify_checkout(first, &back).unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn a_spare_folder_of_which_nothing_is_known_is_written_anew() {
    let (folder, repository) = fresh();
    let root = tree(&repository, 10);
    for (name, spoil) in [
        ("no index", &(|path: &Path| fs::remove_file(path).unwrap()) as &dyn Fn(&Path)),
        ("a flipped bit", &|path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[100] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("cut off", &|path| fs::File::options().write(true).open(path).unwrap().set_len(50).unwrap()),
        ("too young", &|path| {
            let file = fs::File::open(path).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        }),
        ("a link", &|path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
        }),
    ] {
        let (old, to) = (folder.path().join("old"), folder.path().join("new"));
        settled(&repository, root, &old);
        let before = inode(old.join("d1/f1"));
        spoil(&index(&old));
        // The inode of a removed file may be given to the next one.
        let holder = fs::File::open(old.join("d1/f1")).unwrap();
        repository.checkout(root, &to, Some(&old)).unwrap();
        assert_ne!(inode(to.join("d1/f1")), before, "{name}");
        drop(holder);
        assert_eq!(repository.verify_checkout(root, &to).unwrap(), Vec::<PathBuf>::new(), "{name}");
        fs::remove_dir_all(&to).unwrap();
    }
    // Nor need it be there.
    repository.checkout(root, &folder.path().join("new"), Some(&folder.path().join("gone"))).unwrap();
}

#[test]
fn real_git_reads_the_index() {
    let (folder, repository) = fresh();
    let (root, to) = (tree(&repository, 20), folder.path().join("version"));
    settled(&repository, root, &to);
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.arg("--git-dir").arg(repository.path()).arg("--work-tree").arg(&to).args(arguments);
        let output = command.env("GIT_INDEX_FILE", index(&to)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(git(&["ls-files"]).lines().count(), 22);
    assert_eq!(git(&["write-tree"]).trim(), root.to_string());
    assert_eq!(git(&["diff-files", "--name-only"]), "");
    fs::write(to.join("d1/f1"), "changed").unwrap();
    assert_eq!(git(&["diff-files", "--name-only"]), "d1/f1\n");
}
