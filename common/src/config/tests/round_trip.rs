//! The effective configuration of each example is a file that means the same.

use super::*;
use crate::config::topology_hash;

/// Puts something in the place of the secrets, which are hidden.
fn with_secrets(text: &str) -> String {
    let hash =
        "$argon2id$v=19$m=65536,t=3,p=1$TLdu1yhkSlG+ADXSdbX0aw$V1bFU8m6yGV0sjYWtS4vlnqCYDPRq4iSFl0C9mB9v9A";
    text.replace("password: (hidden)", &format!("password: {hash}"))
        .replace("(hidden)", "Qx7vN2kZt9wLb4RfYs8HcJ3mPd6gVeUa")
}

#[test]
fn what_is_printed_is_a_file_that_means_the_same() {
    for file in yaml_files(Path::new(CONF)) {
        let first = load(&file, &options()).unwrap().config;
        let text = with_secrets(&first.effective);
        // Without the environment, and in another folder: nothing is left to be found.
        let none = LoadOptions::default();
        let again = load_str(&text, Path::new("/elsewhere/copal.yaml"), &none);
        let again = again.unwrap_or_else(|errors| panic!("{}: {errors}\n{text}", file.display())).config;
        assert_eq!(again.effective, first.effective, "{}", file.display());
        assert_eq!(topology_hash(&again), topology_hash(&first), "{}", file.display());
    }
}

#[test]
fn paths_of_imported_files_stay_theirs_and_variables_that_were_none_stay_none() {
    let files = Files::new(&[
        ("copal.yaml", "import: parts/clusters.yaml"),
        (
            "parts/clusters.yaml",
            "clusters: [{id: a, servers: [{id: s, address: 127.0.0.1}], access-log: {path: 'l-${server.id}'},\
             hosts: [{id: '', web-apps: [{id: '', root-directory: htdocs}],\
             dispatch: [{send-error: {regexp: ^/a, code: 500, message: 'a $${no}'}}, {dispatch: {}}]}]}]",
        ),
    ]);
    let text = files.load("copal.yaml", &options()).unwrap().config.effective.to_string();
    let folder = files.path("parts");
    assert!(text.contains(&format!("root-directory: {}/htdocs", folder.display())), "{text}");
    assert!(text.contains(&format!("path: {}/l-${{server.id}}", folder.display())), "{text}");
    assert!(text.contains("a $${no}"), "{text}");
}
