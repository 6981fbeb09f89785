//! A kept answer as it is on disk, and back.

use super::{
    Slot,
    body::Body,
    entry::{Entry, Life, Varies},
    key::Key,
};
use crate::http1::{Name, ResponseHead};
use bytes::Bytes;
use disk_cache::Record;
use http::StatusCode;
use http_cache::{directives::AnswerDirectives, vary::Vary};
use prost::Message;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64},
    },
    time::{Duration, Instant},
};

/// What stands on disk of an answer, or of what answers depend on, beside its key and its body. A number that is there once means the same for ever.
#[derive(Clone, PartialEq, Message)]
struct Meta {
    /// Where the URL ends in the key.
    #[prost(uint32, tag = "1")]
    url: u32,
    #[prost(uint32, tag = "2")]
    status: u32,
    #[prost(string, tag = "3")]
    reason: String,
    /// `name: value`, each with its CRLF.
    #[prost(bytes = "vec", tag = "4")]
    fields: Vec<u8>,
    /// As a `Cache-Control` has it.
    #[prost(string, tag = "5")]
    directives: String,
    #[prost(uint64, tag = "6")]
    came_s: u64,
    #[prost(uint64, tag = "7")]
    initial_age: u64,
    #[prost(uint64, tag = "8")]
    lifetime: u64,
    #[prost(uint64, tag = "9")]
    stale_keep_s: u64,
    #[prost(string, repeated, tag = "10")]
    tags: Vec<String>,
    /// Fields that answers depend on: it is no answer then.
    #[prost(string, repeated, tag = "11")]
    vary: Vec<String>,
    #[prost(uint64, tag = "12")]
    kept_for_s: u64,
}

/// How far the clock may go back, in seconds.
const CLOCK_STEP: u64 = 5;

/// The time by both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) monotonic: Instant,
    /// Seconds since 1970.
    pub(crate) wall: u64,
}

/// When it is to be gone, in seconds since 1970.
fn until(came_s: u64, kept_for: Duration) -> u32 {
    u32::try_from(came_s.saturating_add(kept_for.as_secs())).unwrap_or(u32::MAX)
}

/// An answer; `None`: its body is not there.
pub(super) fn of_entry(entry: &Entry) -> Option<Record> {
    let body = entry.body.get()?.clone();
    let mut fields = Vec::new();
    entry.head.fields.put(&mut fields);
    let meta = Meta {
        url: u32::try_from(entry.key.url().len()).ok()?,
        status: entry.head.status.as_u16().into(),
        reason: entry.head.reason.clone(),
        fields,
        directives: entry.directives.text(),
        came_s: entry.came_s,
        initial_age: entry.initial_age,
        lifetime: entry.lifetime,
        stale_keep_s: entry.stale_keep.as_secs(),
        tags: entry.tags.iter().map(|it| it.clone().into()).collect(),
        ..Meta::default()
    };
    Some(Record {
        key: Bytes::copy_from_slice(entry.key.bytes()),
        meta: meta.encode_to_vec().into(),
        body,
        expires: until(entry.came_s, entry.kept_for()),
    })
}

/// What the answers of a URL depend on.
pub(super) fn of_varies(varies: &Varies, wall: u64) -> Record {
    let meta = Meta {
        url: u32::try_from(varies.key.url().len()).unwrap_or(u32::MAX),
        vary: varies.vary.names().map(str::to_owned).collect(),
        kept_for_s: varies.kept_for.as_secs(),
        came_s: wall,
        ..Meta::default()
    };
    Record {
        key: Bytes::copy_from_slice(varies.key.bytes()),
        meta: meta.encode_to_vec().into(),
        body: Bytes::new(),
        expires: until(wall, varies.kept_for),
    }
}

/// What was written; `None`: by another version, which had something that this one does not know.
pub(super) fn read(record: &Record, now: Now) -> Option<Slot> {
    let meta = Meta::decode(record.meta.clone()).ok()?;
    // It can't have come later than now: nobody knows how old it is.
    if meta.came_s > now.wall + CLOCK_STEP {
        return None;
    }
    let url = usize::try_from(meta.url).ok().filter(|it| *it <= record.key.len())?;
    let key = Key::new(&record.key, url);
    if !meta.vary.is_empty() {
        let vary = Vary::of(&[("vary", meta.vary.join(", ").as_str())])?;
        let passed = now.wall.saturating_sub(meta.came_s);
        let kept_for = Duration::from_secs(meta.kept_for_s.saturating_sub(passed));
        return Some(Slot::Varies(Arc::new(Varies { key, vary, kept_for, life: Life::default() })));
    }
    let mut head = ResponseHead::default();
    head.status = StatusCode::from_u16(u16::try_from(meta.status).ok()?).ok()?;
    head.reason = meta.reason;
    let mut rest = &meta.fields[..];
    while !rest.is_empty() {
        let end = memchr::memmem::find(rest, b"\r\n")?;
        let (line, behind) = (&rest[..end], &rest[end + 2..]);
        let colon = memchr::memmem::find(line, b": ")?;
        head.fields.push(Name::of(&line[..colon]), &line[..colon], &line[colon + 2..]);
        rest = behind;
    }
    let length = record.body.len() as u64;
    let named = |name: &str| head.fields.named(name).next().map(Box::from);
    let passed = Duration::from_secs(now.wall.saturating_sub(meta.came_s));
    let entry = Entry {
        key,
        body: Arc::new(Body::whole(record.body.clone())),
        length: Some(length),
        directives: AnswerDirectives::of(&[("cache-control", meta.directives.as_str())]),
        came: now.monotonic.checked_sub(passed).unwrap_or(now.monotonic),
        came_s: meta.came_s,
        initial_age: match now.monotonic.checked_sub(passed) {
            Some(_) => meta.initial_age,
            // The machine has started since: the clock that only runs forward does not go back so far.
            None => meta.initial_age + passed.as_secs(),
        },
        lifetime: meta.lifetime,
        stale_keep: Duration::from_secs(meta.stale_keep_s),
        etag: named("etag"),
        last_modified: named("last-modified"),
        tags: meta.tags.into_iter().map(Into::into).collect(),
        life: Life::default(),
        hits: AtomicU64::new(0),
        readers: AtomicU32::new(0),
        head: head.kept(Some(length)),
    };
    Some(Slot::Entry(Arc::new(entry)))
}
