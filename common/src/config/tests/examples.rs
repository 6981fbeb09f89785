//! The apps of `examples/`: each one's `app.yaml` loads.

use super::*;

fn app_yaml(path: &str) -> AppYaml {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(path);
    load_app_yaml(&path, &options()).unwrap_or_else(|errors| panic!("{}: {errors}", path.display()))
}

#[test]
fn the_app_files_of_the_examples_load() {
    for (path, name, command) in [
        ("counter/app.yaml", "counter", &["../../target/release/counter"][..]),
        ("counter/deploy/app.yaml", "counter", &["./counter"]),
        ("python/app.yaml", "visits", &["python3", "app.py"]),
    ] {
        let app = app_yaml(path);
        assert_eq!(app.name.as_deref(), Some(name));
        assert_eq!(app.command, command);
        assert_eq!(app.health.path.as_deref(), Some("/healthz"));
    }
}

#[test]
fn the_static_site_is_files_alone() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/static-site");
    assert!(folder.join("index.html").exists() && !folder.join("app.yaml").exists());
}
