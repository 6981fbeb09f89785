//! The dependency rule of docs/architecture.md: who may import whom.

use serde_json::Value;
use std::process::Command;

/// Each package, and the workspace's packages that it may use outside of tests.
const MAY_IMPORT: [(&str, &[&str]); 21] = [
    ("common", &[]),
    ("cluster-port", &["common"]),
    ("proto", &["common"]),
    ("display-more", &[]),
    ("triad", &["cluster-port", "proto", "common"]),
    ("triad-client", &["cluster-port", "traces", "proto", "common"]),
    ("traces", &["proto"]),
    ("history", &["proto", "common"]),
    ("static-files", &[]),
    ("web-tier", &["cluster-port", "static-files", "traces", "triad-client", "proto", "common"]),
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
            "repository",
            "triad-client",
            "proto",
            "common",
        ],
    ),
    ("deploy-tool", &["import", "repository", "common"]),
    ("sdk", &["proto"]),
    ("counter", &["sdk"]),
    (
        "copal",
        &[
            "cluster-port",
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
