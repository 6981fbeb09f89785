//! The effective configuration: what it has in it, and that no secret is.

use crate::config::{LoadOptions, load_str};
use std::{collections::HashMap, path::Path};

const KEY: &str = "planted-cluster-key-0123456789";
const ALSO: &str = "planted-other-key-9876543210";
const HASH: &str =
    "$argon2id$v=19$m=65536,t=3,p=1$TLdu1yhkSlG+ADXSdbX0aw$V1bFU8m6yGV0sjYWtS4vlnqCYDPRq4iSFl0C9mB9v9A";

const FILE: &str = r#"
cluster-key: ${MY_KEY}
cluster-key-also: planted-other-key-9876543210
data-dir: ${DATA:-/var}/copal
admin: {users: [{name: ops, password: "${OPS_HASH}", roles: [view]}]}
server-default: {socket-timeout: 30s, http: [{port: 8080}]}
web-app-default: {session-config: {session-timeout: 10m}}
clusters:
  - id: app-tier
    server-default: {keepalive-timeout: 20s, port: 6801, http: []}
    servers:
      - {id: app-a, address: 127.0.0.1}
      - {id: app-b, address: 127.0.0.2, socket-timeout: 40s}
    hosts: [{id: "", web-apps: [{id: "", root-directory: "/srv/${cluster.id}"}]}]
  - id: web-tier
    servers: [{id: web-a, address: 127.0.0.3, port: "${WEB_PORT}"}]
    access-log: {path: "/var/log/${server.id}.log"}
    hosts:
      - id: ""
        dispatch:
          - set-request-header: {name: X-Gate, value: planted-gate-word}
          - set-header: {name: X-Frame-Options, value: DENY}
          - set-header: {name: X-Api-Key, value: planted-api-key}
          - set-header: {name: X-Odd, value: "before ${MY_KEY} behind"}
          - forbidden: {regexp: ^/private, if: {not: {header: {name: X-Token, regexp: planted-token-word}}}}
          - send-error: {regexp: ^/old, code: 503, message: "see https://user:planted-password@example.com/"}
          - set-header: {name: X-Region, value: "${REGION}"}
          - set-header: {name: X-Said, value: "${SOME_TOKEN}"}
          - load-balance: {regexp: "", cluster: app-tier}
"#;

fn effective() -> String {
    effective_with(LoadOptions::default())
}

fn effective_with(options: LoadOptions) -> String {
    let environment = [
        ("MY_KEY", KEY),
        ("OPS_HASH", HASH),
        ("WEB_PORT", "6900"),
        ("REGION", "north"),
        ("SOME_TOKEN", "planted-variable-word"),
    ];
    let environment: HashMap<_, _> = environment.map(|(name, value)| (name.into(), value.into())).into();
    let options = LoadOptions { environment, ..options };
    let loaded = load_str(FILE, Path::new("/etc/copal.yaml"), &options);
    loaded.unwrap_or_else(|errors| panic!("{errors}")).config.effective.to_string()
}

#[test]
fn no_secret_is_in_it_wherever_it_was_planted() {
    let text = effective();
    for secret in [KEY, ALSO, HASH, "argon2", "planted"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    assert_eq!(text.matches("(hidden)").count(), 9, "{text}");
}

#[test]
fn defaults_variables_and_types_are_in_it() {
    let text = effective();
    for words in [
        "data-dir: /var/copal\n",
        "socket-timeout: 40s",
        "port: 6801\n",
        "port: 6900\n",
        "session-timeout: 10m",
        "root-directory: /srv/app-tier\n",
        "value: north\n",
        "value: DENY\n",
        "http: []\n",
        "regexp: ''\n",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(text.matches("socket-timeout: 30s").count(), 2, "{text}");
    assert_eq!(text.matches("keepalive-timeout: 20s").count(), 2, "{text}");
    assert!(!text.contains("server-default") && !text.contains("${MY_KEY}"), "{text}");
}

#[test]
fn what_the_command_line_says_is_in_it() {
    let (data_dir, stage) = (Some("/elsewhere".into()), Some("preview".to_owned()));
    let text = effective_with(LoadOptions { data_dir, stage, port_offset: 100, ..LoadOptions::default() });
    for words in
        ["data-dir: /elsewhere\n", "stage: preview\n", "port: 6901\n", "port: 7000\n", "port: 8180\n"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
}

/// What is written is a configuration that means the same, but for the secrets.
#[test]
fn it_is_yaml_that_reads_the_same_again() {
    let text = effective();
    let again: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    assert_eq!(again["clusters"][0]["servers"][1]["id"], "app-b");
    assert_eq!(again["clusters"][1]["servers"][0]["http"][0]["port"], 8080);
}
