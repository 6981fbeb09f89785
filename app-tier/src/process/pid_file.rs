//! The app processes of this server, on disk: a server that was killed leaves its apps running, and its next start ends
//! them before it starts new ones.

use super::launch::RUN;
use crate::error::AppTierError;
use common::private;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Mutex,
};

/// How often what has left its group is looked for: a dead one is seen until it was waited for.
const PASSES: usize = 3;

/// Processes by id, each with its start time in the kernel's ticks: an id may have gone to another process since.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    running: Mutex<BTreeMap<i32, u64>>,
}

impl PidFile {
    /// Ends what the file in `data_dir` still names and runs, and starts with an empty one.
    ///
    /// # Errors
    /// [`AppTierError::Io`]: it can't be written.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, AppTierError> {
        let path = data_dir.join("app.pids");
        for (pid, started) in read(&path) {
            if start_time(pid) == Some(started) {
                tracing::warn!(pid, "ending an app process that a killed server left behind");
                kill_group(pid, Signal::KILL);
                continue;
            }
            for worker in workers(pid, started) {
                tracing::warn!(
                    pid = worker,
                    leader = pid,
                    "ending a worker of an app that a killed server left behind"
                );
                if let Some(worker) = Pid::from_raw(worker) {
                    // It may have ended by itself: that is what was wanted.
                    let _ = kill_process(worker, Signal::KILL);
                }
            }
        }
        let file = Self { path, running: Mutex::default() };
        file.write(&BTreeMap::new()).map_err(|cause| AppTierError::Io {
            what: "writing",
            path: file.path.clone(),
            cause,
        })?;
        Ok(file)
    }

    /// A process has started.
    pub(crate) fn add(&self, pid: i32) {
        if let Some(started) = start_time(pid) {
            self.change(|running| {
                running.insert(pid, started);
            });
        }
    }

    /// A process has ended.
    pub(crate) fn remove(&self, pid: i32) {
        self.change(|running| {
            running.remove(&pid);
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<i32, u64>)) {
        let Ok(mut running) = self.running.lock() else { return };
        change(&mut running);
        if let Err(cause) = self.write(&running) {
            tracing::warn!(path = %self.path.display(), %cause, "the list of app processes can't be written");
        }
    }

    fn write(&self, running: &BTreeMap<i32, u64>) -> io::Result<()> {
        let text: String = running.iter().map(|(pid, started)| format!("{pid} {started}\n")).collect();
        let new = self.path.with_extension("pids.new");
        private::write(&new, text.as_bytes())?;
        fs::rename(new, &self.path)
    }
}

fn read(path: &Path) -> Vec<(i32, u64)> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let (pid, started) = line.split_once(' ')?;
        Some((pid.parse().ok()?, started.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// What the group `leader` still holds of the app whose process with this id began at `started` and is gone. Ids are given anew: a
/// process counts only if it began later and has an app's environment.
fn workers(leader: i32, started: u64) -> Vec<i32> {
    ids()
        .filter(|pid| {
            stat(*pid).is_some_and(|stat| stat.group == leader && stat.started >= started)
                && is_of_an_app(*pid)
        })
        .collect()
}

/// Whether the process was started with an app's environment, by this server or by another.
fn is_of_an_app(pid: i32) -> bool {
    has_variable(pid, |variable| variable.starts_with(b"COPAL_TOKEN="))
}

/// Ends what has left its process's group, as daemons do, but has the variable that the process was started with. One that has cleared its
/// environment is not found.
pub(super) fn kill_marked(variable: &str) {
    kill_with(|it| it == variable.as_bytes());
}

fn kill_with(is_it: impl Fn(&[u8]) -> bool) {
    // What forks while it is looked for is found the next time.
    for _ in 0..PASSES {
        let marked = ids().filter(|pid| has_variable(*pid, &is_it));
        let killed = marked.filter_map(Pid::from_raw).filter(|pid| kill_process(*pid, Signal::KILL).is_ok());
        if killed.count() == 0 {
            return;
        }
    }
}

/// The processes that there are.
fn ids() -> impl Iterator<Item = i32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| process.file_name().to_str()?.parse().ok())
}

fn has_variable(pid: i32, is_it: impl Fn(&[u8]) -> bool) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(is_it)
}

fn start_time(pid: i32) -> Option<u64> {
    stat(pid).map(|stat| stat.started)
}

/// What the kernel says of a process.
struct Stat {
    group: i32,
    /// In ticks since boot.
    started: u64,
}

/// Fields 5 and 22 of `/proc/<pid>/stat`, counted after the name, which may hold anything in its parentheses (proc(5)).
fn stat(pid: i32) -> Option<Stat> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let group = fields.nth(2)?.parse().ok()?;
    Some(Stat { group, started: fields.nth(16)?.parse().ok()? })
}

/// A process and all that it started, to be killed though its id may go to another one.
#[derive(Debug)]
pub(crate) struct Marked {
    pid: i32,
    started: Option<u64>,
    variable: String,
}

impl Marked {
    /// The process that has this id now, and what has this mark in its environment.
    pub(crate) fn new(pid: i32, run: &str) -> Self {
        Self { pid, started: start_time(pid), variable: format!("{RUN}={run}") }
    }

    /// Kills what is left of it.
    pub(crate) fn kill(&self) {
        Self::kill_all(std::slice::from_ref(self));
    }

    /// The same of several: their groups first, which is quick, then what has left them.
    pub(crate) fn kill_all(all: &[Self]) {
        for it in all.iter().filter(|it| it.started.is_some() && start_time(it.pid) == it.started) {
            kill_group(it.pid, Signal::KILL);
        }
        if !all.is_empty() {
            kill_with(|variable| all.iter().any(|it| it.variable.as_bytes() == variable));
        }
    }
}

/// Whether there is a process with this id.
#[cfg(test)]
pub(crate) fn is_process(pid: i32) -> bool {
    start_time(pid).is_some()
}

/// Signals a process and all that it started and that stayed in its group.
pub(super) fn kill_group(pid: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(pid) {
        // The group may be gone already: that is what was wanted.
        let _ = kill_process_group(group, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead, BufReader},
        os::unix::process::CommandExt,
        process::{Command, Stdio},
        time::{Duration, Instant},
    };

    #[test]
    fn ends_what_a_killed_server_left_and_nothing_else() {
        let data = tempfile::tempdir().unwrap();
        let sleep = || Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let (mut left, mut foreign) = (sleep(), sleep());
        let pid = |child: &std::process::Child| i32::try_from(child.id()).unwrap();
        let file = PidFile::open(data.path()).unwrap();
        file.add(pid(&left));
        file.add(pid(&foreign));
        // As if the second id had gone to another process since.
        let started = start_time(pid(&foreign)).unwrap();
        let text = fs::read_to_string(&file.path).unwrap();
        fs::write(
            &file.path,
            text.replace(&format!("{} {started}", pid(&foreign)), &format!("{} 1", pid(&foreign))),
        )
        .unwrap();
        drop(file);

        let file = PidFile::open(data.path()).unwrap();
        assert!(!left.wait().unwrap().success());
        assert!(foreign.try_wait().unwrap().is_none());
        assert_eq!(fs::read_to_string(&file.path).unwrap(), "");
        foreign.kill().unwrap();
        foreign.wait().unwrap();
    }

    /// A leader that starts a worker and ends; returns the leader's id and start, and the worker's id.
    fn orphaned(environment: &[(&str, &str)]) -> (i32, u64, i32) {
        let mut leader = Command::new("sh")
            .args(["-c", "sleep 60 >/dev/null & echo $!; read end"])
            .env_remove("COPAL_TOKEN")
            .envs(environment.iter().copied())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(leader.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = i32::try_from(leader.id()).unwrap();
        let started = start_time(pid).unwrap();
        drop(leader.stdin.take());
        leader.wait().unwrap();
        (pid, started, line.trim().parse().unwrap())
    }

    /// Whether it runs: an orphan that was killed may stay as a zombie, where nobody waits for it.
    fn runs(pid: i32) -> bool {
        let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        status.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
    }

    #[test]
    fn workers_of_a_leader_that_is_gone_are_ended_and_no_others() {
        let data = tempfile::tempdir().unwrap();
        let left = orphaned(&[("COPAL_TOKEN", "x")]);
        let foreign = orphaned(&[]);
        let later = orphaned(&[("COPAL_TOKEN", "x")]);
        let lines = [(left.0, left.1), (foreign.0, foreign.1), (later.0, u64::MAX)];
        let text: String = lines.iter().map(|(pid, started)| format!("{pid} {started}\n")).collect();
        fs::write(data.path().join("app.pids"), text).unwrap();
        PidFile::open(data.path()).unwrap();
        // A signal takes a moment.
        let until = Instant::now() + Duration::from_secs(20);
        while runs(left.2) && Instant::now() < until {
            std::thread::yield_now();
        }
        assert_eq!([left.2, foreign.2, later.2].map(runs), [false, true, true]);
        for (leader, ..) in [foreign, later] {
            kill_group(leader, Signal::KILL);
        }
    }

    #[test]
    fn a_damaged_file_is_harmless() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join("app.pids"), "x\n-1 5\n0 0\n99999999999 1\n\u{0}").unwrap();
        let file = PidFile::open(data.path()).unwrap();
        assert_eq!(fs::read_to_string(&file.path).unwrap(), "");
    }
}
