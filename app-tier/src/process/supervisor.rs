//! Keeps one process of an app alive: start, wait until healthy, check, restart with backoff, stop.

use super::{
    HOPELESS, State,
    launch::{Launch, Running},
    output::Output,
};
use crate::{health, proxy::Backend, spec::Spec};
use common::backoff::Backoff;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// The wait before the first restart, and the longest.
const RESTART: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// A process that was healthy this long starts the backoff over.
const SETTLED: Duration = Duration::from_secs(60);

/// Time between checks of a process that is starting.
const START_INTERVAL: Duration = Duration::from_millis(50);

/// Checks that fail one after the other before a process takes no more requests.
const FALL: u32 = 3;

/// A check takes at most this long.
const CHECK_MAX: Duration = Duration::from_secs(5);

/// Who watches one process.
pub(super) struct Supervisor {
    pub(super) app: String,
    pub(super) number: usize,
    pub(super) spec: Spec,
    pub(super) launch: Launch,
    pub(super) answer_timeout: Duration,
    pub(super) output: Arc<Output>,
    pub(super) state: watch::Sender<State>,
    pub(super) stop: CancellationToken,
}

/// How a life of the process ended.
enum End {
    /// It was told to.
    Stopped,
    /// By itself, or it was no longer healthy.
    Failed {
        why: String,
        settled: bool,
        /// Another start would end the same way: the longest wait.
        hopeless: bool,
    },
}

impl Supervisor {
    /// Runs until told to stop; the process is gone then.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::new(RESTART.0, RESTART.1);
        let mut failures = 0;
        loop {
            self.state.send_replace(State::Starting { failures });
            match self.life(failures).await {
                End::Stopped => break,
                End::Failed { why, settled, hopeless } => {
                    if settled {
                        backoff.reset();
                        failures = 0;
                    }
                    failures += if hopeless { HOPELESS } else { 1 };
                    let wait = if hopeless { RESTART.1 } else { backoff.wait(rand::random()) };
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
        let mut process = match self.launch.start(self.number, &self.spec, &self.output) {
            Ok(process) => process,
            Err(cause) => {
                let program = self.spec.command.first().map_or("", String::as_str);
                let why = format!("{program:?} can't be started: {cause}");
                return End::Failed { why, settled: false, hopeless: false };
            }
        };
        let backend = Arc::new(Backend::new(&self.app, process.target.clone(), self.answer_timeout));
        let mut hopeless = false;
        let lived = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            ended = process.ended() => Some(match ended {
                Ok(status) if status.success() && self.is_starting() => {
                    hopeless = true;
                    "it ended with exit status 0 before it was healthy: the app must stay in the foreground".to_owned()
                }
                Ok(status) => format!("it ended with {status} after {:.1?}", began.elapsed()),
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
        End::Failed { why, settled, hopeless }
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
        let health = &self.spec.health;
        let limit = health.interval.clamp(Duration::from_millis(100), CHECK_MAX);
        let mut last = String::new();
        let healthy = async {
            while let Err(why) = health::check(backend.target(), health.path.as_deref(), limit).await {
                last = why;
                tokio::time::sleep(START_INTERVAL).await;
            }
        };
        if timeout(health.start_timeout, healthy).await.is_err() {
            return format!("it was not healthy within {:?}: {last}", health.start_timeout);
        }
        tracing::info!(app = %self.app, process = self.number, target = %backend.target(), "app healthy");
        self.state.send_replace(State::Ready(backend.clone()));
        let mut failed = 0_u32;
        let mut since = Instant::now();
        loop {
            tokio::time::sleep(health.interval).await;
            match health::check(backend.target(), health.path.as_deref(), limit).await {
                Ok(()) => {
                    if failed >= FALL {
                        tracing::info!(app = %self.app, process = self.number, "app healthy again");
                        self.state.send_replace(State::Ready(backend.clone()));
                    }
                    failed = 0;
                    since = Instant::now();
                }
                Err(why) => {
                    failed += 1;
                    if failed == FALL {
                        let why = format!("{FALL} health checks failed: {why}");
                        tracing::warn!(app = %self.app, process = self.number, %why, "app unhealthy");
                        self.state.send_replace(State::Down { why, failures });
                    }
                    if failed > FALL && since.elapsed() > health.start_timeout {
                        return format!("unhealthy for {:.0?}: {why}", since.elapsed());
                    }
                }
            }
        }
    }
}
