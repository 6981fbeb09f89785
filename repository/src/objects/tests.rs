//! Encodings beside what real Git makes of the same.

use super::*;
use proptest::prelude::*;

#[test]
fn ids_are_gits() {
    let empty = TreeBuilder::new().build().unwrap();
    assert_eq!(empty.0.to_string(), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
    assert_eq!(blob_id(0, &b""[..]).unwrap().to_string(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    assert_eq!(blob_id(6, &b"hello\n"[..]).unwrap().to_string(), "ce013625030ba8dba906f756967f9e9ca394464a");
    assert!(blob_id(5, &b"hello\n"[..]).is_err());
    assert!(blob_id(7, &b"hello\n"[..]).is_err());
}

#[test]
fn trees_are_sorted_as_git_sorts_them() {
    let id = blob_id(0, &b""[..]).unwrap();
    let mut builder = TreeBuilder::new();
    for path in ["a/b", "a.b", "a0", "z/y/x"] {
        builder.file(path, false, id);
    }
    let (root, trees) = builder.build().unwrap();
    let (_, content) = trees.iter().find(|(id, _)| *id == root).unwrap();
    let names: Vec<_> =
        entries(content).map(|it| String::from_utf8_lossy(it.unwrap().name).into_owned()).collect();
    assert_eq!(names, ["a.b", "a", "a0", "z"]);
    assert_eq!(trees.len(), 4);
    for (id, content) in &trees {
        assert_eq!(id_of(Kind::Tree, content).unwrap(), *id);
        check(Kind::Tree, content).unwrap();
    }
}

#[test]
fn paths_that_no_tree_may_hold() {
    let id = blob_id(0, &b""[..]).unwrap();
    let long = "x".repeat(256);
    let deep = "d/".repeat(129) + "f";
    let wrong = [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "a/../b",
        ".git/config",
        "a/.GIT/b",
        "GIT~1/x",
        ".git\u{200c}",
        ".git ",
        ".gitmodules",
        "x\\.git\\y",
        &long,
        &deep,
    ];
    for path in wrong {
        let mut builder = TreeBuilder::new();
        builder.file(path, false, id);
        assert!(builder.build().is_err(), "{path:?}");
    }
    for (first, second) in [("a", "a"), ("a", "a/b"), ("a/b", "a")] {
        let mut builder = TreeBuilder::new();
        builder.file(first, false, id);
        builder.link(second, id);
        assert!(matches!(builder.build(), Err(TreeError::Twice(_))), "{first} {second}");
    }
    let mut builder = TreeBuilder::new();
    for path in [".gitignore", ".github/x", "git", "a\\b", "aux", "ü", "a b", "..."] {
        builder.file(path, true, id);
    }
    builder.build().unwrap();
}

#[test]
fn commits_both_ways() {
    let tree = TreeBuilder::new().build().unwrap().0;
    let author =
        Signature { name: "A <b>\n c".to_owned(), email: "x@y\n>".to_owned(), time_s: 1_700_000_000 };
    let commit = NewCommit { tree, parents: vec![tree], author, message: "Why\0\n\nbecause\n\n".to_owned() };
    let (id, content) = commit.encode();
    assert_eq!(id_of(Kind::Commit, &content).unwrap(), id);
    let read = Commit::parse(&content).unwrap();
    assert_eq!((read.tree, read.parents, read.message.as_str()), (tree, vec![tree], "Why\n\nbecause\n"));
    assert_eq!(
        read.author,
        Signature { name: "A b c".to_owned(), email: "x@y".to_owned(), time_s: 1_700_000_000 }
    );
}

#[test]
fn commits_that_git_refuses() {
    let tree = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n";
    let who = |text: &str| format!("{tree}author {text}\ncommitter A <a> 1 +0000\n\nx");
    assert_eq!(check(Kind::Commit, who("A <a> 1 +0000").as_bytes()), Ok(()));
    let wrong = [
        "<a> 1 +0000",
        "A a> 1 +0000",
        "A<a> 1 +0000",
        "A <a 1 +0000",
        "A <a>1 +0000",
        "A <a> 01 +0000",
        "A <a>  1 +0000",
        "A <a> x +0000",
        "A <a> 1 0000",
        "A <a> 1 +000",
        "A <a> 1",
        "A <a> 99999999999999999999 +0000",
        "A > <a> 1 +0000",
        "A <a\0> 1 +0000",
    ];
    for text in wrong {
        assert!(check(Kind::Commit, who(text).as_bytes()).is_err(), "{text}");
    }
    for text in
        ["", "tree x\n", tree, &format!("{tree}author A <a> 1 +0000\ncommitter A <a> 1 +0000\nencoding x")]
    {
        assert!(check(Kind::Commit, text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn trees_that_git_refuses() {
    let entry = |mode: &str, name: &str| [format!("{mode} {name}\0").as_bytes(), &[1; 20]].concat();
    let wrong = [
        entry("040000", "a"),
        entry("100664", "a"),
        entry("160000", "a"),
        entry("100644", ""),
        entry("100644", "a/b"),
        entry("40000", ".Git"),
        entry("100644", ".."),
        [entry("100644", "b"), entry("100644", "a")].concat(),
        [entry("100644", "a"), entry("100755", "a")].concat(),
        [entry("100644", "a"), entry("100644", "a.b"), entry("40000", "a")].concat(),
        [b"100644 a\0".as_slice(), &[0; 20]].concat(),
        entry("100644", "a")[..20].to_vec(),
        b"100644".to_vec(),
    ];
    for content in wrong {
        assert!(check(Kind::Tree, &content).is_err(), "{:?}", String::from_utf8_lossy(&content));
    }
    assert_eq!(check(Kind::Tree, &[entry("100644", "a.b"), entry("40000", "a")].concat()), Ok(()));
}

proptest! {
    #[test]
    fn any_content_is_taken_or_refused(kind in 0..4usize, begin in 0..4usize, rest: Vec<u8>) {
        let begins = [b"".as_slice(), b"100644 a\0", b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor ", b"object 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n"];
        let kind = [Kind::Commit, Kind::Tree, Kind::Blob, Kind::Tag][kind];
        let _ = check(kind, &[begins[begin], &rest].concat());
    }

    #[test]
    fn whatever_is_in_a_signature_git_takes_the_commit(name: String, email: String, time_s: i64, message: String) {
        let tree = ObjectId::from([1; 20]);
        let commit = NewCommit { tree, parents: Vec::new(), author: Signature { name, email, time_s }, message };
        prop_assert_eq!(check(Kind::Commit, &commit.encode().1), Ok(()));
    }
}
