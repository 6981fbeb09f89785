//! The loader on whole files: every file of `conf/` loads, every file of `conf/invalid/` says exactly what is wrong.

mod app;
mod bounds;
mod docs;
mod effective;
mod examples;
mod health;
mod listener;
mod merging;
mod model;
mod port;
mod round_trip;
mod schema;
mod tcp_proxy;
mod traces;

use super::*;
use std::{collections::HashMap, fs};

const CONF: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../conf");

/// Options with the variables that the examples use.
fn options() -> LoadOptions {
    let environment =
        HashMap::from([("COPAL_CLUSTER_KEY", "Qx7vN2kZt9wLb4RfYs8HcJ3mPd6gVeUa"), ("HOME", "/home/me")]);
    let environment =
        environment.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    LoadOptions { environment, ..LoadOptions::default() }
}

/// A folder with files, the first of which is loaded.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self, name: &str, options: &LoadOptions) -> Result<Loaded, String> {
        load(&self.path(name), options).map_err(|errors| self.shown(&errors.to_string()))
    }

    /// A text without the folder's changing name.
    fn shown(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// Loads a text as `copal.yaml`.
fn load_text(text: &str) -> Result<Loaded, String> {
    Files::new(&[("copal.yaml", text)]).load("copal.yaml", &options())
}

/// The messages of the errors of a text, without places.
fn messages(text: &str) -> Vec<String> {
    let files = Files::new(&[("copal.yaml", text)]);
    let errors = load(&files.path("copal.yaml"), &options()).unwrap_err();
    errors.problems().iter().map(|problem| files.shown(problem.message())).collect()
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

#[test]
fn every_example_loads_without_a_warning() {
    let files = yaml_files(Path::new(CONF));
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        let loaded = load(&file, &options()).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(loaded.warnings, [], "{}", file.display());
    }
}

/// `UPDATE_EXPECT=1` writes the expected texts anew.
#[test]
fn every_invalid_file_says_exactly_what_is_wrong() {
    let files = yaml_files(&Path::new(CONF).join("invalid"));
    assert!(files.len() >= 20, "{}", files.len());
    let prefix = format!("{CONF}/");
    for file in files {
        let errors = load(&file, &options()).expect_err(&file.display().to_string());
        let text = errors.to_string().replace(&prefix, "conf/") + "\n";
        assert!(!text.contains("secret indeed"), "a secret is shown:\n{text}");
        expect_test::expect_file![file.with_extension("expected")].assert_eq(&text);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let files = Files::new(&[]);
    let fault = |name: &str| files.load(name, &options()).unwrap_err();
    expect_test::expect![[r#"
        error: can't read `missing.yaml`: there is no such file
         --> missing.yaml

        1 error"#]]
    .assert_eq(&fault("missing.yaml"));
    fs::create_dir(files.path("folder.yaml")).unwrap();
    assert!(fault("folder.yaml").contains("it is a folder, a file was expected"));
    fs::write(files.path("latin.yaml"), b"a: 1\nb: \xe9\n").unwrap();
    assert!(fault("latin.yaml").contains("it is not UTF-8 text: byte 0xe9 on line 2"));
    let large = fs::File::create(files.path("large.yaml")).unwrap();
    large.set_len((16 << 20) + 1).unwrap();
    assert!(fault("large.yaml").contains("it is larger than 16 MiB"));
    if cfg!(unix) {
        let device = load(Path::new("/dev/zero"), &options()).unwrap_err().to_string();
        assert!(device.contains("it is not a regular file"), "{device}");
    }
}

#[test]
fn the_environment_is_not_printed() {
    assert!(!format!("{:?}", options()).contains("Qx7vN2kZ"));
    let loaded = load(&Path::new(CONF).join("one-web-two-apps.yaml"), &options()).unwrap();
    assert_eq!(loaded.config.cluster_key.bytes(), b"Qx7vN2kZt9wLb4RfYs8HcJ3mPd6gVeUa");
    assert!(!format!("{loaded:?}").contains("Qx7vN2kZ"));
}

#[test]
fn this_process_environment_can_be_read() {
    assert_eq!(
        LoadOptions::from_environment().environment.get("CARGO_PKG_NAME").map(String::as_str),
        Some("common")
    );
}

#[test]
fn a_text_is_loaded_as_a_file_would_be() {
    let text = "data-dir: data\nclusters: [{id: c, servers: [{id: a, address: 127.0.0.1}]}]";
    let config = load_str(text, Path::new("/srv/demo.yaml"), &options()).unwrap().config;
    assert_eq!(
        (config.file.as_path(), config.data_dir.as_path()),
        (Path::new("/srv/demo.yaml"), Path::new("/srv/data"))
    );
    let errors = load_str("clusters: 1", Path::new("demo"), &options()).unwrap_err();
    assert_eq!((errors.problems()[0].file(), errors.problems()[0].line()), (Path::new("demo"), 1));
}
