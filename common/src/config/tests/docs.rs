//! The documentation names every key that exists.

use super::{super::keys, *};

#[test]
fn every_key_is_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let text = fs::read_to_string(path).unwrap();
    for keys in keys::ALL {
        for key in keys.known {
            assert!(text.contains(&format!("`{key}`")), "`{key}` of {} is missing", keys.what);
        }
    }
}

#[test]
fn no_key_is_both_known_and_for_later() {
    for keys in keys::ALL {
        assert!(keys.later.iter().all(|key| !keys.known.contains(key)), "{keys:?}");
    }
}

/// The fenced examples of the documentation load; one that is a part of a file is marked otherwise.
#[test]
fn the_documented_examples_load() {
    [
        "access-log.md",
        "backends.md",
        "balancing.md",
        "configuration.md",
        "rules.md",
        "operating.md",
        "status-page.md",
        "queues.md",
        "jobs.md",
        "topics.md",
        "tcp-proxy.md",
    ]
    .into_iter()
    .for_each(examples_load);
}

fn examples_load(page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let text = fs::read_to_string(path).unwrap();
    let examples: Vec<&str> =
        text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        let loaded = if example.contains("clusters:") {
            load_text(example).map(|_| ())
        } else {
            let files = Files::new(&[("app.yaml", example)]);
            load_app_yaml(&files.path("app.yaml"), &options())
                .map(|_| ())
                .map_err(|errors| errors.to_string())
        };
        loaded.unwrap_or_else(|errors| panic!("{example}\n{errors}"));
    }
}
