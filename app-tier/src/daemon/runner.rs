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
    lease::Held,
    process::{Launch, Output, Picked, Processes},
    proxy::{Backend, DELIVERY, FENCE, SOURCE},
};
use common::config::{Daemon, DaemonRun};
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

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

/// How it ended; it does not run any more.
#[derive(Debug)]
pub(super) enum End {
    /// It was told to.
    Stopped,
    /// The lease was not renewed in time, or the hub says that it is another's.
    Lost,
    /// By itself, or it did not start.
    Failed(String),
}

/// Why it is to end.
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
    pub(super) async fn run(&self, held: &Held, stop: &CancellationToken) -> End {
        match &self.daemon.run {
            DaemonRun::Call { start, stop: end } => {
                let Some(picked) = self.processes.pick_life() else {
                    return End::Failed("no process of the app is healthy".to_owned());
                };
                match self.guard.watch(picked.pid, &picked.run, held.at(KILL)).await {
                    Ok(guarded) => {
                        self.call(held, stop, &Called { picked, guarded, start, end: end.as_deref() }).await
                    }
                    Err(cause) => End::Failed(cause.to_string()),
                }
            }
            DaemonRun::Process(command) => self.process(held, stop, command).await,
        }
    }

    async fn call(&self, held: &Held, stop: &CancellationToken, called: &Called<'_>) -> End {
        let fence = fence(held);
        let begun = called.post(called.start, START, &self.daemon, &fence);
        let begun = tokio::select! {
            begun = timeout(self.daemon.start_timeout, begun) => Ok(begun),
            cause = cause(held, stop, &called.guarded, called.picked.is_gone()) => Err(cause),
        };
        let cause = match begun {
            Ok(Ok(Ok(()))) => {
                tracing::info!(daemon = %self.daemon.name, fence = ?fence, "the daemon has started");
                cause(held, stop, &called.guarded, called.picked.is_gone()).await
            }
            // It has said that it has not begun.
            Ok(Ok(Err(Refused::Said(why)))) => return End::Failed(why),
            // It may have begun.
            Ok(Ok(Err(Refused::Broke(why)))) => {
                self.end(held, called, &fence).await;
                return End::Failed(why);
            }
            Ok(Err(_)) => {
                self.end(held, called, &fence).await;
                let (path, limit) = (called.start, self.daemon.start_timeout);
                return End::Failed(format!("POST {path} was not answered within {limit:?} (start-timeout)"));
            }
            Err(cause) => cause,
        };
        if matches!(cause, Cause::Gone) && timeout(ENDING, called.picked.has_ended()).await.is_ok() {
            return End::Failed("its process has ended".to_owned());
        }
        self.end(held, called, &fence).await;
        cause.into()
    }

    /// Has it stop, and makes sure that it does, before its lease is another's.
    async fn end(&self, held: &Held, called: &Called<'_>, fence: &HeaderValue) {
        let polite = async {
            let end = called.end?;
            let posted = timeout(self.daemon.stop_timeout, called.post(end, END, &self.daemon, fence)).await;
            match posted {
                Ok(Ok(())) => Some(()),
                Ok(Err(Refused::Said(why) | Refused::Broke(why))) => {
                    tracing::warn!(daemon = %self.daemon.name, why, "the daemon does not stop when asked to");
                    None
                }
                Err(_) => {
                    let limit = self.daemon.stop_timeout;
                    tracing::warn!(daemon = %self.daemon.name, ?limit, "the daemon has not stopped in time");
                    None
                }
            }
        };
        let stopped = tokio::select! {
            stopped = polite => stopped,
            () = held.is_late(KILL) => None,
            () = called.picked.has_ended() => Some(()),
        };
        if stopped.is_none() && called.picked.is_alive() {
            tracing::warn!(daemon = %self.daemon.name, pid = called.picked.pid, "killing the process in which the daemon runs");
            called.guarded.kill().await;
            if timeout(KILLED, called.picked.has_ended()).await.is_err() {
                tracing::error!(pid = called.picked.pid, "a killed process is still there");
            }
        }
    }

    /// The same in a process of its own: SIGTERM is the word to stop.
    async fn process(&self, held: &Held, stop: &CancellationToken, command: &[String]) -> End {
        let fence = fence(held);
        let fence = fence.to_str().unwrap_or_default();
        let variables = [("COPAL_DAEMON", self.daemon.name.as_str()), ("COPAL_FENCE", fence)];
        let mut process = match self.launch.start_beside(command, &self.env, &variables, &self.output) {
            Ok(process) => process,
            Err(cause) => {
                let program = command.first().map_or("", String::as_str);
                return End::Failed(format!("{program:?} can't be started: {cause}"));
            }
        };
        let run = process.run().to_owned();
        let guarded = match self.guard.watch(process.pid(), &run, held.at(KILL)).await {
            Ok(guarded) => guarded,
            // Dropped, it is killed.
            Err(cause) => return End::Failed(cause.to_string()),
        };
        tracing::info!(daemon = %self.daemon.name, fence, pid = process.pid(), "the daemon has started");
        let gone = std::future::pending::<()>();
        let ended = tokio::select! {
            ended = process.ended() => Ok(ended),
            cause = cause(held, stop, &guarded, gone) => Err(cause),
        };
        match ended {
            Ok(Ok(status)) => End::Failed(format!("it ended with {status}")),
            Ok(Err(cause)) => End::Failed(format!("it can't be watched: {cause}")),
            Err(cause) => {
                // Both end with SIGKILL to all that it started.
                tokio::select! {
                    () = process.stop(self.daemon.stop_timeout) => {}
                    () = held.is_late(KILL) => {}
                }
                cause.into()
            }
        }
    }
}

impl From<Cause> for End {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Stop => Self::Stopped,
            Cause::Late => Self::Lost,
            Cause::Gone => Self::Failed("its process is not healthy any more".to_owned()),
            Cause::Alone => Self::Failed("the guard of daemons has ended".to_owned()),
        }
    }
}

/// Waits for a reason to end, and tells the guard of renewals meanwhile.
async fn cause(
    held: &Held,
    stop: &CancellationToken,
    guarded: &Guarded,
    gone: impl Future<Output = ()>,
) -> Cause {
    let informing = async {
        loop {
            guarded.put_off(held.at(KILL));
            held.changed().await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => Cause::Stop,
        () = held.is_late(STOP) => Cause::Late,
        () = gone => Cause::Gone,
        () = guarded.is_alone() => Cause::Alone,
        () = informing => Cause::Late,
    }
}

fn fence(held: &Held) -> HeaderValue {
    let text = format!("{}={}", held.name().name, held.token());
    HeaderValue::try_from(text).expect("names are of letters, digits, `.`, `_` and `-`")
}

/// A daemon in a process of the app.
struct Called<'a> {
    picked: Picked,
    guarded: Guarded,
    start: &'a str,
    end: Option<&'a str>,
}

/// Why a call was of no use.
enum Refused {
    /// The app says so.
    Said(String),
    /// Nobody knows what the app has done.
    Broke(String),
}

impl Called<'_> {
    async fn post(
        &self,
        path: &str,
        what: &str,
        daemon: &Daemon,
        fence: &HeaderValue,
    ) -> Result<(), Refused> {
        let name = HeaderValue::try_from(daemon.name.as_str()).expect("names are valid in headers");
        let request = http::Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_LENGTH, "0")
            .header(DELIVERY, what)
            .header(SOURCE, name)
            .header(FENCE, fence)
            .body(empty())
            .map_err(|cause| Refused::Said(format!("POST {path}: {cause}")))?;
        let (status, text) = send(&self.picked.backend, request).await?;
        if status.is_success() {
            return Ok(());
        }
        Err(Refused::Said(format!("POST {path} was answered with {status}{text}")))
    }
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
