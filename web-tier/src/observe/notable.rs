//! The requests that an operator asks for: those that failed and why, and the slowest. A worker keeps its own few, and no request waits
//! for another's: one that went well and fast costs two comparisons. docs/status-page.md has what is shown.

use super::{access_log::put_masked, histogram::bucket};
use crate::http1::RequestHead;
use http::StatusCode;
use proto::{requests::v1::NotableRequest, status::v1::Exemplar};
use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    mem,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Failed requests that are kept, and those of them that have the same status, reason and server: a server that fails all the time, or a
/// stranger who can make one kind of failure, pushes no other kind out.
const FAILED_MAX: usize = 64;
const ALIKE_MAX: usize = 16;

/// Slow requests that are kept of a window, and how long it is.
const SLOW_MAX: usize = 20;
const WINDOW: Duration = Duration::from_secs(300);

/// How much is kept of a path, and of a host's name, in bytes.
const PATH_MAX: usize = 200;
const HOST_MAX: usize = 80;

/// The longest id of an exemplar: a label's name and value have 128 characters (OpenMetrics 1.0).
const EXEMPLAR_ID_MAX: usize = 100;

/// A worker's.
#[derive(Debug)]
pub(crate) struct Notable {
    failed: RefCell<VecDeque<Kept>>,
    slow: RefCell<Slow>,
    /// What takes longer is one of the slowest.
    threshold: Cell<Duration>,
}

/// What a server did in the middle of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CutOff {
    Broke,
    Silent,
}

impl CutOff {
    /// In words for operators.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Broke => "the server broke off in the middle of its answer",
            Self::Silent => "the server fell silent in the middle of its answer",
        }
    }
}

#[derive(Debug)]
struct Slow {
    since: Instant,
    present: Vec<Kept>,
    former: Vec<Kept>,
}

/// A request that is kept.
#[derive(Debug, Clone)]
struct Kept {
    id: Box<str>,
    method: Box<str>,
    host: Box<str>,
    path: Box<str>,
    server: Box<str>,
    status: StatusCode,
    why: Cow<'static, str>,
    taken: Duration,
    at: SystemTime,
}

/// What a worker keeps, for who asks.
#[derive(Debug, Default)]
pub(crate) struct NotableReport {
    pub(crate) failed: Vec<NotableRequest>,
    pub(crate) slow: Vec<NotableRequest>,
    /// How long `slow` is of.
    pub(crate) passed: Duration,
}

impl Notable {
    /// Nothing happened yet.
    pub(crate) fn new(now: Instant) -> Self {
        let slow = Slow { since: now, present: Vec::new(), former: Vec::new() };
        Self { failed: RefCell::default(), slow: RefCell::new(slow), threshold: Cell::default() }
    }

    /// A request gets an answer with this status, `taken` after it had been read. `why` it failed is asked if it has; `None`: it is
    /// of the client's doing.
    pub(crate) fn answered(
        &self,
        head: &RequestHead,
        status: StatusCode,
        why: impl FnOnce() -> Option<Cow<'static, str>>,
        (taken, at): (Duration, SystemTime),
    ) {
        if !status.is_server_error() && taken <= self.threshold.get() {
            return;
        }
        let why = if status.is_server_error() { why() } else { None };
        if let Some(why) = &why {
            self.fail(Kept::of(head, status, why.clone(), taken, at));
        }
        if taken > self.threshold.get() {
            self.slow(Kept::of(head, status, why.unwrap_or_default(), taken, at));
        }
    }

    /// Its server did this in the middle of the answer.
    pub(crate) fn cut(
        &self,
        head: &RequestHead,
        status: StatusCode,
        why: CutOff,
        (taken, at): (Duration, SystemTime),
    ) {
        self.fail(Kept::of(head, status, Cow::Borrowed(why.words()), taken, at));
    }

    /// To be called a few times a second.
    pub(crate) fn tick(&self, now: Instant) {
        let mut slow = self.slow.borrow_mut();
        if now.saturating_duration_since(slow.since) >= WINDOW {
            slow.former = mem::take(&mut slow.present);
            slow.since = now;
            self.threshold.set(Duration::ZERO);
        }
    }

    /// What is kept now.
    pub(crate) fn report(&self, now: Instant) -> NotableReport {
        let (failed, slow) = (self.failed.borrow(), self.slow.borrow());
        let before = if slow.former.is_empty() { Duration::ZERO } else { WINDOW };
        NotableReport {
            failed: failed.iter().map(Kept::told).collect(),
            slow: slow.present.iter().chain(&slow.former).map(Kept::told).collect(),
            passed: now.saturating_duration_since(slow.since) + before,
        }
    }

    /// Examples of how long requests took, at most one of each bucket of the histogram.
    pub(crate) fn exemplars(&self) -> Vec<Exemplar> {
        let (failed, slow) = (self.failed.borrow(), self.slow.borrow());
        // What was cut off counts with the time of its head, which is not known here.
        let answered = failed.iter().filter(|it| it.status.is_server_error());
        let known = slow.former.iter().chain(&slow.present).chain(answered);
        newest(known.filter(|it| !it.id.is_empty() && it.id.len() <= EXEMPLAR_ID_MAX).map(Kept::exemplar))
    }

    fn fail(&self, kept: Kept) {
        let mut failed = self.failed.borrow_mut();
        let alike = |it: &Kept| it.status == kept.status && it.why == kept.why && it.server == kept.server;
        let oldest = if failed.iter().filter(|it| alike(it)).count() >= ALIKE_MAX {
            failed.iter().position(alike)
        } else {
            (failed.len() >= FAILED_MAX).then_some(0)
        };
        if let Some(place) = oldest {
            failed.remove(place);
        }
        failed.push_back(kept);
    }

    fn slow(&self, kept: Kept) {
        let present = &mut self.slow.borrow_mut().present;
        let place = present.partition_point(|it| it.taken >= kept.taken);
        present.insert(place, kept);
        present.truncate(SLOW_MAX);
        if let Some(last) = present.last().filter(|_| present.len() == SLOW_MAX) {
            self.threshold.set(last.taken);
        }
    }
}

/// The newest of each bucket.
pub(crate) fn newest(exemplars: impl IntoIterator<Item = Exemplar>) -> Vec<Exemplar> {
    let mut newest: BTreeMap<u32, Exemplar> = BTreeMap::new();
    for it in exemplars {
        if newest.get(&it.bucket).is_none_or(|known| known.time_ms <= it.time_ms) {
            newest.insert(it.bucket, it);
        }
    }
    newest.into_values().collect()
}

impl Kept {
    fn of(
        head: &RequestHead,
        status: StatusCode,
        why: Cow<'static, str>,
        taken: Duration,
        at: SystemTime,
    ) -> Self {
        let text = |bytes: &[u8], max: usize| cut(&String::from_utf8_lossy(bytes), max);
        let mut path = Vec::new();
        put_masked(&mut path, head.path().as_bytes());
        Self {
            id: text(&head.noted.id, PATH_MAX),
            method: cut(head.method.as_str(), HOST_MAX),
            host: cut(head.host(), HOST_MAX),
            path: text(&path, PATH_MAX),
            server: head.noted.server.as_deref().map_or_else(Box::default, |it| cut(it, PATH_MAX)),
            status,
            why,
            taken,
            at,
        }
    }

    fn exemplar(&self) -> Exemplar {
        let taken_us = micros(self.taken);
        Exemplar {
            bucket: u32::try_from(bucket(taken_us)).unwrap_or(u32::MAX),
            request_id: self.id.to_string(),
            taken_us,
            time_ms: self.time_ms(),
        }
    }

    fn time_ms(&self) -> u64 {
        let since = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn told(&self) -> NotableRequest {
        NotableRequest {
            id: self.id.to_string(),
            method: self.method.to_string(),
            host: self.host.to_string(),
            path: self.path.to_string(),
            server: self.server.to_string(),
            status: self.status.as_u16().into(),
            why: self.why.to_string(),
            taken_us: micros(self.taken),
            time_ms: self.time_ms(),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The beginning of a text, control characters escaped.
fn cut(text: &str, max: usize) -> Box<str> {
    let mut shown = String::new();
    for it in text.chars() {
        if shown.len() >= max {
            shown.push('…');
            break;
        }
        if it.is_control() { shown.extend(it.escape_unicode()) } else { shown.push(it) }
    }
    shown.into()
}

#[cfg(test)]
mod tests;
