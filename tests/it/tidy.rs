//! House rules that a machine can check: file length, what each file begins with, who names which library.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// No file is longer; one that grows splits along its nouns.
const LINES_MAX: usize = 600;

/// Libraries that one place alone names.
const CONFINED: [(&str, &str); 3] = [
    ("openraft", "triad/src/raft"),
    ("saphyr_parser", "common/src/config"),
    ("serde_yaml", "common/src/config"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir()
                && !name.starts_with('.')
                && name != "target"
                && name != "copal-demo"
                && name != "generated"
            {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let shown = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                found.push((shown, fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert!(found.len() > 50, "the sources are found");
    found
}

#[test]
fn every_file_says_what_it_is_for_and_is_not_too_long() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{path} does not begin with `//!` and what it is for");
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{path} has {lines} lines: split it along its nouns");
    }
}

#[test]
fn a_confined_library_is_named_in_its_place_alone() {
    for (path, text) in sources() {
        for (library, place) in CONFINED {
            let named = text.contains(&format!("{library}::")) || text.contains(&format!("use {library}"));
            assert!(
                !named || path.starts_with(place) || path.starts_with("tests/"),
                "{path} names {library}"
            );
        }
    }
}

#[test]
fn no_test_is_ignored_and_nothing_is_left_to_do() {
    for (path, text) in sources().iter().filter(|(path, _)| path != "tests/it/tidy.rs") {
        for word in ["#[ignore", "todo!(", "unimplemented!(", "FIXME"] {
            assert!(!text.contains(word), "{path} has {word}");
        }
    }
}
