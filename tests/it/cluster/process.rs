//! One `copal start` process.

use super::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// The binary under test.
pub(crate) fn copal() -> PathBuf {
    env!("CARGO_BIN_EXE_copal").into()
}

/// The command line for administration.
pub(crate) fn deploy_tool() -> PathBuf {
    env!("CARGO_BIN_EXE_deploy-tool").into()
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Process {
    id: String,
    child: Child,
    pid: Pid,
    lines: Lines<BufReader<ChildStdout>>,
    ready: bool,
    /// Open for as long as this process lives; a server that sees it closed stops.
    _stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts the server `id` by this program, in a network namespace if one is given.
    pub(crate) fn start(program: &Path, file: &Path, id: &str, log: &Path, namespace: Option<&str>) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = match namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
            None => Command::new(program),
        };
        let mut child = command
            .arg("start")
            .arg("--conf")
            .arg(file)
            .args(["--server", id, "--stop-with-stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let stdin = child.stdin.take();
        Self { id: id.to_owned(), child, pid, lines, ready: false, _stdin: stdin }
    }

    /// Waits for the first line on standard output, which says that the server is ready.
    pub(crate) async fn ready(&mut self) {
        if self.ready {
            return;
        }
        let line = timeout(PATIENCE, self.lines.next_line()).await;
        match line {
            Ok(Ok(Some(line))) => {
                assert!(line.starts_with(&self.id), "{line}");
                self.ready = true;
            }
            other => panic!("{} did not get ready: {other:?}", self.id),
        }
    }

    /// `kill -9`; the caller awaits the end with [`Self::ended`] before it starts the server again.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        timeout(PATIENCE, self.child.wait()).await.expect("a graceful stop ends").unwrap()
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("the process ends").unwrap()
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Resident memory in bytes (`VmRSS`).
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid.as_raw_nonzero())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}
