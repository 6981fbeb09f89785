//! This server's side of the process that ends daemons in time (`guard`): started when it is first needed, told what to watch. Where it can't be
//! had, or has ended, no daemon runs.

use crate::{lease::BootTime, process::Marked};
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{ChildStdin, ChildStdout, Command},
    sync::{mpsc, oneshot, watch},
};

/// It answers within this.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Lines that wait for it.
const LINES: usize = 1024;

/// Who ends daemons in time. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Guard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `copal`; without it there is no guard, and this server alone watches the clock.
    program: Option<PathBuf>,
    running: tokio::sync::Mutex<Option<Arc<Process>>>,
    next: AtomicU64,
}

/// One life of it.
#[derive(Debug)]
struct Process {
    lines: mpsc::Sender<String>,
    answers: Mutex<HashMap<String, oneshot::Sender<()>>>,
    ended: watch::Sender<bool>,
}

/// A process that is watched until this is dropped.
#[derive(Debug)]
pub(crate) struct Guarded {
    id: u64,
    /// `None`: there is no guard.
    guard: Option<Arc<Process>>,
    /// What is killed without one.
    pid: u32,
    run: String,
}

impl Guard {
    /// By this program, or by nobody.
    pub(crate) fn new(program: Option<&Path>) -> Self {
        let program = program.map(Path::to_owned);
        Self(Arc::new(Inner { program, running: tokio::sync::Mutex::default(), next: AtomicU64::new(1) }))
    }

    /// Has a process watched: it is killed at `until`, unless that is put off.
    ///
    /// # Errors
    /// The guard can't be started, or does not answer.
    pub(crate) async fn watch(&self, pid: u32, run: &str, until: BootTime) -> io::Result<Guarded> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let guard = self.process().await?;
        if let Some(guard) = &guard {
            let line = format!("watch {id} {pid} {run} {}", until.as_nanos());
            if let Err(cause) = guard.ask(line, format!("ok {id}")).await {
                guard.give_up();
                return Err(cause);
            }
        }
        Ok(Guarded { id, guard, pid, run: run.to_owned() })
    }

    /// The one that runs, or a new one.
    async fn process(&self) -> io::Result<Option<Arc<Process>>> {
        let Some(program) = &self.0.program else { return Ok(None) };
        let mut running = self.0.running.lock().await;
        if let Some(guard) = running.as_ref().filter(|it| !*it.ended.borrow()) {
            return Ok(Some(guard.clone()));
        }
        let guard = Process::start(program)?;
        *running = Some(guard.clone());
        Ok(Some(guard))
    }
}

impl Process {
    fn start(program: &Path) -> io::Result<Arc<Self>> {
        let mut command = Command::new(program);
        command.arg("guard-daemons").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        // What is signalled to the server's group is not for it. It needs nothing of the environment.
        let mut child = command.process_group(0).env_clear().spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the guard of daemons has no pipes"));
        };
        let (lines, waiting) = mpsc::channel(LINES);
        let guard = Arc::new(Self { lines, answers: Mutex::default(), ended: watch::channel(false).0 });
        tokio::spawn(write(stdin, waiting, guard.ended.subscribe()));
        let reader = guard.clone();
        tokio::spawn(async move {
            reader.hear(stdout).await;
            reader.give_up();
            // One that hangs would wake one day, and kill what is none of its any more.
            let _ended_already = child.start_kill();
            match child.wait().await {
                Ok(status) if status.success() => {}
                Ok(status) => tracing::error!(%status, "the guard of daemons has ended"),
                Err(cause) => tracing::error!(%cause, "the guard of daemons is gone"),
            }
        });
        Ok(guard)
    }

    async fn hear(&self, stdout: ChildStdout) {
        let mut lines = BufReader::new(stdout).lines();
        let mut ended = self.ended.subscribe();
        loop {
            let line = tokio::select! {
                line = lines.next_line() => line,
                _ = ended.wait_for(|it| *it) => return,
            };
            let Ok(Some(line)) = line else { return };
            if line.starts_with("late ") {
                tracing::warn!("a daemon's process was killed: its lease had not been renewed in time");
            }
            if let Some(waiting) = self.answers().remove(&line) {
                let _gone = waiting.send(());
            }
        }
    }

    async fn ask(&self, line: String, answer: String) -> io::Result<()> {
        let (sender, answered) = oneshot::channel();
        self.answers().insert(answer.clone(), sender);
        self.tell(line)?;
        let answered = tokio::time::timeout(ANSWER_MAX, answered).await;
        self.answers().remove(&answer);
        match answered {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(gone()),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the guard of daemons does not answer")),
        }
    }

    fn tell(&self, line: String) -> io::Result<()> {
        self.lines.try_send(line).map_err(|_| gone())
    }

    /// It has ended, or is to: the end of its input is its end, and that of all that it watches.
    fn give_up(&self) {
        self.ended.send_replace(true);
        self.answers().clear();
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<()>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the guard of daemons has ended")
}

/// Until it has ended, or nobody has anything to tell it any more.
async fn write(mut stdin: ChildStdin, mut lines: mpsc::Receiver<String>, mut ended: watch::Receiver<bool>) {
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            _ = ended.wait_for(|it| *it) => None,
        };
        let Some(line) = line else { return };
        if stdin.write_all(format!("{line}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

impl Guarded {
    /// It is not to be killed before this. A guard that does not answer is none.
    pub(crate) async fn put_off(&self, until: BootTime) {
        let Some(guard) = &self.guard else { return };
        let line = format!("until {} {}", self.id, until.as_nanos());
        if guard.ask(line, format!("put off {}", self.id)).await.is_err() {
            guard.give_up();
        }
    }

    /// The process that has the mark is this one: what is in its group is killed with it.
    ///
    /// # Errors
    /// The guard does not answer.
    pub(crate) async fn is(&self, pid: u32, until: BootTime) -> io::Result<()> {
        let Some(guard) = &self.guard else { return Ok(()) };
        let line = format!("watch {} {pid} {} {}", self.id, self.run, until.as_nanos());
        guard.ask(line, format!("ok {}", self.id)).await
    }

    /// Kills it, and all that it started: at once, by this server itself. It is dying when this returns.
    pub(crate) async fn kill(&self) {
        let Ok(pid) = i32::try_from(self.pid) else { return };
        let marked = Marked::new(pid, &self.run);
        // It looks through all processes.
        let _ = tokio::task::spawn_blocking(move || marked.kill()).await;
    }

    /// Waits until nobody but this server watches the clock.
    pub(crate) async fn is_alone(&self) {
        match &self.guard {
            Some(guard) => {
                let _ = guard.ended.subscribe().wait_for(|it| *it).await;
            }
            None => std::future::pending().await,
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(guard) = &self.guard
            && guard.tell(format!("drop {}", self.id)).is_err()
        {
            guard.give_up();
        }
    }
}
