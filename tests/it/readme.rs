//! The README's session, run as it stands: only the port and the process ids are put in.

use crate::{
    cluster::{PATIENCE, copal, deploy_tool},
    tell::tell,
};
use std::{fs, path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");

/// The commands and expected outputs of one of the README's console blocks, counted from 1.
fn session(block: usize) -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(README).unwrap();
    let block = text.split("```console\n").nth(block).unwrap().split("```").next().unwrap().to_owned();
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    for line in block.lines() {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push((command.to_owned(), Vec::new())),
            None => steps.last_mut().unwrap().1.push(line.to_owned()),
        }
    }
    steps
}

/// `count N` of `count N on SERVER`.
fn count_of(line: &str) -> &str {
    line.rsplit_once(" on ").unwrap().0
}

#[tokio::test]
async fn the_session_with_a_killed_server_goes_as_the_readme_says() {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().await.is_err() {
        tell("skipped the_session_with_a_killed_server: there is no curl on this machine");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let offset = crate::demo::free_offset();
    let (_demo, said) = demo(folder.path(), offset, &["--processes"]).await;

    let mut answered_by = String::new();
    let steps = session(2);
    assert_eq!(steps.len(), 4, "{steps:?}");
    for (command, expected) in steps {
        let command = command.replace(":8080/", &format!(":{}/", 8080 + offset));
        let command = match command.strip_prefix("kill -9 ") {
            Some(_) => {
                let line = said.iter().find(|line| line.starts_with(&answered_by)).unwrap();
                format!("kill -9 {}", line.rsplit("(pid ").next().unwrap().trim_end_matches(')'))
            }
            None => command,
        };
        let output = timeout(PATIENCE, shell(&command, folder.path())).await.expect("the command ends");
        let output: Vec<_> = output.lines().map(str::to_owned).collect();
        assert_eq!(output.len(), expected.len(), "{command}: {output:?}");
        for (line, expected) in output.iter().zip(&expected) {
            assert_eq!(count_of(line), count_of(expected), "{command}");
            answered_by = line.rsplit_once(" on ").unwrap().1.to_owned();
        }
    }
}

#[tokio::test]
async fn the_session_with_the_daemon_goes_as_the_readme_says() {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().await.is_err() {
        tell("skipped the_session_with_the_daemon: there is no curl on this machine");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let offset = crate::demo::free_offset();
    let (_demo, said) = demo(folder.path(), offset, &["--processes"]).await;
    let steps = session(3);
    assert_eq!(steps.len(), 3, "{steps:?}");
    let address = |command: &str| command.replace(":8080/", &format!(":{}/", 8080 + offset));
    // It has begun to count.
    let ticks = address(&steps[0].0);
    let counted = async |before: u64, by_other_than: &str| loop {
        let line = shell(&ticks, folder.path()).await;
        let (seconds, server) = line.trim().split_once(" seconds, counted on ").unwrap();
        let seconds: u64 = seconds.parse().unwrap();
        if seconds > before && server != by_other_than {
            return (seconds, server.to_owned());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let (seconds, server) = timeout(PATIENCE, counted(0, "nobody")).await.expect("it counts");
    let line = said.iter().find(|line| line.starts_with(&server)).unwrap();
    assert!(steps[1].0.starts_with("kill -9 "));
    shell(&format!("kill -9 {}", line.rsplit("(pid ").next().unwrap().trim_end_matches(')')), folder.path())
        .await;
    // As long as the README says it may take, and longer on a machine that has other work.
    shell(steps[2].0.split(';').next().unwrap(), folder.path()).await;
    timeout(PATIENCE, counted(seconds, &server)).await.expect("another goes on from there");
}

#[tokio::test]
async fn the_session_with_the_queue_goes_as_the_readme_says() {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().await.is_err() {
        tell("skipped the_session_with_the_queue: there is no curl on this machine");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let offset = crate::demo::free_offset();
    let (_demo, said) = demo(folder.path(), offset, &["--processes"]).await;
    let steps = session(4);
    assert_eq!(steps.len(), 4, "{steps:?}");
    let seen = steps[0].0.replace(":8080/", &format!(":{}/", 8080 + offset));
    let received = async |more_than: u64| loop {
        let line = shell(&seen, folder.path()).await;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [sent, "messages", "sent,", received, "received,", _, "jobs", "run"] = words[..] else {
            panic!("{line}")
        };
        let [sent, received] = [sent, received].map(|it| it.parse::<u64>().unwrap());
        assert!(received <= sent, "{line}");
        if received > more_than {
            return received;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let before = timeout(PATIENCE, received(0)).await.expect("a message comes");
    let squares = shell(&steps[1].0.replace(":8080/", &format!(":{}/", 8080 + offset)), folder.path()).await;
    let sum = "squared 1 to 100: their sum is 338350, ";
    assert!(squares.starts_with(sum) && steps[1].1[0].starts_with(sum), "{squares}");
    let line = said.iter().find(|line| line.starts_with("app-c")).unwrap();
    assert!(steps[2].0.starts_with("kill -9 "));
    shell(&format!("kill -9 {}", line.rsplit("(pid ").next().unwrap().trim_end_matches(')')), folder.path())
        .await;
    timeout(PATIENCE, received(before + 1)).await.expect("the others go on from there");
}

/// A running demo: it ends with this, and can write as long.
struct Demo {
    _child: Child,
    _lines: Lines<BufReader<ChildStdout>>,
}

/// A demo in `folder`, as the README has it, and what it has said.
async fn demo(folder: &Path, offset: u16, more: &[&str]) -> (Demo, Vec<String>) {
    let mut child = Command::new(copal())
        .args(["demo", "--port-offset", &offset.to_string()])
        .args(more)
        .current_dir(folder)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    while !said.last().is_some_and(|line: &String| line.contains("Ctrl-C stops.")) {
        said.push(timeout(PATIENCE, lines.next_line()).await.expect("the demo speaks").unwrap().unwrap());
    }
    (Demo { _child: child, _lines: lines }, said)
}

#[tokio::test]
async fn the_sessions_with_deploy_tool_go_as_the_readme_says() {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().await.is_err() {
        tell("skipped the_session_with_a_disabled_server: there is no curl on this machine");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let offset = crate::demo::free_offset();
    let (_demo, said) = demo(folder.path(), offset, &[]).await;
    assert!(said.iter().any(|line| line.contains("deploy-tool server disable app-b")), "{said:?}");
    let steps = [session(5), session(6), session(7), session(8), session(9)].concat();
    assert_eq!(steps.len(), 15, "{steps:?}");
    std::os::unix::fs::symlink(
        concat!(env!("CARGO_MANIFEST_DIR"), "/../examples"),
        folder.path().join("examples"),
    )
    .unwrap();
    // In one shell, as its first commands prepare the others.
    let tools = deploy_tool().parent().unwrap().display().to_string();
    let mut script = format!("set -e; PATH={tools}:$PATH\n");
    for (command, _) in &steps {
        let command = command.replace(":8080/", &format!(":{}/", 8080 + offset));
        script.push_str(&command.replace(":8443/", &format!(":{}/", 8443 + offset)));
        script.push_str("\necho ---\n");
    }
    let output = timeout(PATIENCE, shell(&script, folder.path())).await.expect("the session ends");
    let outputs: Vec<Vec<&str>> = output.split("---\n").map(|part| part.lines().collect()).collect();
    for ((command, expected), output) in steps.iter().zip(&outputs) {
        // What is told of the progress goes to standard error.
        let expected: Vec<_> = expected.iter().filter(|line| !is_progress(line)).collect();
        assert_eq!(output.len(), expected.len(), "{command}: {output:?}");
        for (line, expected) in output.iter().zip(expected) {
            assert_eq!(steady(line), steady(expected), "{command}");
        }
    }
}

fn is_progress(line: &str) -> bool {
    [": starting", ": active"].iter().any(|end| line.ends_with(end))
}

/// What of a line is the same each time.
fn steady(line: &str) -> String {
    if line.starts_with("count") {
        assert!(!line.ends_with("app-b"), "{line}");
        return count_of(line).to_owned();
    }
    if let Some((hit, ttl)) = line.split_once("; ttl=") {
        assert!(["59", "60"].contains(&ttl), "{line}");
        return hit.to_owned();
    }
    if let Some((alt_svc, port)) = line.split_once("h3=\":") {
        assert!(port.ends_with("\"; ma=86400"), "{line}");
        return alt_svc.to_owned();
    }
    if let Some((limit, seconds)) = line.split_once(";t=") {
        assert!((1..=180).contains(&seconds.parse().unwrap()), "{line}");
        return limit.to_owned();
    }
    if line.starts_with("HTTP/2 ") {
        return line.trim().to_owned();
    }
    let words = line.split_whitespace();
    let is_commit = |word: &str| word.len() == 10 && word.bytes().all(|it| it.is_ascii_hexdigit());
    let changing = |word: &&str| {
        let addresses = ["20", "127.", "http://127."];
        addresses.iter().any(|it| word.starts_with(it)) || is_commit(word.trim_matches(['(', ')']))
    };
    words.filter(|word| !changing(word)).collect::<Vec<_>>().join(" ")
}

async fn shell(command: &str, folder: &Path) -> String {
    let output = Command::new("sh").args(["-c", command]).current_dir(folder).output().await.unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_two_commands_are_the_ones_that_ci_and_the_newcomer_run() {
    let text = fs::read_to_string(README).unwrap();
    let ci = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../.ci/run")).unwrap();
    assert!(text.contains("```sh\ncargo run -- demo\n```"));
    assert!(text.contains("```sh\ncargo test --workspace\n```"));
    assert!(ci.lines().any(|line| line.starts_with("cargo test --workspace")));
}
