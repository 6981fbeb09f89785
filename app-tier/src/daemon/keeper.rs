//! Keeps one daemon: waits for its lease, runs it while that is held, gives it back.

use super::runner::{End, Runner};
use crate::{
    lease::{Held, LeaseError, Leases, Name, Renewed},
    process::Processes,
};
use common::{backoff::Backoff, config::Daemon};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// A server that runs daemons already lets others be first, by so much for each: they spread over the servers.
const POLITE: Duration = Duration::from_millis(30);

/// The most of it.
const POLITE_MAX: Duration = Duration::from_millis(300);

/// The wait before another try where a daemon failed, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// The wait where the hub could not be asked, or what was heard of it is older than its answer.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// One that ran so long starts the waits over.
const SETTLED: Duration = Duration::from_secs(60);

/// What a daemon is doing here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// This version of the app is not in use.
    Idle,
    /// Another server may be running it.
    Waiting,
    /// It runs here, or is being started.
    Running { token: u64 },
    /// It failed, and is tried again.
    Failed(String),
    /// It was stopped for good.
    Stopped,
}

/// The same since when, and how often in a row it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) phase: Phase,
    pub(crate) since: SystemTime,
    /// Here, since it last ran for [`SETTLED`].
    pub(crate) failures: u32,
    /// When it did so last.
    pub(crate) failed: Option<SystemTime>,
}

impl Standing {
    /// Of one that has not begun.
    pub(super) fn new() -> Self {
        Self { phase: Phase::Idle, since: SystemTime::now(), failures: 0, failed: None }
    }
}

/// Who keeps it.
#[derive(Debug)]
pub(super) struct Keeper {
    /// `host/path`, for people.
    pub(super) app: String,
    pub(super) lease: Name,
    pub(super) daemon: Daemon,
    pub(super) runner: Runner,
    pub(super) leases: Leases,
    pub(super) processes: Arc<Processes>,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) stop: CancellationToken,
}

impl Keeper {
    /// Runs until told to stop; the daemon does not run here any more then.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
        while let Some(held) = self.next_lease().await {
            self.is_now(Phase::Running { token: held.token() });
            let (app, daemon, token) = (&self.app, &self.daemon.name, held.token());
            tracing::info!(app, %daemon, token, "the daemon is this server's");
            let began = tokio::time::Instant::now();
            // Whatever becomes of this task, it is not renewed for ever.
            let renewed = self.leases.while_renewed(&held);
            let end = self.runner.run(&held, &self.stop).await;
            drop(renewed);
            if !matches!(end, End::Immortal) {
                self.leases.give_back(&held).await;
            }
            if began.elapsed() >= SETTLED {
                backoff.reset();
                self.standing.send_modify(|it| it.failures = 0);
            }
            match end {
                End::Stopped => tracing::info!(app, %daemon, token, "the daemon was stopped here"),
                End::Lost => {
                    let why = "the hub can't be reached, or has given it to another";
                    tracing::warn!(app, %daemon, token, why, "the daemon was ended here");
                }
                End::Immortal => {
                    tracing::error!(app, %daemon, token, "the daemon's process can't be killed: its lease ends in its time");
                    self.fail("its process can't be killed".to_owned(), &mut backoff).await;
                }
                End::Failed(why) => {
                    tracing::warn!(app, %daemon, token, why, "the daemon has ended: it is started again, here or elsewhere");
                    self.fail(why, &mut backoff).await;
                }
            }
        }
        self.is_now(Phase::Stopped);
    }

    fn is_now(&self, phase: Phase) {
        self.standing.send_if_modified(|it| {
            let is_new = it.phase != phase;
            if is_new {
                (it.phase, it.since) = (phase, SystemTime::now());
            }
            is_new
        });
    }

    /// Waits before the next try.
    async fn fail(&self, why: String, backoff: &mut Backoff) {
        let now = SystemTime::now();
        self.standing.send_modify(|it| {
            let failures = it.failures.saturating_add(1);
            *it = Standing { phase: Phase::Failed(why), since: now, failures, failed: Some(now) };
        });
        let _ = timeout(backoff.wait(rand::random()), self.stop.cancelled()).await;
    }

    /// Waits for the lease. `None`: it is to stop. A call to the hub is not broken off: what it brought would be held by nobody.
    async fn next_lease(&self) -> Option<Arc<Held>> {
        let mut backoff = Backoff::new(ASK_AGAIN, AGAIN.1);
        loop {
            let free = async {
                self.leases.is_free(&self.lease).await;
                self.processes.one_ready().await;
                let polite = POLITE * self.leases.daemons_held();
                sleep(polite.min(POLITE_MAX) + POLITE.mul_f64(rand::random())).await;
                self.leases.is_free(&self.lease).await;
            };
            if !matches!(self.standing.borrow().phase, Phase::Failed(_)) {
                self.is_now(Phase::Waiting);
            }
            self.stop.run_until_cancelled(free).await?;
            let asked =
                self.leases.acquire(&self.lease, &self.lease.app, self.daemon.lease, Renewed::ByServer).await;
            let wait = match asked {
                // An answer that was under way for long is of no use: this server, or its machine, was stopped meanwhile.
                Ok(held) if self.stop.is_cancelled() || held.left() < self.daemon.lease / 2 => {
                    self.leases.give_back(&held).await;
                    ASK_AGAIN
                }
                Ok(held) => return Some(held),
                Err(LeaseError::Held { .. }) => ASK_AGAIN,
                Err(cause) => {
                    tracing::warn!(app = self.app, daemon = %self.daemon.name, %cause, "no lease for the daemon");
                    backoff.wait(rand::random())
                }
            };
            self.stop.run_until_cancelled(sleep(wait)).await?;
        }
    }
}
