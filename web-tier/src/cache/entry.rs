//! A kept answer.

use super::{Room, Slot, body::Body, key::Key};
use crate::http1::{Name, ResponseHead};
use bytes::Bytes;
use http::StatusCode;
use http_cache::{
    date,
    directives::{AnswerDirectives, RequestDirectives},
    range::ContentRange,
    reuse::{Reuse, Stored},
    validate::Conditions,
    vary::Vary,
};
use moka::Expiry;
use proto::web::v1::CacheEntry;
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Whether something still stands in the cache; whoever has a copy looks.
#[derive(Debug)]
pub(crate) struct Life {
    over: AtomicBool,
    /// As it is out of date, not to make room.
    forgotten: AtomicBool,
    /// How old it was when it was expired, in seconds.
    expired: AtomicU64,
    /// How old it is to be before its server is asked in the background again.
    asked_from: AtomicU64,
}

/// Seconds for which a server is left alone that has failed in the background.
const FAILED_PAUSE: u64 = 2;

/// It was not expired.
const NEVER: u64 = u64::MAX;

impl Default for Life {
    fn default() -> Self {
        Self {
            over: AtomicBool::new(false),
            forgotten: AtomicBool::new(false),
            expired: AtomicU64::new(NEVER),
            asked_from: AtomicU64::new(0),
        }
    }
}

impl Life {
    /// It is not to be used any more.
    pub(crate) fn end(&self) {
        self.over.store(true, Relaxed);
    }

    /// The same, as it is out of date.
    pub(crate) fn forget(&self) {
        self.forgotten.store(true, Relaxed);
        self.end();
    }

    pub(crate) fn is_forgotten(&self) -> bool {
        self.forgotten.load(Relaxed)
    }

    /// Its server is to be asked first from now on, when it is so old.
    pub(crate) fn expire(&self, age: u64) {
        self.expired.fetch_min(age, Relaxed);
    }

    /// Its server has failed: it is left alone for a moment.
    pub(crate) fn failed(&self, age: u64) {
        self.asked_from.store(age + FAILED_PAUSE, Relaxed);
    }

    /// Whether its server may be asked in the background.
    pub(crate) fn may_be_asked(&self, age: u64) -> bool {
        age >= self.asked_from.load(Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    /// Without fields of one connection, `Age` and `Content-Length`.
    pub(crate) head: ResponseHead,
    pub(crate) body: Arc<Body>,
    /// Bytes of the body, where that is known.
    pub(crate) length: Option<u64>,
    pub(crate) directives: AnswerDirectives,
    /// When its head came, by a clock that only runs forward, and in seconds since 1970.
    pub(crate) came: Instant,
    pub(crate) came_s: u64,
    /// Seconds.
    pub(crate) initial_age: u64,
    pub(crate) lifetime: u64,
    /// How long it is kept beyond its freshness.
    pub(crate) stale_keep: Duration,
    pub(crate) etag: Option<Box<[u8]>>,
    pub(crate) last_modified: Option<Box<[u8]>>,
    /// `Surrogate-Key` and `Cache-Tag`.
    pub(crate) tags: Box<[Box<str>]>,
    pub(crate) life: Life,
    pub(crate) hits: AtomicU64,
    /// Clients that read its body.
    pub(crate) readers: AtomicU32,
}

impl Entry {
    /// A copy with the same body, that stands nowhere.
    pub(crate) fn copy(&self) -> Self {
        let mut head = ResponseHead::default();
        head.copy_from(&self.head);
        Self {
            key: self.key.clone(),
            head,
            body: self.body.clone(),
            length: self.length,
            directives: self.directives.clone(),
            came: self.came,
            came_s: self.came_s,
            initial_age: self.initial_age,
            lifetime: self.lifetime,
            stale_keep: self.stale_keep,
            etag: self.etag.clone(),
            last_modified: self.last_modified.clone(),
            tags: self.tags.clone(),
            life: Life::default(),
            hits: AtomicU64::new(0),
            readers: AtomicU32::new(0),
        }
    }

    /// How old it is, in seconds.
    pub(crate) fn age(&self, now: Instant) -> u64 {
        self.initial_age + now.saturating_duration_since(self.came).as_secs()
    }

    /// As far as its time goes. One that was expired is stale since then.
    pub(crate) fn stored(&self, now: Instant) -> Stored<'_> {
        let age = self.age(now);
        let lifetime = self.lifetime.min(self.life.expired.load(Relaxed));
        Stored { directives: &self.directives, age, lifetime }
    }

    /// What may be done with it for a request.
    pub(crate) fn reuse(&self, asked: &RequestDirectives, now: Instant) -> Reuse {
        match self.stored(now).reuse(asked) {
            Reuse::Stale | Reuse::WhileRevalidating if self.life.expired.load(Relaxed) != NEVER => {
                Reuse::Validate
            }
            reuse => reuse,
        }
    }

    /// Which part of a whole it is, if it is one.
    pub(crate) fn part(&self) -> Option<ContentRange> {
        if self.head.status != StatusCode::PARTIAL_CONTENT {
            return None;
        }
        ContentRange::of(self.head.fields.named("content-range").next()?)
    }

    /// Whether its server can be asked if it is still so.
    pub(crate) fn has_validator(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }

    /// Whether a client that says this has it.
    pub(crate) fn is_had(&self, conditions: &Conditions<'_>) -> bool {
        // It was made when it says, and else when it came.
        let made = || self.head.fields.first(Name::Date).and_then(date).unwrap_or(self.came_s);
        let made = if self.last_modified.is_none() { made() } else { self.came_s };
        conditions.are_met(self.etag.as_deref(), self.last_modified.as_deref(), made)
    }

    /// How long it is kept in all.
    pub(crate) fn kept_for(&self) -> Duration {
        let fresh = Duration::from_secs(self.lifetime.saturating_sub(self.initial_age));
        fresh.saturating_add(self.stale_keep)
    }

    /// Whether it was to be forgotten by now.
    pub(crate) fn is_past(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.came) > self.kept_for()
    }

    /// For an operator. Session ids are in no URL that is kept.
    pub(crate) fn told(&self, now: Instant) -> CacheEntry {
        let (host, target) = self.key.host_and_target();
        CacheEntry {
            url: format!("{host}{target}"),
            bytes: self.size() as u64,
            hits: self.hits.load(Relaxed),
            age_s: self.age(now),
            lifetime_s: self.lifetime,
            status: self.head.status.as_u16().into(),
        }
    }

    /// Bytes that it takes, without its key.
    pub(crate) fn size(&self) -> usize {
        let length = usize::try_from(self.body.length()).unwrap_or(usize::MAX);
        let tags: usize = self.tags.iter().map(|it| it.len() + size_of::<Box<str>>()).sum();
        length.saturating_add(self.head.size() + tags + size_of::<Self>())
    }
}

/// A client reads an answer, which may be evicted meanwhile: its memory counts beside the table's then, until nobody reads it any more.
#[derive(Debug)]
pub(crate) struct Reading {
    entry: Arc<Entry>,
    counted: bool,
}

impl Reading {
    /// Of the answer's own body, or of a copy of it, which is none of its memory.
    pub(crate) fn begin(entry: &Arc<Entry>, copied: bool, outside: impl FnOnce(u64) -> Room) -> Self {
        // The table may have had no room for it: then it is beside it from the beginning.
        if !copied && entry.readers.fetch_add(1, Relaxed) == 0 && entry.life.is_over() {
            entry.body.is_outside(outside(entry.body.length()));
        }
        Self { entry: entry.clone(), counted: !copied }
    }

    /// The answer.
    pub(crate) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if self.counted && self.entry.readers.fetch_sub(1, Relaxed) == 1 && self.entry.life.is_over() {
            self.entry.body.is_inside();
        }
    }
}

/// Says of a URL that its answers depend on fields of the request.
#[derive(Debug)]
pub(crate) struct Varies {
    pub(crate) key: Key,
    pub(crate) vary: Vary,
    pub(crate) kept_for: Duration,
    pub(crate) life: Life,
}

/// The body of an answer, compressed.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) key: Key,
    /// Whose it is: an answer that has taken that one's place has another.
    of: Weak<Body>,
    /// `None`: it does not become shorter.
    pub(crate) bytes: Option<Bytes>,
    pub(crate) kept_for: Duration,
    pub(crate) life: Life,
}

impl Packed {
    pub(crate) fn new(key: Key, entry: &Entry, bytes: Option<Bytes>) -> Self {
        let of = Arc::downgrade(&entry.body);
        Self { key, of, bytes, kept_for: entry.kept_for(), life: Life::default() }
    }

    /// Whether it is the body of this answer.
    pub(crate) fn is_of(&self, entry: &Entry) -> bool {
        std::ptr::eq(self.of.as_ptr(), Arc::as_ptr(&entry.body))
    }
}

/// Says of a key that its answer may not be kept.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) key: Key,
    pub(crate) life: Life,
}

/// When what is kept is to be forgotten.
#[derive(Debug)]
pub(super) struct KeptFor;

impl Expiry<u64, Slot> for KeptFor {
    fn expire_after_create(&self, _: &u64, slot: &Slot, _: Instant) -> Option<Duration> {
        Some(slot.kept_for())
    }

    fn expire_after_update(&self, _: &u64, slot: &Slot, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(slot.kept_for())
    }
}
