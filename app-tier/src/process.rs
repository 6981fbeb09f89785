//! An app's processes on this server: started, watched, restarted, stopped.

mod account;
mod app_folders;
mod checks;
mod confine;
mod hand_over;
mod is_declared;
mod launch;
mod output;
mod pid_file;
pub(crate) mod prepare;
mod run_dir;
mod supervisor;

pub use account::AccountError;
pub use app_folders::APP_FOLDERS;
pub(crate) use app_folders::{AppFolders, CHECKED_OUT, open_passage};
pub(crate) use confine::{Asked, Confinement};
pub use confine::{Launcher, RightsError};
pub(crate) use is_declared::IsDeclared;
pub(crate) use launch::Launch;
pub(crate) use output::Output;
#[cfg(test)]
pub(crate) use pid_file::is_process;
pub(crate) use pid_file::{Marked, PidFile};
pub(crate) use prepare::{PrepareError, prepare};
pub(crate) use run_dir::RunDir;

use crate::{
    error::{AppTierError, NotReady, RequestError},
    proxy::Backend,
    spec::Spec,
};
use common::id::ServerId;
use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use supervisor::Supervisor;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Starts that fail one after the other before [`Processes::ready`] gives up early.
const HOPELESS: u32 = 3;

/// What a process is doing.
#[derive(Debug, Clone)]
pub(crate) enum State {
    /// Started, not healthy yet; `failures` starts before this one failed.
    Starting { failures: u32 },
    /// Takes requests.
    Ready(Arc<Backend>),
    /// Takes none, and why; it comes back by itself.
    Down { why: String, failures: u32 },
    /// Ended for good.
    Stopped,
}

/// What becomes of one process, over all of its lives.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    /// Of the one that runs; 0 for none.
    pid: AtomicU32,
    /// What marks all processes that it starts.
    run: std::sync::Mutex<String>,
    starts: AtomicU64,
}

/// One process as the status page shows it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) state: State,
    pub(crate) pid: u32,
    /// Beyond the first start.
    pub(crate) restarts: u64,
}

/// A healthy process, in one of its lives.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) backend: Arc<Backend>,
    pub(crate) pid: u32,
    /// What marks all processes that it starts: see [`Guarded`](crate::daemon::Guarded).
    pub(crate) run: String,
    lives: Arc<Lives>,
    state: watch::Receiver<State>,
}

impl Picked {
    /// Waits until it is not healthy any more, or has ended.
    pub(crate) async fn is_gone(&self) {
        let mut state = self.state.clone();
        let is_it = |state: &State| matches!(state, State::Ready(it) if Arc::ptr_eq(it, &self.backend));
        // An error means that nobody watches it any more.
        let _ = state.wait_for(|state| !is_it(state)).await;
    }

    /// Waits until it has ended.
    pub(crate) async fn has_ended(&self) {
        let mut state = self.state.clone();
        while self.lives.pid.load(Ordering::Relaxed) == self.pid {
            if state.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether it still runs, healthy or not.
    pub(crate) fn is_alive(&self) -> bool {
        self.lives.pid.load(Ordering::Relaxed) == self.pid
    }
}

/// One process and who watches it.
#[derive(Debug)]
struct Instance {
    lives: Arc<Lives>,
    state: watch::Receiver<State>,
    output: Arc<Output>,
}

/// All processes of one app on this server.
#[derive(Debug)]
pub(crate) struct Processes {
    app: String,
    expected: String,
    instances: Vec<Instance>,
    next: AtomicUsize,
    stop: CancellationToken,
    tasks: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

impl Processes {
    /// Starts the app's processes; returns at once. `launch` makes each process's command line and environment.
    pub(crate) fn start(
        app: &str,
        spec: &Spec,
        launch: &Launch,
        (answer_timeout, is_declared): (Duration, &IsDeclared),
    ) -> Self {
        let stop = CancellationToken::new();
        let mut instances = Vec::new();
        let mut tasks = Vec::new();
        for number in 0..spec.instances.max(1) {
            let output = Arc::new(Output::new(app));
            let lives = Arc::new(Lives::default());
            let (sender, state) = watch::channel(State::Starting { failures: 0 });
            let supervisor = Supervisor {
                app: app.to_owned(),
                number,
                spec: spec.clone(),
                launch: launch.clone(),
                answer_timeout,
                is_declared: is_declared.clone(),
                output: output.clone(),
                state: sender,
                lives: lives.clone(),
                stop: stop.clone(),
            };
            tasks.push(tokio::spawn(supervisor.run()));
            instances.push(Instance { lives, state, output });
        }
        let expected = match &spec.health.path {
            Some(path) => format!("GET {path} to answer 2xx"),
            None => "it to accept connections".to_owned(),
        };
        let tasks = std::sync::Mutex::new(tasks);
        Self { app: app.to_owned(), expected, instances, next: AtomicUsize::new(0), stop, tasks }
    }

    /// A healthy process for a request: in turn.
    ///
    /// # Errors
    /// [`RequestError::AppUnavailable`] when there is none.
    pub(crate) fn pick(&self) -> Result<Arc<Backend>, RequestError> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut why = "no process".to_owned();
        for offset in 0..self.instances.len() {
            let instance = &self.instances[first.wrapping_add(offset) % self.instances.len()];
            match &*instance.state.borrow() {
                State::Ready(backend) => return Ok(backend.clone()),
                other => why = other.describe(),
            }
        }
        Err(RequestError::AppUnavailable { app: self.app.clone(), why })
    }

    /// The healthy process with the fewest requests in flight.
    ///
    /// # Errors
    /// [`RequestError::AppUnavailable`] when there is none.
    pub(crate) fn pick_idlest(&self) -> Result<Arc<Backend>, RequestError> {
        let ready = self.instances.iter().filter_map(|it| match &*it.state.borrow() {
            State::Ready(backend) => Some(backend.clone()),
            _ => None,
        });
        match ready.min_by_key(|it| it.in_flight()) {
            Some(backend) => Ok(backend),
            None => self.pick(),
        }
    }

    /// How many are healthy.
    pub(crate) fn healthy(&self) -> usize {
        self.instances.iter().filter(|it| matches!(&*it.state.borrow(), State::Ready(_))).count()
    }

    /// Resolves when the state of one changes after this call.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let states = self.instances.iter().map(|it| {
            let mut state = it.state.clone();
            state.mark_unchanged();
            state
        });
        let states: Vec<_> = states.collect();
        async move {
            let changes = states.into_iter().map(|mut state| {
                Box::pin(async move {
                    if state.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                })
            });
            futures_util::future::select_all(changes).await;
        }
    }

    /// A healthy process, for something that lasts as long as it lives: in turn.
    pub(crate) fn pick_life(&self) -> Option<Picked> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        (0..self.instances.len()).find_map(|offset| {
            let instance = &self.instances[first.wrapping_add(offset) % self.instances.len()];
            let State::Ready(backend) = instance.state.borrow().clone() else { return None };
            let picked = Picked {
                backend,
                pid: instance.lives.pid.load(Ordering::Relaxed),
                run: instance.lives.run.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                lives: instance.lives.clone(),
                state: instance.state.clone(),
            };
            // Another life may have begun meanwhile.
            let is_it =
                matches!(&*instance.state.borrow(), State::Ready(it) if Arc::ptr_eq(it, &picked.backend));
            (is_it && picked.pid != 0).then_some(picked)
        })
    }

    /// Waits until one process is healthy.
    pub(crate) async fn one_ready(&self) {
        let ready = self.instances.iter().map(|instance| {
            let mut state = instance.state.clone();
            Box::pin(async move {
                if state.wait_for(|state| matches!(state, State::Ready(_))).await.is_err() {
                    std::future::pending::<()>().await;
                }
            })
        });
        futures_util::future::select_all(ready).await;
    }

    /// How each process is.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let seen = self.instances.iter().map(|it| Seen {
            state: it.state.borrow().clone(),
            pid: it.lives.pid.load(Ordering::Relaxed),
            restarts: it.lives.starts.load(Ordering::Relaxed).saturating_sub(1),
        });
        seen.collect()
    }

    /// Waits until every process is healthy.
    ///
    /// # Errors
    /// [`AppTierError::NotReady`] past `timeout`, or as soon as a process failed three times on end.
    pub(crate) async fn ready(&self, server: &ServerId, timeout: Duration) -> Result<(), AppTierError> {
        let began = tokio::time::Instant::now();
        for instance in &self.instances {
            let mut state = instance.state.clone();
            let left = timeout.saturating_sub(began.elapsed());
            let settled = state.wait_for(|state| match state {
                State::Ready(_) | State::Stopped => true,
                State::Starting { failures } | State::Down { failures, .. } => *failures >= HOPELESS,
            });
            let settled = tokio::time::timeout(left, settled).await;
            if matches!(&settled, Ok(Ok(state)) if matches!(**state, State::Ready(_))) {
                continue;
            }
            drop(settled);
            let found = instance.state.borrow().describe();
            return Err(AppTierError::NotReady(Box::new(NotReady {
                app: self.app.clone(),
                server: server.clone(),
                waited: began.elapsed(),
                expected: self.expected.clone(),
                found,
                log: instance.output.tail(),
            })));
        }
        Ok(())
    }

    /// Waits until every process has been healthy.
    pub(crate) async fn recovered(&self) {
        for instance in &self.instances {
            let mut state = instance.state.clone();
            // An error means that they were stopped for good.
            if state.wait_for(|state| matches!(state, State::Ready(_))).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Ends the processes: SIGTERM, after the app's `stop-timeout` SIGKILL; returns when they are gone.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        let tasks = self.tasks.lock().map(|mut tasks| std::mem::take(&mut *tasks)).unwrap_or_default();
        for task in tasks {
            // A panic of a supervisor is in the log already, and its drop killed the process.
            let _ = task.await;
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Lives {
    /// Another one begins.
    fn begins(&self, pid: u32, run: &str) {
        run.clone_into(&mut self.run.lock().unwrap_or_else(PoisonError::into_inner));
        self.pid.store(pid, Ordering::Relaxed);
        self.starts.fetch_add(1, Ordering::Relaxed);
    }

    /// It has ended.
    fn ended(&self) {
        self.pid.store(0, Ordering::Relaxed);
    }
}

impl State {
    fn describe(&self) -> String {
        match self {
            Self::Starting { .. } => "it is starting".to_owned(),
            Self::Ready(_) => "it is healthy".to_owned(),
            Self::Down { why, .. } => why.clone(),
            Self::Stopped => "it was stopped".to_owned(),
        }
    }
}
