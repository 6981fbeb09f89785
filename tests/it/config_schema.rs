//! `copal schema`: the files that are right fit it, and those with a fault that a schema can see do not.

use crate::{cluster::copal, schema::wrong};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Of `conf/invalid`: what is wrong by a key, a kind of value, a word, or a bound.
const SEEN: [&str; 9] = [
    "durations.yaml",
    "misplaced-key.yaml",
    "not-in-this-version.yaml",
    "unknown-key.yaml",
    "values.yaml",
    "wrong-types.yaml",
    "ports.yaml",
    "compression.yaml",
    "access-log.yaml",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn schema(arguments: &[&str]) -> Value {
    let output = Command::new(copal()).arg("schema").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn faults(schema: &Value, path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let read = serde_yaml::from_str::<serde_yaml::Value>(&text);
    let mut value = read.unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
    // `<<` of YAML 1.1, as Copal and editors take it.
    value.apply_merge().unwrap();
    let value = serde_json::to_value(value).unwrap();
    // What a document says of itself is no rule for values.
    let words = schema
        .as_object()
        .unwrap()
        .iter()
        .filter(|(word, _)| !["$schema", "$defs", "title"].contains(&word.as_str()));
    let own: Value =
        words.map(|(word, it)| (word.clone(), it.clone())).collect::<serde_json::Map<_, _>>().into();
    wrong(schema, &own, &value, "file")
}

fn files(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("invalid") && !path.ends_with("target") {
            found.extend(files(&path, name));
        } else if path.file_name().unwrap().to_string_lossy().ends_with(name) {
            found.push(path);
        }
    }
    found
}

#[test]
fn the_examples_fit_the_schema() {
    let cluster = schema(&[]);
    let app = schema(&["--app"]);
    let (conf, examples) =
        (files(&root().join("conf"), ".yaml"), files(&root().join("examples"), "app.yaml"));
    assert!(conf.len() >= 5 && examples.len() >= 5, "{conf:?} {examples:?}");
    for (schema, path) in conf.iter().map(|it| (&cluster, it)).chain(examples.iter().map(|it| (&app, it))) {
        assert_eq!(faults(schema, path), Vec::<String>::new(), "{}", path.display());
    }
}

#[test]
fn faults_that_a_schema_can_see_are_seen() {
    let schema = schema(&[]);
    for name in SEEN {
        let path = root().join("conf/invalid").join(name);
        assert_ne!(faults(&schema, &path), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn what_check_prints_is_a_file_that_check_takes() {
    let folder = tempfile::tempdir().unwrap();
    let check = |path: &Path, print: &[&str]| {
        let mut command = Command::new(copal());
        command.arg("check").arg("--conf").arg(path).args(print);
        command.env("COPAL_CLUSTER_KEY", "Qx7vN2kZt9wLb4RfYs8HcJ3mPd6gVeUa").output().unwrap()
    };
    let printed = check(&root().join("conf/one-web-two-apps.yaml"), &["--print"]);
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.status.success() && text.contains("cluster-key: (hidden)"), "{text}");
    assert!(text.starts_with("# ") && !text.contains("Qx7vN2kZt9wLb4RfYs8HcJ3mPd6gVeUa"), "{text}");
    let file = folder.path().join("printed.yaml");
    fs::write(&file, text.replace("cluster-key: (hidden)", "cluster-key: ${COPAL_CLUSTER_KEY}")).unwrap();
    let again = check(&file, &[]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
}

#[test]
fn convert_says_by_its_status_whether_something_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let convert = |text: &str| {
        let file = folder.path().join("nginx.conf");
        fs::write(&file, text).unwrap();
        let output = Command::new(copal()).arg("convert").arg(&file).output().unwrap();
        let said =
            String::from_utf8(output.stderr).unwrap().replace(&format!("{}/", folder.path().display()), "");
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), said)
    };
    let (status, yaml, said) =
        convert("server { listen 8080; location / { proxy_pass http://127.0.0.1:9; } }");
    assert!(status == 0 && said.is_empty() && yaml.contains("http-proxy"), "{status} {said}");
    let (status, yaml, said) = convert("server {\n listen 8080;\n autoindex on;\n}");
    assert_eq!((status, said.as_str()), (1, "nginx.conf:3: autoindex: folders are not listed\n"));
    assert!(yaml.contains("# "), "{yaml}");
    let (status, yaml, said) = convert("server {");
    assert!(
        status == 2 && yaml.is_empty() && said.contains("nginx.conf:1:8: this `{` has no `}`"),
        "{status} {said}"
    );
}
