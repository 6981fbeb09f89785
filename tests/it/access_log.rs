//! The access log of a real server, rotated as logrotate does it: rename, then SIGHUP.

use crate::cluster::{Cluster, PATIENCE};
use rustix::process::Signal;
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// The targets that a log names, and how many lines it has.
fn targets(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "whole lines: {text}");
    let target = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        line["target"].as_str().unwrap().to_owned()
    };
    text.lines().map(target).collect()
}

#[tokio::test]
async fn a_rotation_by_sighup_loses_no_line() {
    let mut cluster = Cluster::start_with(1, |it| {
        it.web_tier = vec!["access-log: {path: 'logs/${server.id}.log', format: json}".into()];
    })
    .await;
    let logs = cluster.folder().join("logs");
    let file = logs.join("web-a.log");
    let users = tokio::spawn({
        let mut user = cluster.user();
        async move {
            for number in 0..150 {
                user.get(&format!("/count?{number}")).await.count();
            }
        }
    });
    for rotation in 0..3 {
        fs::rename(&file, logs.join(format!("old.{rotation}"))).unwrap();
        cluster.process("web-a").signal(Signal::HUP);
        let deadline = Instant::now() + PATIENCE;
        while !file.exists() {
            assert!(Instant::now() < deadline, "no new file");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    users.await.unwrap();
    cluster.user().get("/last").await;
    assert_eq!(cluster.stop("web-a").await.code(), Some(0), "a hangup ends nothing");
    let mut found: Vec<_> =
        (0..3).flat_map(|rotation| targets(&logs.join(format!("old.{rotation}")))).collect();
    let last = targets(&file);
    assert_eq!(last.last().map(String::as_str), Some("/last"), "{last:?}");
    found.extend(last);
    let expected: Vec<_> =
        (0..150).map(|number| format!("/count?{number}")).chain(["/last".into()]).collect();
    // Two workers write them: the order of lines is theirs.
    found.sort_unstable();
    let mut sorted = expected;
    sorted.sort_unstable();
    assert_eq!(found, sorted);
}

#[test]
fn a_log_that_can_not_be_opened_is_named() {
    let cluster = Cluster::prepare(1, |it| {
        // A file where a folder should be.
        it.web_tier = vec!["access-log: {path: copal.yaml/access.log}".into()];
    });
    let mut command = std::process::Command::new(crate::cluster::copal());
    command.arg("start").arg("--conf").arg(cluster.file()).args(["--server", "web-a"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the access log") && said.contains("copal.yaml/access.log"), "{said}");
}
