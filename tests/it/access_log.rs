//! The access log of a real server, rotated as logrotate does it: rename, then SIGHUP.

use crate::cluster::{Cluster, PATIENCE};
use rustix::process::Signal;
use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// The targets that a log names, one a line.
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
    let enough = Arc::new(AtomicBool::new(false));
    let asking = tokio::spawn({
        let (mut user, enough) = (cluster.user(), enough.clone());
        async move {
            let mut asked = Vec::new();
            while !enough.load(Ordering::Relaxed) {
                asked.push(format!("/count?{}", asked.len()));
                user.get(asked.last().unwrap()).await.count();
            }
            asked
        }
    });
    for rotation in 0..3 {
        until("lines", || fs::metadata(&file).unwrap().len() > 0).await;
        fs::rename(&file, logs.join(format!("old.{rotation}"))).unwrap();
        cluster.process("web-a").signal(Signal::HUP);
        until("a new file", || file.exists()).await;
    }
    enough.store(true, Ordering::Relaxed);
    let mut asked = asking.await.unwrap();
    cluster.user().get("/last").await;
    asked.push("/last".to_owned());
    assert_eq!(cluster.stop("web-a").await.code(), Some(0), "a hangup ends nothing");
    let mut found: Vec<_> = (0..3).flat_map(|number| targets(&logs.join(format!("old.{number}")))).collect();
    let last = targets(&file);
    assert!(last.iter().any(|target| target == "/last"), "{last:?}");
    found.extend(last);
    // Two workers write them: the order of lines is theirs.
    found.sort_unstable();
    asked.sort_unstable();
    assert_eq!(found, asked);
}

/// Waits for what another process does.
async fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "no {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
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
