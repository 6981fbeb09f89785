//! An access log that comes, goes, and moves.

use super::{
    backend::{echo, gated},
    cluster::Cluster,
    reload::file,
};
use common::config::{AccessLog, AccessLogFormat, Config, Syslog, SyslogAddress};
use std::{fs, path::PathBuf};
use tempfile::TempDir;

struct Logs(TempDir);

impl Logs {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn log(&self, name: &str, format: AccessLogFormat) -> Option<AccessLog> {
        Some(AccessLog::to_file(self.path(name), format))
    }

    /// The targets that a log names; of lines that are whole.
    fn targets(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        text.lines()
            .map(|line| line[line.find('/').unwrap()..].split([' ', '"']).next().unwrap().to_owned())
            .collect()
    }
}

/// Reloads with this log.
async fn log_to(cluster: &mut Cluster, log: Option<AccessLog>) -> String {
    let config = file(cluster, |config: &mut Config| config.clusters[1].access_log = log);
    cluster.web.reload(config).await.unwrap().to_string()
}

/// The target is the first thing with a slash in a JSON line whose other fields have none, and so in the common format after the
/// date: so lines are asked for by targets alone.
#[tokio::test]
async fn a_log_comes_moves_and_goes_and_each_file_is_complete_when_it_is_left() {
    let (logs, mut cluster) = (Logs::new(), Cluster::start([echo("a")]).await);
    let mut client = cluster.client().await;
    let json = || AccessLogFormat::Json;
    client.ask("GET /0", "").await;
    let said = log_to(&mut cluster, logs.log("one", json())).await;
    assert_eq!(said, format!("access log {} (json)", logs.path("one").display()));
    client.ask("GET /1", "").await;
    assert_eq!(log_to(&mut cluster, logs.log("one", json())).await, "nothing has changed");
    client.ask("GET /2", "").await;
    log_to(&mut cluster, logs.log("two", json())).await;
    // Not a moment later: it was flushed and closed.
    assert_eq!(logs.targets("one"), ["/1", "/2"]);
    fs::rename(logs.path("one"), logs.path("old")).unwrap();
    client.ask("GET /3", "").await;
    assert_eq!(log_to(&mut cluster, None).await, "no access log");
    assert_eq!(logs.targets("two"), ["/3"]);
    client.ask("GET /4", "").await;
    log_to(&mut cluster, logs.log("two", json())).await;
    client.ask("GET /5", "").await;
    assert_eq!(cluster.web.totals().log_lines_lost, 0);
    cluster.web.stop(std::time::Duration::from_secs(5)).await;
    assert_eq!(logs.targets("two"), ["/3", "/5"]);
    assert!(!logs.path("one").exists(), "nobody made it anew");
}

#[tokio::test]
async fn another_format_is_that_of_the_next_lines() {
    let (logs, mut cluster) = (Logs::new(), Cluster::start([echo("a")]).await);
    log_to(&mut cluster, logs.log("log", AccessLogFormat::Json)).await;
    cluster.ask("GET /json", "").await;
    let said = log_to(&mut cluster, logs.log("log", AccessLogFormat::Common)).await;
    assert!(said.ends_with("(common)"), "{said}");
    cluster.ask("GET /common", "").await;
    cluster.web.stop(std::time::Duration::from_secs(5)).await;
    let text = fs::read_to_string(logs.path("log")).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("\"target\":\"/json\""), "{text}");
    assert!(lines[1].contains("\"GET /common HTTP/1.1\" 200"), "{text}");
}

#[tokio::test]
async fn each_part_comes_and_goes_by_itself() {
    let (logs, mut cluster) = (Logs::new(), Cluster::start([echo("a")]).await);
    let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let address = SyslogAddress::Udp("127.0.0.1".to_owned(), port);
    let file = logs.log("log", AccessLogFormat::Json).unwrap();
    log_to(&mut cluster, Some(file.clone())).await;
    let both = AccessLog {
        syslog: Some(Syslog { address, facility: 16, app_name: "a".to_owned() }),
        errors: Some(logs.path("errors")),
        ..file
    };
    let path = logs.path("log");
    let expected = format!(
        "access log {} and udp://127.0.0.1:{port} (json), errors in {}",
        path.display(),
        logs.path("errors").display()
    );
    assert_eq!(log_to(&mut cluster, Some(both.clone())).await, expected);
    cluster.ask("GET /both", "").await;
    let errors = AccessLog { path: None, syslog: None, ..both };
    let expected = format!("errors in {}", logs.path("errors").display());
    assert_eq!(log_to(&mut cluster, Some(errors)).await, expected);
    cluster.ask("GET /neither", "").await;
    assert_eq!(cluster.web.totals().log_lines_lost, 0);
    cluster.web.stop(std::time::Duration::from_secs(5)).await;
    assert_eq!((logs.targets("log"), logs.targets("errors")), (vec!["/both".to_owned()], vec![]));
}

#[tokio::test]
async fn a_request_is_in_the_log_that_there_is_when_it_ends() {
    let (backend, gate, mut was_asked) = gated();
    let (logs, mut cluster) = (Logs::new(), Cluster::start([backend]).await);
    let json = || AccessLogFormat::Json;
    let mut client = cluster.client().await;
    let mut ends = async |cluster: &mut Cluster, name: &str, log: Option<AccessLog>| {
        client.send(&format!("GET /{name} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        was_asked.recv().await.unwrap();
        log_to(cluster, log).await;
        gate.add_permits(1);
        assert_eq!(client.answer().await.body, "ok");
    };
    log_to(&mut cluster, logs.log("one", json())).await;
    ends(&mut cluster, "moves", logs.log("two", json())).await;
    ends(&mut cluster, "goes", None).await;
    ends(&mut cluster, "comes", logs.log("three", json())).await;
    ends(&mut cluster, "stays", logs.log("three", json())).await;
    cluster.web.stop(std::time::Duration::from_secs(5)).await;
    let found = ["one", "two", "three"].map(|name| logs.targets(name));
    assert_eq!(found, [vec![], vec!["/moves".to_owned()], vec!["/stays".to_owned()]]);
}
