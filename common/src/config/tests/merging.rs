//! What wins over what: imports, defaults, variables in their places.

use super::*;
use std::time::Duration;

#[test]
fn a_mapping_wins_over_its_imports_and_mappings_merge() {
    let files = Files::new(&[
        (
            "main.yaml",
            "import: [parts/one.yaml, parts/two.yaml]\nserver-default: {socket-timeout: 1s}\nclusters:\n  - import: \
             parts/cluster.yaml\n    id: c\n",
        ),
        (
            "parts/one.yaml",
            "server-default: {socket-timeout: 7s, keepalive-timeout: 20s, load-balance-weight: 1}\n",
        ),
        ("parts/two.yaml", "server-default: {load-balance-weight: 2}\nheartbeat-interval: 3s\n"),
        (
            "parts/cluster.yaml",
            "id: other\nservers:\n  - {id: a, address: 127.0.0.1}\nimport: deeper/cookie.yaml\n",
        ),
        ("parts/deeper/cookie.yaml", "session-cookie: SID\n"),
    ]);
    let config = files.load("main.yaml", &options()).unwrap().config;
    assert_eq!(config.heartbeat_interval, Duration::from_secs(3));
    let cluster = &config.clusters[0];
    assert_eq!((cluster.id.as_str(), cluster.session_cookie.as_str()), ("c", "SID"));
    let server = &cluster.servers[0];
    assert_eq!(server.socket_timeout, Duration::from_secs(1), "own keys win");
    assert_eq!(server.keepalive_timeout, Duration::from_secs(20), "mappings merge");
    assert_eq!(server.weight, 2, "the last import wins");
}

#[test]
fn the_nearest_default_wins() {
    let text = r#"
server-default: {socket-timeout: 1s, keepalive-timeout: 11s, load-balance-weight: 1}
web-app-default: {session-config: {session-timeout: 1m, session-max: 1, cookie: {domain: example.com, path: /a}}}
cluster-default:
  session-cookie: SID
  server-default: {keepalive-timeout: 12s}
host-default: {aliases: [www.example.com]}
clusters:
  - id: c
    servers: [{id: a, address: 127.0.0.1, load-balance-weight: 3, http: [{port: 80}]}]
    web-app-default: {session-config: {session-max: 2, cookie: {path: /b}}}
    hosts:
      - id: example.com
        web-app-default: {session-config: {save-timeout: 3s}}
        web-apps:
          - {id: "", root-directory: /srv}
          - {id: /b, root-directory: /srv, session-config: {session-timeout: 9m, cookie: {domain: ~}}}
"#;
    let config = load_text(text).unwrap().config;
    let cluster = &config.clusters[0];
    assert_eq!(cluster.session_cookie, "SID");
    let server = &cluster.servers[0];
    assert_eq!(
        (server.socket_timeout.as_secs(), server.keepalive_timeout.as_secs(), server.weight),
        (1, 12, 3)
    );
    assert_eq!(cluster.hosts[0].aliases, ["www.example.com"]);
    let [root, b] = &cluster.hosts[0].web_apps[..] else { panic!("{:?}", cluster.hosts[0]) };
    assert_eq!((root.session.session_max, root.session.session_timeout.as_secs()), (2, 60));
    assert_eq!(root.session.save_timeout, Duration::from_secs(3));
    assert_eq!(
        (root.session.cookie.domain.as_deref(), root.session.cookie.path.as_str()),
        (Some("example.com"), "/b")
    );
    assert_eq!((b.session.session_timeout.as_secs(), b.session.cookie.domain.as_deref()), (540, None));
    assert_eq!(b.session_explicit.cookie.domain, Some(None));
    assert_eq!(b.session_explicit.always_save_session, None);
}

#[test]
fn variables_mean_what_their_place_says() {
    let text = r#"
data-dir: ${HOME}/data
server-default:
  address: 127.0.0.${LAST:-1}
clusters:
  - id: app
    servers: [{id: "${cluster.id}-a", port: "${PORT:-6900}"}]
    hosts:
      - id: ${cluster.id}.example.com
        web-apps:
          - {id: "", root-directory: "${__DIR__}/${cluster.id}"}
    server-default: {http: [{address: localhost, port: 8080}]}
"#;
    let files = Files::new(&[("etc/copal.yaml", text)]);
    let config = files.load("etc/copal.yaml", &options()).unwrap().config;
    assert_eq!(config.data_dir, Path::new("/home/me/data"));
    let cluster = &config.clusters[0];
    let server = &cluster.servers[0];
    assert_eq!((server.id.as_str(), server.address.as_str(), server.port), ("app-a", "127.0.0.1", 6900));
    assert_eq!(server.http[0].address, "localhost");
    assert_eq!(cluster.hosts[0].id, "app.example.com");
    assert_eq!(cluster.hosts[0].web_apps[0].content, Content::Folder(files.path("etc/app")));
}

#[test]
fn a_server_knows_its_own_id_in_a_default() {
    let text = "server-default: {address: '${server.id}.${cluster.id}.internal'}\ncluster-key: 0123456789abcdef\n\
        clusters: [{id: c, servers: [{id: a}]}]";
    assert_eq!(load_text(text).unwrap().config.clusters[0].servers[0].address, "a.c.internal");
}

#[test]
fn relative_paths_belong_to_the_file_they_stand_in() {
    let files = Files::new(&[
        (
            "main.yaml",
            "clusters:\n  - id: c\n    servers: [{id: a, address: 127.0.0.1, http: [{port: 80}]}]\n    hosts:\n      - \
             {id: '', import: apps/host.yaml}\n",
        ),
        ("apps/host.yaml", "web-apps:\n  - {id: '', root-directory: shop}\n"),
    ]);
    let config = files.load("main.yaml", &options()).unwrap().config;
    assert_eq!(config.clusters[0].hosts[0].web_apps[0].content, Content::Folder(files.path("apps/shop")));
}

#[test]
fn anchors_and_merge_keys_work() {
    let text = "clusters:\n  - id: c\n    servers:\n      - &a {id: a, address: 127.0.0.1, load-balance-weight: 9}\n      - \
        {<<: *a, id: b, port: 6801}\n      - {<<: [{port: 1}, *a], id: c}\n";
    let config = load_text(text).unwrap().config;
    let read: Vec<_> =
        config.clusters[0].servers.iter().map(|it| (it.id.as_str(), it.port, it.weight)).collect();
    assert_eq!(read, [("a", 6800, 9), ("b", 6801, 9), ("c", 1, 9)]);
}

#[test]
fn an_import_may_be_named_by_a_variable() {
    let files = Files::new(&[
        (
            "a.yaml",
            "import: ${STAGE:-test}.yaml\nclusters: [{id: c, servers: [{id: a, address: 127.0.0.1}]}]",
        ),
        ("test.yaml", "heartbeat-interval: 1s"),
    ]);
    assert_eq!(files.load("a.yaml", &options()).unwrap().config.heartbeat_interval, Duration::from_secs(1));
}

#[test]
fn every_file_that_was_read_is_named_missing_ones_too() {
    let files = Files::new(&[
        (
            "a.yaml",
            "import: [b.yaml, parts/c.yaml]\nclusters: [{id: c, import: b.yaml, servers: [{id: a, address: 127.0.0.1}]}]",
        ),
        ("b.yaml", "{}"),
        ("parts/c.yaml", "heartbeat-interval: 1s"),
    ]);
    let expected = ["a.yaml", "b.yaml", "parts/c.yaml"].map(|name| files.path(name));
    let sorted = |read: &[PathBuf]| {
        let mut read = read.to_vec();
        read.sort();
        read
    };
    assert_eq!(sorted(&files.load("a.yaml", &options()).unwrap().files), expected);
    fs::remove_file(files.path("parts/c.yaml")).unwrap();
    let errors = load(&files.path("a.yaml"), &options()).unwrap_err();
    assert_eq!(sorted(errors.files()), expected);
}
