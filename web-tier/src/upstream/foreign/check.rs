//! Asks a backend how it is, on a connection of its own: a request that it has to answer well in time, or what gRPC servers are asked.

mod http1;
mod http2;

use super::{ForeignBackend, News, dial::Way};
use crate::{http1::HeadError, upstream::balance::health::Health};
use cluster_port::Stream;
use common::{
    config::{Backend, BackendProtocol, HealthCheck, HealthQuestion, HttpQuestion, StatusRange},
    shortage::is_shortage,
};
use regex::Regex;
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
    /// A connection is all.
    Connect,
    Http1(http1::Question, Expected),
    Http2(Box<http2::Question>, Expected),
}

/// What of an answer is well.
#[derive(Debug)]
struct Expected {
    status: Vec<StatusRange>,
    /// To be found in the body, which is read for it.
    body: Option<Regex>,
}

impl Expected {
    fn new(asked: &HttpQuestion) -> Self {
        // The configuration has read the expression already.
        let body = asked.body.as_ref().and_then(|it| Regex::new(it).ok());
        Self { status: asked.status.clone(), body }
    }

    /// Of gRPC: its own words follow.
    fn ok() -> Self {
        Self { status: vec![StatusRange { from: 200, to: 399 }], body: None }
    }

    fn judge(&self, status: u16) -> Result<(), CheckError> {
        match self.status.iter().any(|it| (it.from..=it.to).contains(&status)) {
            true => Ok(()),
            false => Err(CheckError::Status(status, self.shown())),
        }
    }

    fn judge_body(&self, body: &[u8]) -> Result<(), CheckError> {
        match &self.body {
            Some(regexp) if !regexp.is_match(&String::from_utf8_lossy(body)) => Err(CheckError::Body),
            _ => Ok(()),
        }
    }

    fn shown(&self) -> String {
        let shown = self.status.iter().map(|it| match it {
            StatusRange { from: 200, to: 399 } => "2xx or 3xx".to_owned(),
            StatusRange { from, to } if from == to => from.to_string(),
            StatusRange { from, to } => format!("{from} to {to}"),
        });
        shown.collect::<Vec<_>>().join(", ")
    }
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
        let named = |own: &Option<String>| own.clone().unwrap_or_else(|| host.to_owned());
        let question = match &check.question {
            HealthQuestion::Connect => Question::Connect,
            HealthQuestion::Http(asked) => {
                let (host, expected) = (named(&asked.host), Expected::new(asked));
                match backend.protocol {
                    BackendProtocol::Http1 | BackendProtocol::Tcp => {
                        Question::Http1(http1::Question::new(asked, &host), expected)
                    }
                    BackendProtocol::Http2 => {
                        let question = http2::Question::http(asked, &host, backend.tls);
                        Question::Http2(Box::new(question), expected)
                    }
                }
            }
            HealthQuestion::Grpc { service, host } => {
                let question = http2::Question::grpc(service, &named(host), backend.tls);
                Question::Http2(Box::new(question), Expected::ok())
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
    #[error("invalid answer: {0}")]
    Chunk(crate::http1::ChunkError),
    #[error("status {0}, expected {1}")]
    Status(u16, String),
    #[error("the body is not as expected")]
    Body,
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
        let answer = ask((&backend.way, check.port), &checks.question, check.timeout).await;
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
    Whole,
}

impl Answered {
    async fn drain(self) {
        if let Self::Http1(stream) = self {
            http1::drain(stream).await;
        }
    }
}

/// One check.
async fn ask(
    (way, port): (&Way, Option<u16>),
    question: &Question,
    within: Duration,
) -> Result<Answered, CheckError> {
    let asked = async {
        let stream = way.connect_to(port, None, within).await.map_err(CheckError::Connect)?;
        match question {
            Question::Connect => Ok(Answered::Whole),
            Question::Http1(question, expected) => {
                question.ask(stream, expected).await.map(|left| left.map_or(Answered::Whole, Answered::Http1))
            }
            Question::Http2(question, expected) => {
                question.ask(stream, expected).await.map(|()| Answered::Whole)
            }
        }
    };
    timeout(within, asked).await.unwrap_or(Err(CheckError::Late(within)))
}

#[cfg(test)]
mod tests;
