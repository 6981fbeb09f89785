//! Keeps one process of an app alive: start, wait until healthy, check, restart with backoff, stop.

use super::{
    HOPELESS, IsDeclared, Lives, State,
    checks::{Checks, News},
    launch::{Launch, Running},
    output::Output,
};
use crate::{
    health::{self, CheckError},
    proxy::Backend,
    spec::Spec,
};
use common::{backoff::Backoff, shortage::is_shortage};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// The wait before the first restart, and the longest.
const RESTART: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// The wait before another start where this server was short of something: the app is not to blame.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// With these a shell ends that could not run a program.
const NOT_RUN: [i32; 2] = [126, 127];

/// A process that was healthy this long starts the backoff over.
const SETTLED: Duration = Duration::from_secs(60);

/// Time between checks of a process that is starting.
const START_INTERVAL: Duration = Duration::from_millis(50);

/// A check takes at most this long.
const CHECK_MAX: Duration = Duration::from_secs(5);

/// Who watches one process.
pub(super) struct Supervisor {
    pub(super) app: String,
    pub(super) number: usize,
    pub(super) spec: Spec,
    pub(super) launch: Launch,
    pub(super) answer_timeout: Duration,
    pub(super) is_declared: IsDeclared,
    pub(super) output: Arc<Output>,
    pub(super) state: watch::Sender<State>,
    pub(super) lives: Arc<Lives>,
    pub(super) stop: CancellationToken,
}

/// How a life of the process ended.
enum End {
    /// It was told to.
    Stopped,
    /// By itself, or it was no longer healthy.
    Failed { why: String, settled: bool, fault: Fault },
}

/// What a failure says of the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing: this server is short of something.
    None,
    /// Another start may help.
    One,
    /// Another start would end the same way: the longest wait.
    Hopeless,
}

impl Supervisor {
    /// Runs until told to stop; the process is gone then.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::new(RESTART.0, RESTART.1);
        let mut failures = 0;
        loop {
            self.state.send_replace(State::Starting { failures });
            let end = self.life(failures).await;
            self.lives.ended();
            match end {
                // Who waits for its end hears of it by the state.
                End::Stopped => break,
                End::Failed { why, settled, fault } => {
                    if settled {
                        backoff.reset();
                        failures = 0;
                    }
                    let (count, wait) = match fault {
                        Fault::None => (0, SHORT_WAIT),
                        Fault::One => (1, backoff.wait(rand::random())),
                        Fault::Hopeless => (HOPELESS, RESTART.1),
                    };
                    failures += count;
                    tracing::warn!(app = %self.app, process = self.number, %why, ?wait, "app down: starting it again");
                    self.state.send_replace(State::Down { why, failures });
                    let stopped = timeout(wait, self.stop.cancelled()).await;
                    if stopped.is_ok() {
                        break;
                    }
                }
            }
        }
        self.state.send_replace(State::Stopped);
    }

    /// One life of the process, from its start to its end.
    async fn life(&self, failures: u32) -> End {
        let began = Instant::now();
        let (mut process, target) = match self.launch.start(self.number, &self.spec, &self.output) {
            Ok(started) => started,
            Err(cause) => {
                let program = self.spec.command.first().map_or("", String::as_str);
                let hint = self.hint(cause.kind() == std::io::ErrorKind::PermissionDenied);
                let why = format!("{program:?} can't be started: {cause}{hint}");
                let fault = if is_shortage(&cause) { Fault::None } else { Fault::One };
                return End::Failed { why, settled: false, fault };
            }
        };
        self.lives.begins(process.pid(), process.run());
        let backend = Arc::new(Backend::new(&self.app, target, self.answer_timeout));
        let mut fault = Fault::One;
        let lived = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            ended = process.ended() => Some(match ended {
                Ok(status) if status.success() && self.is_starting() => {
                    fault = Fault::Hopeless;
                    "it ended with exit status 0 before it was healthy: the app must stay in the foreground".to_owned()
                }
                Ok(status) => {
                    let hint = self.hint(status.code().is_some_and(|it| NOT_RUN.contains(&it)));
                    format!("it ended with {status} after {:.1?}{hint}", began.elapsed())
                }
                Err(cause) => format!("it can't be watched: {cause}"),
            }),
            why = self.serve(&backend, failures) => Some(why),
        };
        // From here on no new request is given to it; those in flight have until SIGKILL.
        let Some(why) = lived else {
            self.state.send_replace(State::Stopped);
            process.stop(self.spec.stop_timeout).await;
            return End::Stopped;
        };
        let settled = began.elapsed() >= SETTLED;
        self.state.send_replace(State::Down { why: why.clone(), failures: failures + 1 });
        self.end(process).await;
        End::Failed { why, settled, fault }
    }

    /// What may be behind a program that could not be run.
    fn hint(&self, was_not_run: bool) -> &'static str {
        if was_not_run && self.launch.confinement.keeps_files() {
            "; it is confined to its own folder and the system's: a program in someone's home folder, as of pyenv or nvm, can't be \
             read (web-app `confine`, docs/apps.md)"
        } else {
            ""
        }
    }

    fn is_starting(&self) -> bool {
        matches!(*self.state.borrow(), State::Starting { .. })
    }

    /// A process that failed is not trusted to end by itself.
    async fn end(&self, process: Running) {
        process.stop(self.spec.stop_timeout.min(Duration::from_secs(2))).await;
    }

    /// Waits until the process is healthy, opens it to requests, and checks it on and on; returns why it has to be restarted.
    async fn serve(&self, backend: &Arc<Backend>, failures: u32) -> String {
        if let Err(why) = self.healthy(backend).await {
            return why;
        }
        tracing::info!(app = %self.app, process = self.number, target = %backend.target(), "app healthy");
        self.state.send_replace(State::Ready(backend.clone()));
        let mut checks = Checks::new(self.spec.health.start_timeout, Instant::now());
        loop {
            tokio::time::sleep(self.spec.health.interval).await;
            match checks.heard(self.check(backend).await, Instant::now()) {
                News::None => {}
                News::Short(cause) => self.says_short(&cause),
                News::Healthy => {
                    tracing::info!(app = %self.app, process = self.number, "app healthy again");
                    self.state.send_replace(State::Ready(backend.clone()));
                }
                News::Unhealthy(why) => {
                    tracing::warn!(app = %self.app, process = self.number, %why, "app unhealthy");
                    self.state.send_replace(State::Down { why, failures });
                }
                News::Hopeless(why) => return why,
            }
        }
    }

    /// Waits until the process is healthy; the error says that it has not been in time. The time in which it can't be asked does not
    /// count.
    async fn healthy(&self, backend: &Backend) -> Result<(), String> {
        let limit = self.spec.health.start_timeout;
        let (mut until, mut last, mut short) = (Instant::now() + limit, String::new(), false);
        loop {
            match timeout_at(until, self.check(backend)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(CheckError::Short(cause))) => {
                    if !std::mem::replace(&mut short, true) {
                        self.says_short(&cause);
                    }
                    until = Instant::now() + limit;
                }
                Ok(Err(CheckError::Failed(why))) => (last, short) = (why, false),
                Err(_) => return Err(format!("it was not healthy within {limit:?}: {last}")),
            }
            tokio::time::sleep(START_INTERVAL).await;
        }
    }

    async fn check(&self, backend: &Backend) -> Result<(), CheckError> {
        let health = &self.spec.health;
        let limit = health.interval.clamp(Duration::from_millis(100), CHECK_MAX);
        health::check(backend.target(), health.path.as_deref(), limit).await?;
        match self.is_declared.get() {
            true => Ok(()),
            false => Err(CheckError::Failed(
                "it has not declared what it takes: PUT $COPAL_API/v1/app (`declare-at-start`)".to_owned(),
            )),
        }
    }

    fn says_short(&self, cause: &std::io::Error) {
        tracing::warn!(app = %self.app, process = self.number, %cause, "app not checked: this server is short of something");
    }
}
