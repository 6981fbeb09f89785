//! What goes wrong at start: each a clear message and the right exit status.

use crate::cluster::{Cluster, copal};
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(copal()).args(arguments).output().unwrap()
}

fn start(cluster: &Cluster, id: &str, more: &[&str]) -> (Option<i32>, String) {
    let file = cluster.file();
    let mut arguments = vec!["start", "--conf", file.to_str().unwrap(), "--server", id];
    arguments.extend(more);
    let output = run(&arguments);
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn check_accepts_a_good_file_and_prints_every_error_of_a_bad_one() {
    let cluster = Cluster::prepare(3, |_| {});
    let file = cluster.file();
    let output = run(&["check", "--conf", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("is valid: 2 clusters, 4 servers"),
        "{output:?}"
    );

    let bad = std::fs::read_to_string(&file).unwrap().replace("heartbeat-interval", "hartbeat-interval");
    std::fs::write(&file, bad.replace("cluster: app-tier", "cluster: app-teer")).unwrap();
    let output = run(&["check", "--conf", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    for expected in ["hartbeat-interval", "heartbeat-interval", "app-teer", "copal.yaml:3:1", "^"] {
        assert!(said.contains(expected), "{expected} is not in:\n{said}");
    }
}

#[test]
fn check_reads_the_certificates_and_says_what_is_wrong_with_them_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copal.yaml");
    let text = "clusters:\n- id: web\n  servers:\n  - id: web-a\n    address: 127.0.0.1\n    http:\n    - port: 8443\n      \
                tls: {certs: [{cert: site.pem, key: site.key}]}\n  - {id: web-b, address: 127.0.0.1, port: 6801}\n  \
                hosts: [{id: '', web-apps: [{id: '', root-directory: .}]}]\n";
    std::fs::write(&file, text).unwrap();
    std::fs::write(folder.path().join("site.key"), "no key").unwrap();
    let file = file.to_str().unwrap();
    let output = run(&["check", "--conf", file]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    for expected in
        ["site.pem: there is no such file", "site.key: no private key in it", "copal.yaml:8:28", "^^^^^^^^"]
    {
        assert!(said.contains(expected), "{expected} is not in:\n{said}");
    }
    // The files are on the server that listens, and need not be elsewhere.
    assert_eq!(run(&["check", "--conf", file, "--server", "web-a"]).status.code(), Some(2));
    assert_eq!(run(&["check", "--conf", file, "--server", "web-b"]).status.code(), Some(0));
    let output = run(&["check", "--conf", file, "--server", "web-x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no server `web-x`"), "{output:?}");
}

#[test]
fn bad_usage_and_bad_files_exit_with_2() {
    assert_eq!(run(&["start"]).status.code(), Some(2));
    assert_eq!(run(&["begin"]).status.code(), Some(2));
    let output = run(&["check", "--conf", "/nowhere/copal.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/copal.yaml"), "{output:?}");
    let cluster = Cluster::prepare(1, |_| {});
    let (status, said) = start(&cluster, "app-x", &[]);
    assert_eq!(status, Some(2));
    assert!(said.contains("no server `app-x`") && said.contains("app-a, web-a"), "{said}");
}

#[test]
fn an_address_in_use_is_named() {
    let cluster = Cluster::prepare(1, |_| {});
    let _cluster_port = std::net::TcpListener::bind(cluster.configuration.cluster_port(0)).unwrap();
    let (status, said) = start(&cluster, "app-a", &[]);
    assert_eq!(status, Some(1));
    assert!(said.contains(&cluster.configuration.cluster_port(0)) && said.contains("in use"), "{said}");

    let _web = std::net::TcpListener::bind(cluster.web()).unwrap();
    let (status, said) = start(&cluster, "web-a", &[]);
    assert_eq!(status, Some(1));
    assert!(said.contains(&cluster.web()) && said.contains("in use"), "{said}");
}

#[tokio::test]
async fn a_second_web_tier_on_the_same_port_is_refused() {
    let cluster = Cluster::start(1).await;
    // Another server of another cluster that shares the public address: SO_REUSEPORT must not let it in silently.
    let other = cluster.folder().join("other.yaml");
    let text = cluster.configuration.yaml().replace("data-dir: data", "data-dir: other");
    std::fs::write(&other, text.replace("port: 68", "port: 78")).unwrap();
    let output = run(&["start", "--conf", other.to_str().unwrap(), "--server", "web-a"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&cluster.web()) && said.contains("in use"), "{said}");
}

#[test]
fn an_unwritable_data_folder_is_named() {
    let cluster = Cluster::prepare(1, |_| {});
    // A file where the folder should be: not even root can write below it.
    let place = cluster.folder().join("taken");
    std::fs::write(&place, "").unwrap();
    let (status, said) = start(&cluster, "app-a", &["--data-dir", place.to_str().unwrap()]);
    assert_eq!(status, Some(1));
    assert!(said.contains("taken") && said.contains("can't be made"), "{said}");
}

#[tokio::test]
async fn a_second_process_on_the_same_data_folder_is_refused() {
    let cluster = Cluster::start(1).await;
    let (status, said) = start(&cluster, "app-a", &[]);
    assert_eq!(status, Some(1));
    assert!(said.contains("in use by another process") && said.contains("pid"), "{said}");
    assert_eq!(cluster.user().count().await.0, 1);
}

#[test]
fn an_app_that_never_gets_healthy_says_what_it_said() {
    // The fourth server has no part in the hub, so that nobody needs it without its app.
    let cluster = Cluster::prepare(4, |it| {
        it.command = ["sh", "-c", "echo no database at db.example; sleep 600"].map(str::to_owned).to_vec();
        it.app = vec!["health: {path: /healthz, interval: 100ms, start-timeout: 1s}".into()];
    });
    let (status, said) = start(&cluster, "app-d", &[]);
    assert_eq!(status, Some(1));
    for expected in
        ["app default/ on server app-d", "not healthy", "expected GET /healthz", "no database at db.example"]
    {
        assert!(said.contains(expected), "{expected} is not in:\n{said}");
    }
}

/// An upgrade that has learned to judge keys takes nothing down; whoever checks a file is told.
#[test]
fn a_cluster_key_that_can_be_guessed_is_refused_by_check_and_keeps_no_server_down() {
    let cluster = Cluster::prepare(1, |_| {});
    let text = cluster.configuration.yaml();
    let key = text.lines().next().unwrap();
    let text = text.replace(key, "cluster-key: a phrase that one remembers").replace(
        "  - id: web-tier\n    servers:\n",
        "  - id: web-tier\n    servers:\n      - {id: web-z, address: 192.0.2.1}\n",
    );
    std::fs::write(cluster.file(), text).unwrap();
    let output = run(&["check", "--conf", cluster.file().to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("can be guessed") && said.contains("openssl rand -base64 32"), "{said}");
    // It comes as far as its port, which somebody else has.
    let _port = std::net::TcpListener::bind(cluster.configuration.cluster_port(0)).unwrap();
    let (status, said) = start(&cluster, "app-a", &[]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("the cluster key can be guessed") && said.contains("in use"), "{said}");
}
