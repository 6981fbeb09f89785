//! Runs a daemon while its lease is held: in one of the app's processes, by calls, or in a process of its own.
//!
//! | of the lease's time, without a renewal | |
//! |---|---|
//! | 80 % | it is told to stop |
//! | 95 % | its process is killed, by the guard, whatever this server does |
//! | 100 % | the hub may give the lease to another |

use super::{Guard, Guarded};
use crate::{
    body::{Request, empty},
    error::RequestError,
    lease::{BootTime, Held},
    process::{Launch, Output, Picked, Processes},
    proxy::{Backend, DELIVERY, FENCE, SOURCE},
};
use common::config::{Daemon, DaemonRun};
use futures_util::FutureExt;
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// Hundredths of a lease's time without a renewal after which the daemon is told to stop, and is killed.
const STOP: u32 = 80;
const KILL: u32 = 95;

/// What is read of an answer, for the log.
const TEXT_MAX: usize = 1024;

/// A process that is unhealthy may just be ending.
const ENDING: Duration = Duration::from_millis(500);

/// One that was killed is gone within this.
const KILLED: Duration = Duration::from_secs(2);

/// What starts a daemon, and ends it.
const START: &str = "daemon-start";
const END: &str = "daemon-stop";

/// Why it ended.
#[derive(Debug)]
pub(super) enum End {
    /// It was told to.
    Stopped,
    /// The lease was not renewed in time, or the hub says that it is another's.
    Lost,
    /// By itself, or it did not start.
    Failed(String),
    /// It was to end, and its process can't be killed: the lease may not be given back.
    Immortal,
}

/// Why it is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Stop,
    Late,
    /// Its process is not healthy any more.
    Gone,
    /// Nobody else watches the clock.
    Alone,
}

/// What runs it.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) daemon: Daemon,
    pub(super) processes: Arc<Processes>,
    pub(super) launch: Launch,
    pub(super) env: Vec<(String, String)>,
    pub(super) output: Arc<Output>,
    pub(super) guard: Guard,
}

impl Runner {
    /// Runs it until it ends, the lease is lost, or `stop` is cancelled.
    pub(super) async fn run(&self, held: &Arc<Held>, stop: &CancellationToken) -> End {
        match &self.daemon.run {
            DaemonRun::Call { start, stop: end } => {
                let Some(picked) = self.processes.pick_life() else {
                    return End::Failed("no process of the app is healthy".to_owned());
                };
                match self.guard.watch(picked.pid, &picked.run, held.at(KILL)).await {
                    Ok(guarded) => {
                        let watched = Watched::new(guarded, held);
                        let fence = fence(held);
                        let called = Called { picked, watched, start, end: end.as_deref(), fence };
                        self.call(held, stop, &called).await
                    }
                    Err(cause) => End::Failed(cause.to_string()),
                }
            }
            DaemonRun::Process(command) => self.process(held, stop, command).await,
        }
    }

    async fn call(&self, held: &Held, stop: &CancellationToken, called: &Called<'_>) -> End {
        let picked = &called.picked;
        // One whose lease is over already, or that is to stop, never starts.
        if let Some(cause) = cause(held, stop, &called.watched, picked.is_gone()).now_or_never() {
            return cause.into();
        }
        let mut begun = std::pin::pin!(self.post(called, called.start, START));
        let answer = tokio::select! {
            biased;
            cause = cause(held, stop, &called.watched, picked.is_gone()) => Err(cause),
            begun = timeout(self.daemon.start_timeout, begun.as_mut()) => Ok(begun),
        };
        let (cause, is_started) = match answer {
            Ok(Ok(Ok(()))) => {
                tracing::info!(daemon = %self.daemon.name, fence = ?called.fence, "the daemon has started");
                (cause(held, stop, &called.watched, picked.is_gone()).await, Some(true))
            }
            // It has said that it has not begun.
            Ok(Ok(Err(Refused::Said(why)))) => return End::Failed(why),
            // It may have begun, or do so yet.
            Ok(Ok(Err(Refused::Broke(why)))) => return self.kill(called).await.unwrap_or(End::Failed(why)),
            Ok(Err(_)) => {
                let (path, limit) = (called.start, self.daemon.start_timeout);
                let why = format!("POST {path} was not answered within {limit:?} (start-timeout)");
                return self.kill(called).await.unwrap_or(End::Failed(why));
            }
            Err(cause) => (cause, None),
        };
        if cause == Cause::Gone && timeout(ENDING, picked.has_ended()).await.is_ok() {
            return End::Failed("its process has ended".to_owned());
        }
        let is_started = match is_started {
            Some(is_started) => Some(is_started),
            // The word to stop is worth nothing before it has started: it would begin behind it.
            None => tokio::select! {
                begun = timeout(self.daemon.stop_timeout, begun) => match begun {
                    Ok(Ok(())) => Some(true),
                    Ok(Err(Refused::Said(_))) => Some(false),
                    Ok(Err(Refused::Broke(_))) | Err(_) => None,
                },
                () = held.is_late(KILL) => None,
                () = picked.has_ended() => Some(false),
            },
        };
        match is_started {
            Some(false) => cause.into(),
            Some(true) if self.stops(held, called).await => cause.into(),
            _ => self.kill(called).await.unwrap_or(cause.into()),
        }
    }

    /// Has a daemon stop that has started; false: it does not.
    async fn stops(&self, held: &Held, called: &Called<'_>) -> bool {
        let Some(end) = called.end else { return false };
        let asked = tokio::select! {
            asked = timeout(self.daemon.stop_timeout, self.post(called, end, END)) => asked,
            () = held.is_late(KILL) => return false,
            () = called.picked.has_ended() => return true,
        };
        let why = match asked {
            Ok(Ok(())) => return true,
            Ok(Err(Refused::Said(why) | Refused::Broke(why))) => why,
            Err(_) => {
                format!("POST {end} was not answered within {:?} (stop-timeout)", self.daemon.stop_timeout)
            }
        };
        tracing::warn!(daemon = %self.daemon.name, why, "the daemon does not stop when asked to");
        false
    }

    /// Kills the process in which it runs. `None`: it is dead.
    async fn kill(&self, called: &Called<'_>) -> Option<End> {
        let picked = &called.picked;
        if picked.is_alive() {
            tracing::warn!(daemon = %self.daemon.name, pid = picked.pid, "killing the process in which the daemon runs");
            called.watched.guarded.kill().await;
        }
        timeout(KILLED, picked.has_ended()).await.is_err().then_some(End::Immortal)
    }

    /// The same in a process of its own: SIGTERM is the word to stop.
    async fn process(&self, held: &Arc<Held>, stop: &CancellationToken, command: &[String]) -> End {
        let fence = fence(held);
        let fence = fence.to_str().unwrap_or_default();
        let run = Launch::new_run();
        // Before it is there: this server may be gone the moment after.
        let guarded = match self.guard.watch(0, &run, held.at(KILL)).await {
            Ok(guarded) => guarded,
            Err(cause) => return End::Failed(cause.to_string()),
        };
        let watched = Watched::new(guarded, held);
        if held.at(STOP) <= BootTime::now() || stop.is_cancelled() {
            return Cause::Late.into();
        }
        let variables = [("COPAL_DAEMON", self.daemon.name.as_str()), ("COPAL_FENCE", fence)];
        let started = self.launch.start_beside(command, &self.env, &variables, (&self.output, &run));
        let mut process = match started {
            Ok(process) => process,
            Err(cause) => {
                let program = command.first().map_or("", String::as_str);
                return End::Failed(format!("{program:?} can't be started: {cause}"));
            }
        };
        // Its group, too.
        if let Err(cause) = watched.guarded.is(process.pid(), held.at(KILL)).await {
            let is_dead = process.end(Duration::ZERO, std::future::ready(())).await;
            return if is_dead { End::Failed(cause.to_string()) } else { End::Immortal };
        }
        tracing::info!(daemon = %self.daemon.name, fence, pid = process.pid(), "the daemon has started");
        let gone = std::future::pending::<()>();
        let ended = tokio::select! {
            ended = process.ended() => Ok(ended),
            cause = cause(held, stop, &watched, gone) => Err(cause),
        };
        match ended {
            Ok(Ok(status)) => End::Failed(format!("it ended with {status}")),
            Ok(Err(cause)) => End::Failed(format!("it can't be watched: {cause}")),
            Err(cause) => match process.end(self.daemon.stop_timeout, held.is_late(KILL)).await {
                true => cause.into(),
                false => End::Immortal,
            },
        }
    }

    async fn post(&self, called: &Called<'_>, path: &str, what: &str) -> Result<(), Refused> {
        let name = HeaderValue::try_from(self.daemon.name.as_str()).expect("names are valid in headers");
        // The app can tell by its token that it is this server that calls.
        let token =
            HeaderValue::try_from(format!("Bearer {}", self.launch.token)).expect("tokens are hexadecimal");
        let request = http::Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, token)
            .header(header::CONTENT_LENGTH, "0")
            .header(DELIVERY, what)
            .header(SOURCE, name)
            .header(FENCE, &called.fence)
            .body(empty())
            .map_err(|cause| Refused::Said(format!("POST {path}: {cause}")))?;
        let (status, text) = send(&called.picked.backend, request).await?;
        if status.is_success() {
            return Ok(());
        }
        Err(Refused::Said(format!("POST {path} was answered with {status}{text}")))
    }
}

impl From<Cause> for End {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Stop => Self::Stopped,
            Cause::Late => Self::Lost,
            Cause::Gone => Self::Failed("its process is not healthy any more".to_owned()),
            Cause::Alone => Self::Failed("the guard of daemons has ended, or does not answer".to_owned()),
        }
    }
}

/// A process under guard, which hears of each renewal of the lease for as long as this is there.
struct Watched {
    guarded: Arc<Guarded>,
    _informing: AbortOnDropHandle<()>,
}

impl Watched {
    fn new(guarded: Guarded, held: &Arc<Held>) -> Self {
        let guarded = Arc::new(guarded);
        let (told, held) = (guarded.clone(), held.clone());
        let informing = tokio::spawn(async move {
            let mut renewals = held.renewals();
            loop {
                told.put_off(held.at(KILL)).await;
                if renewals.changed().await.is_err() {
                    return;
                }
            }
        });
        Self { guarded, _informing: AbortOnDropHandle::new(informing) }
    }
}

/// Waits for a reason to end.
async fn cause(
    held: &Held,
    stop: &CancellationToken,
    watched: &Watched,
    gone: impl Future<Output = ()>,
) -> Cause {
    tokio::select! {
        biased;
        () = stop.cancelled() => Cause::Stop,
        () = held.is_late(STOP) => Cause::Late,
        () = gone => Cause::Gone,
        () = watched.guarded.is_alone() => Cause::Alone,
    }
}

fn fence(held: &Held) -> HeaderValue {
    let text = format!("{}={}", held.name().name, held.token());
    HeaderValue::try_from(text).expect("names are of letters, digits, `.`, `_` and `-`")
}

/// A daemon in a process of the app.
struct Called<'a> {
    picked: Picked,
    watched: Watched,
    start: &'a str,
    end: Option<&'a str>,
    fence: HeaderValue,
}

/// Why a call was of no use.
enum Refused {
    /// The app says so.
    Said(String),
    /// Nobody knows what the app has done.
    Broke(String),
}

/// Sends a request of this server's own; what the answer says in its first bytes, for people.
async fn send(backend: &Arc<Backend>, request: Request) -> Result<(StatusCode, String), Refused> {
    let response = backend.send(request).await.map_err(|cause| match cause {
        RequestError::AppUnavailable { .. } | RequestError::Short(_) => Refused::Said(cause.to_string()),
        _ => Refused::Broke(cause.to_string()),
    })?;
    let status = response.status();
    let body = Limited::new(response.into_body(), TEXT_MAX).collect().await;
    let text = body.map(|it| String::from_utf8_lossy(&it.to_bytes()).trim().to_owned()).unwrap_or_default();
    Ok((status, if text.is_empty() { text } else { format!(": {text}") }))
}
