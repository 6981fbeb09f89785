//! Which variables of the environment the file takes its secrets from, by where it uses them.

use super::{
    model::Config,
    node::{Node, Value},
    secrecy::is_secret,
    servers_own::ServersOwn,
    variables,
};
use std::collections::BTreeSet;

/// Fields of requests and answers that hold secrets, in lower case.
const SECRET_FIELDS: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "set-cookie"];

impl ServersOwn {
    /// Of a server with this configuration.
    pub fn new(config: &Config) -> Self {
        Self { names: config.secret_variables.clone(), key: config.cluster_key.clone() }
    }
}

/// The variables that a file takes its secrets from: in the value of a key such as `cluster-key` or `password`, in that of a field such as
/// `Authorization`, or of a name that says so itself, wherever it stands.
pub(super) fn secret_variables(tree: &Node) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk(tree, false, &mut found);
    found
}

fn walk(node: &Node, secret: bool, found: &mut BTreeSet<String>) {
    match &node.value {
        Value::Scalar { text, .. } => {
            found.extend(variables::names(text).filter(|name| secret || is_secret(name)).map(str::to_owned));
        }
        Value::List(items) => items.iter().for_each(|item| walk(item, secret, found)),
        Value::Map(entries) => {
            let field =
                entries.iter().filter(|entry| entry.key == "name").any(|entry| is_secret_field(&entry.value));
            for entry in entries {
                // `cluster-key: {file: path}` names no secret.
                let inner = is_secret(&entry.key) && !matches!(entry.value.value, Value::Map(_));
                walk(&entry.value, inner || (field && entry.key == "value"), found);
            }
        }
    }
}

pub(super) fn is_secret_field(node: &Node) -> bool {
    let Value::Scalar { text, .. } = &node.value else { return false };
    let name = text.to_lowercase();
    SECRET_FIELDS.contains(&name.as_str()) || is_secret(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LoadOptions, load_app_yaml, load_str};
    use std::{collections::HashMap, path::Path};

    const FILE: &str = "
cluster-key: ${MY_KEY}
data-dir: ${DATA}/x
admin: {users: [{name: ops, password: '${HASH:-${OLD_HASH}}', roles: view}]}
clusters:
  - id: web-tier
    servers: [{id: a, address: 127.0.0.1, http: [{port: 80}]}]
    hosts:
      - id: ''
        dispatch:
          - set-request-header: {name: Authorization, value: 'Bearer ${BACKEND}'}
          - set-request-header: {name: X-Region, value: '${REGION}'}
          - set-request-header: {name: X-Say, value: '${SOME_TOKEN}'}
          - not-found: {}
";

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn environment() -> HashMap<String, String> {
        let hash = "$argon2id$v=19$m=65536,t=3,p=1$TLdu1yhkSlG+ADXSdbX0aw$V1bFU8m6yGV0sjYWtS4vlnqCYDPRq4iSFl0C9mB9v9A";
        let all = [
            ("MY_KEY", KEY),
            ("DATA", "/d"),
            ("OLD_HASH", hash),
            ("BACKEND", "b"),
            ("REGION", "r"),
            ("SOME_TOKEN", "t"),
        ];
        all.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    fn servers_own() -> ServersOwn {
        let options = LoadOptions { environment: environment(), ..LoadOptions::default() };
        ServersOwn::new(&load_str(FILE, Path::new("/srv/copal.yaml"), &options).unwrap().config)
    }

    #[test]
    fn secrets_are_known_by_their_use() {
        let own = servers_own();
        for name in ["MY_KEY", "HASH", "OLD_HASH", "BACKEND", "SOME_TOKEN", "COPAL_X", "NOTIFY_SOCKET"] {
            assert!(own.has(name.as_bytes(), b"x"), "{name}");
        }
        for name in ["DATA", "REGION", "PATH", "DATABASE_URL", "MY_KEY2", "NOTIFY"] {
            assert!(!own.has(name.as_bytes(), b"x"), "{name}");
        }
        assert!(own.has(b"UNDER_ANOTHER_NAME", format!("key={KEY};").as_bytes()));
        assert!(!format!("{own:?}").contains(KEY));
        assert!(!ServersOwn::default().has(b"A", b""), "no key is in nothing");
    }

    #[test]
    fn an_app_can_not_ask_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.yaml");
        let load = |value: &str| {
            std::fs::write(&file, format!("command: [./app]\nenv: {{A: '{value}'}}\n")).unwrap();
            let mut environment = environment();
            environment.insert("COPY".to_owned(), KEY.to_owned());
            let options = LoadOptions { environment, servers_own: servers_own(), ..LoadOptions::default() };
            load_app_yaml(&file, &options).map_err(|errors| errors.to_string())
        };
        assert_eq!(load("${REGION}").unwrap().env, [("A".to_owned(), "r".to_owned())]);
        for name in ["MY_KEY", "COPY", "COPAL_CLUSTER_KEY", "SOME_TOKEN"] {
            let refused = load(&format!("${{{name}:-x}}")).unwrap_err();
            assert!(
                refused.contains(&format!("`${{{name}}}` is the server's own and not for apps")),
                "{refused}"
            );
        }
    }
}
