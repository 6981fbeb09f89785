//! The dependency rule of docs/architecture.md: who may import whom, among crates and among the wings of the web-tier.

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Each package, and the workspace's packages that it may use outside of tests.
const MAY_IMPORT: [(&str, &[&str]); 32] = [
    ("common", &[]),
    ("x509", &[]),
    ("acme-server", &[]),
    ("acme", &["proto", "triad-client", "x509", "common"]),
    ("cluster-port", &["common"]),
    ("proto", &["common"]),
    ("display-more", &[]),
    ("triad", &["cluster-port", "proto", "common"]),
    ("triad-client", &["cluster-port", "traces", "proto", "common"]),
    ("traces", &["proto"]),
    ("history", &["proto", "common"]),
    ("static-files", &[]),
    ("password-gate", &["common"]),
    ("http-cache", &[]),
    ("compression", &["http-cache", "common"]),
    ("disk-cache", &[]),
    ("jwt", &[]),
    ("convert", &[]),
    (
        "web-tier",
        &[
            "acme",
            "cluster-port",
            "compression",
            "disk-cache",
            "http-cache",
            "jwt",
            "password-gate",
            "static-files",
            "traces",
            "triad-client",
            "x509",
            "proto",
            "common",
        ],
    ),
    ("app-tier", &["cluster-port", "static-files", "traces", "triad-client", "proto", "common"]),
    ("archive", &[]),
    ("repository", &[]),
    ("import", &["archive", "repository", "common"]),
    ("deployments", &["cluster-port", "repository", "triad-client", "proto", "common"]),
    (
        "admin",
        &[
            "archive",
            "import",
            "cluster-port",
            "deployments",
            "password-gate",
            "repository",
            "triad-client",
            "proto",
            "common",
        ],
    ),
    ("deploy-tool", &["import", "repository", "common"]),
    ("sdk", &["proto"]),
    ("counter", &["sdk"]),
    ("cluster-demo", &["sdk"]),
    ("axum-sessions", &["sdk"]),
    (
        "copal",
        &[
            "acme",
            "cluster-port",
            "convert",
            "web-tier",
            "app-tier",
            "admin",
            "deploy-tool",
            "deployments",
            "history",
            "repository",
            "triad",
            "triad-client",
            "traces",
            "proto",
            "common",
            "cluster-demo",
            "counter",
        ],
    ),
    ("bench", &["cluster-port", "web-tier", "app-tier", "triad", "triad-client", "proto", "common", "sdk"]),
];

#[test]
fn crates_import_only_what_they_may() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names: Vec<_> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), MAY_IMPORT.len(), "{names:?}");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let (_, allowed) =
            MAY_IMPORT.iter().find(|(it, _)| *it == name).unwrap_or_else(|| panic!("{name} is new"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            let for_tests = dependency["kind"] == "dev";
            if names.contains(&used) && !for_tests {
                assert!(allowed.contains(&used), "{name} must not import {used}");
            }
        }
    }
}

/// The wings of `web-tier/src`, after the life of a request. Each knows those alone that stand behind it.
const WEB_TIER: [&str; 17] = [
    "tier",
    "listen",
    "tcp",
    "client",
    "proxy",
    "worker",
    "observe",
    "route",
    "error",
    "access",
    "limit",
    "cache",
    "upstream",
    "compress",
    "transport",
    "http1",
    "memory",
];

#[test]
fn wings_of_the_web_tier_know_those_alone_that_come_later() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../web-tier/src"));
    let mut wings: Vec<String> = fs::read_dir(folder).unwrap().map(|it| name(&it.unwrap().path())).collect();
    wings.retain(|it| !["lib", "tests", "properties"].contains(&it.as_str()));
    assert!(wings.iter().all(|it| WEB_TIER.contains(&it.as_str())), "a new wing has no place: {wings:?}");
    let mut wrong = Vec::new();
    for (number, wing) in WEB_TIER.into_iter().enumerate() {
        let mut files = sources(&folder.join(wing));
        files.push(folder.join(format!("{wing}.rs")));
        for file in files.into_iter().filter(|it| it.exists()) {
            let text = fs::read_to_string(&file).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for used in used_modules(text) {
                let place = WEB_TIER.iter().position(|it| *it == used);
                if place.is_some_and(|place| place < number) {
                    wrong.push(format!("{}: crate::{used}", file.strip_prefix(folder).unwrap().display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that run upwards:\n{}", wrong.join("\n"));
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// All Rust files of a folder that are not of tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|it| it.unwrap().path()).filter(|it| name(it) != "tests");
    paths.flat_map(|it| if it.is_dir() { sources(&it) } else { vec![it] }).collect()
}

/// What follows `crate::`, in each branch of a `use`.
fn used_modules(text: &str) -> Vec<&str> {
    let mut used = Vec::new();
    for rest in text.split("crate::").skip(1) {
        let Some(tree) = rest.strip_prefix('{') else {
            used.push(first_word(rest));
            continue;
        };
        let (mut depth, mut begins) = (0, true);
        for (at, it) in tree.char_indices() {
            match it {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                _ if begins && depth == 0 && !it.is_whitespace() => {
                    used.push(first_word(&tree[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    used
}

fn first_word(text: &str) -> &str {
    text.split(|it: char| !it.is_alphanumeric() && it != '_').next().unwrap_or_default()
}

#[test]
fn uses_are_found_in_every_branch() {
    let text = "use crate::{\n    a::{b, c::{d}},\n    e,\n}; use crate::f::g; let x = crate::h();";
    assert_eq!(used_modules(text), ["a", "e", "f", "h"]);
}
