//! Asks a backend how it is, on a connection of its own: a GET that it has to answer with 2xx or 3xx in time, or what gRPC servers
//! are asked.

mod http1;
mod http2;

use super::{ForeignBackend, News, dial::Way};
use crate::{http1::HeadError, upstream::balance::health::Health};
use cluster_port::Stream;
use common::{
    config::{Backend, BackendProtocol, HealthCheck, HealthQuestion},
    shortage::is_shortage,
};
use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The first check of a backend comes within this time, the first ones of many not at once.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// Of an answer not more bytes are read.
const ANSWER_MAX: usize = 64 * 1024;

/// The checks of one backend.
#[derive(Debug)]
pub(super) struct Checks {
    question: Question,
    seen: Mutex<Seen>,
}

/// What is asked.
#[derive(Debug)]
enum Question {
    Http1(http1::Question),
    Http2(http2::Question),
}

/// What they have come to.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) health: Health,
    /// How long the last one took.
    pub(super) took: Duration,
}

impl Checks {
    pub(super) fn new(check: &HealthCheck, backend: &Backend) -> Self {
        let authority = backend.authority();
        let usual = if backend.tls { ":443" } else { ":80" };
        let host = authority.strip_suffix(usual).unwrap_or(&authority);
        let question = match (&check.question, backend.protocol) {
            (HealthQuestion::Get(path), BackendProtocol::Http1) => {
                Question::Http1(http1::Question::new(path, host))
            }
            (HealthQuestion::Get(path), BackendProtocol::Http2) => {
                Question::Http2(http2::Question::get(path, host, backend.tls))
            }
            (HealthQuestion::Grpc(service), _) => {
                Question::Http2(http2::Question::grpc(service, host, backend.tls))
            }
        };
        let health = Health::new(check.rise, check.fall);
        Self { question, seen: Mutex::new(Seen { health, took: Duration::ZERO }) }
    }

    /// What they have come to so far.
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a backend is not well.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("no connection: {0}")]
    Connect(io::Error),
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the connection ended before an answer")]
    Ended,
    #[error("invalid answer: {0}")]
    Invalid(#[from] HeadError),
    #[error("invalid answer: {0}")]
    Http2(#[from] h2::Error),
    #[error("status {0}, expected 2xx or 3xx")]
    Status(u16),
    #[error("gRPC: {0}")]
    Grpc(String),
    #[error("no answer within {0:?}")]
    Late(Duration),
}

/// Checks a backend again and again, until it is dropped.
pub(super) async fn repeat(news: &News, backend: &ForeignBackend, check: &HealthCheck) {
    let Some(checks) = &backend.checks else { return };
    sleep(FIRST_WITHIN.min(check.interval).mul_f64(rand::random())).await;
    loop {
        let begun = Instant::now();
        let answer = ask(&backend.way, &checks.question, check.timeout).await;
        let took = begun.elapsed();
        let (answered, result) = match answer {
            Ok(answered) => (Some(answered), Some(Ok(()))),
            // Nobody was asked.
            Err(CheckError::Connect(cause)) if is_shortage(&cause) => {
                tracing::warn!(backend = %backend.id, %cause, "a backend can't be checked: this machine is short of something");
                (None, None)
            }
            Err(cause) => (None, Some(Err(cause.to_string().into_boxed_str()))),
        };
        if result.is_some_and(|result| note(backend, checks, took, result)) {
            news.send_replace(());
        }
        if let Some(answered) = answered {
            answered.drain().await;
        }
        // A tenth more or less, so that the checks of many backends, and of many web tiers, do not fall into step.
        sleep_until(begun + check.interval.mul_f64(rand::random_range(0.9..1.1))).await;
    }
}

/// Keeps a result; whether the backend has gone up or down by it.
fn note(backend: &ForeignBackend, checks: &Checks, took: Duration, result: Result<(), Box<str>>) -> bool {
    let why = result.as_ref().err().cloned();
    let mut seen = checks.seen();
    let changed = seen.health.note(std::time::Instant::now(), result);
    seen.took = took;
    if !changed {
        return false;
    }
    let up = seen.health.is_up();
    drop(seen);
    backend.up.store(up, Ordering::Relaxed);
    match why {
        Some(cause) => tracing::warn!(backend = %backend.id, %cause, "a backend is down"),
        None => tracing::info!(backend = %backend.id, "a backend is up again"),
    }
    true
}

/// What is left of a good answer.
#[derive(Debug)]
enum Answered {
    /// To be read to its end: a backend that is hung up on writes it to its log as an error.
    Http1(Stream),
    Http2,
}

impl Answered {
    async fn drain(self) {
        if let Self::Http1(stream) = self {
            http1::drain(stream).await;
        }
    }
}

/// One check.
async fn ask(way: &Way, question: &Question, within: Duration) -> Result<Answered, CheckError> {
    let asked = async {
        let stream = way.connect(within).await.map_err(CheckError::Connect)?;
        match question {
            Question::Http1(question) => question.ask(stream).await.map(Answered::Http1),
            Question::Http2(question) => question.ask(stream).await.map(|()| Answered::Http2),
        }
    };
    timeout(within, asked).await.unwrap_or(Err(CheckError::Late(within)))
}

/// Judges a status.
fn judge(status: u16) -> Result<(), CheckError> {
    if matches!(status, 200..400) { Ok(()) } else { Err(CheckError::Status(status)) }
}

#[cfg(test)]
mod tests;
