//! Asks a backend how it is: a GET that it has to answer with 2xx or 3xx in time.

use super::{ForeignBackend, News, addresses::Addresses, dial::connect};
use crate::{
    balance::health::Health,
    http1::{HeadError, HeadLimits, ResponseHead},
};
use common::{
    config::{Backend, HealthCheck},
    shortage::is_shortage,
};
use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, sleep_until, timeout},
};

/// The first check of a backend comes within this time, the first ones of many not at once.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// An answer's head is no longer than this, and of its body not more is read.
const ANSWER_MAX: usize = 64 * 1024;
const HEAD_LIMITS: HeadLimits = HeadLimits { count: 256, bytes: ANSWER_MAX, target: 0 };

/// How long an answer is read to its end. A backend that is hung up on writes it to its log as an error.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The checks of one backend.
#[derive(Debug)]
pub(super) struct Checks {
    request: Box<[u8]>,
    seen: Mutex<Seen>,
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
        let host = authority.strip_suffix(":80").unwrap_or(&authority);
        let request = format!(
            "GET {} HTTP/1.1\r\nhost: {host}\r\nuser-agent: copal-health-check\r\naccept: */*\r\nconnection: close\r\n\r\n",
            check.path
        );
        let health = Health::new(check.rise, check.fall);
        Self { request: request.into_bytes().into(), seen: Mutex::new(Seen { health, took: Duration::ZERO }) }
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
    #[error("status {0}, expected 2xx or 3xx")]
    Status(u16),
    #[error("no answer within {0:?}")]
    Late(Duration),
}

/// Checks a backend again and again, until it is dropped.
pub(super) async fn repeat(news: &News, backend: &ForeignBackend, check: &HealthCheck) {
    let Some(checks) = &backend.checks else { return };
    sleep(FIRST_WITHIN.min(check.interval).mul_f64(rand::random())).await;
    loop {
        let begun = Instant::now();
        let answer = ask(&backend.addresses, &checks.request, check.timeout).await;
        let took = begun.elapsed();
        let (answered, result) = match answer {
            Ok(stream) => (Some(stream), Some(Ok(()))),
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
        if let Some(stream) = answered {
            drain(stream).await;
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

/// One check. The connection is returned, to be read to its end.
async fn ask(addresses: &Addresses, request: &[u8], within: Duration) -> Result<TcpStream, CheckError> {
    let asked = async {
        let mut stream = connect(addresses, within).await.map_err(CheckError::Connect)?;
        stream.write_all(request).await?;
        read_head(&mut stream).await?;
        Ok(stream)
    };
    timeout(within, asked).await.unwrap_or(Err(CheckError::Late(within)))
}

/// Reads up to the head of an answer that is not an interim one, and judges it.
async fn read_head(stream: &mut TcpStream) -> Result<(), CheckError> {
    let (mut input, mut head) = (Vec::new(), ResponseHead::default());
    let mut start = 0;
    loop {
        while let Some(length) = head.parse(&input[start..], &HEAD_LIMITS)? {
            match head.status.as_u16() {
                200..400 => return Ok(()),
                // A change of protocols was not asked for.
                100 | 102..200 => start += length,
                status => return Err(CheckError::Status(status)),
            }
        }
        if input.len() >= ANSWER_MAX {
            return Err(HeadError::TooLarge.into());
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err(CheckError::Ended);
        }
    }
}

/// Reads what is left, within bounds.
async fn drain(mut stream: TcpStream) {
    let mut rest = [0; 4096];
    let reading = async {
        let mut left = ANSWER_MAX;
        while let Ok(count @ 1..) = stream.read(&mut rest).await {
            left = left.saturating_sub(count);
            if left == 0 {
                return;
            }
        }
    };
    let _ = timeout(DRAIN_TIMEOUT, reading).await;
}

#[cfg(test)]
mod tests;
