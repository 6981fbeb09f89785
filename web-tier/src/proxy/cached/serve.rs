//! A kept answer, as one client gets it: whole, a part, or the word that the client has it already.

use super::{Ask, Forwarded, asks::Asks, keep::Begun};
use crate::{
    cache::{
        entry::{Entry, Reading},
        near::Found,
    },
    http1::{Fields, Name, RequestHead},
    proxy::{
        Reply,
        local::{Local, LocalBody, StoredBody},
    },
};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_cache::{
    date,
    range::{ContentRange, Part, part},
    validate::{is_told_with_304, matches_strongly},
};

/// A kept answer, fresh or as stale as it may be.
pub(super) fn hit(ask: Ask<'_>, head: &RequestHead, asks: &Asks, found: &Found) -> Reply {
    ask.client.worker.counters.cache.hits.up();
    ask.noted("hit");
    let stored = found.entry.stored(ask.client.worker.now());
    let (sign, left) =
        if stored.is_fresh() { ("", stored.lifetime - stored.age) } else { ("-", stored.staleness()) };
    give(ask, head, asks, found, ["hit; ttl=", sign, itoa::Buffer::new().format(left)])
}

/// The answer to another request, for which this one has waited.
pub(super) fn collapsed(ask: Ask<'_>, head: &RequestHead, asks: &Asks, found: &Found) -> Reply {
    ask.noted("collapsed");
    give(ask, head, asks, found, ["hit; collapsed", "", ""])
}

/// An answer that has just come.
pub(super) fn stored(ask: Ask<'_>, head: &RequestHead, asks: &Asks, begun: Begun, why: Forwarded) -> Reply {
    ask.noted("miss");
    let found = Found::far(begun.entry);
    let mut reply = give(ask, head, asks, &found, ["fwd=", why.word(), "; stored"]);
    if let Reply::Local(local) = &mut reply {
        begun.for_one.iter().for_each(|it| local.head.fields.push(it.known, it.name, it.value));
    }
    reply
}

/// Its server says that it is still so.
pub(super) fn revalidated(ask: Ask<'_>, head: &RequestHead, asks: &Asks, found: &Found) -> Reply {
    ask.noted("revalidated");
    give(ask, head, asks, found, ["fwd=stale; fwd-status=304", "", ""])
}

/// A stale answer in the place of an error.
pub(super) fn stale_on_error(
    ask: Ask<'_>,
    head: &RequestHead,
    asks: &Asks,
    found: &Found,
    status: StatusCode,
) -> Reply {
    ask.client.worker.counters.cache.stale_on_error.up();
    ask.noted("stale");
    let status = ["hit; fwd=stale; fwd-status=", status.as_str(), "; detail=stale-if-error"];
    give(ask, head, asks, found, status)
}

/// Adds a member to `Cache-Status` (RFC 9211): caches nearer to the origin come before.
pub(super) fn put_status(fields: &mut Fields, [what, word, more]: [&str; 3]) {
    fields.push_parts(b"cache-status", &[b"copal; ", what.as_bytes(), word.as_bytes(), more.as_bytes()]);
}

fn give(ask: Ask<'_>, head: &RequestHead, asks: &Asks, found: &Found, status: [&str; 3]) -> Reply {
    let entry = &found.entry;
    let conditions = asks.conditions();
    let is_content = matches!(entry.head.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT);
    let mut local = if is_content && conditions.is_some() && entry.is_had(&conditions) {
        not_modified(ask, entry)
    } else {
        with_body(ask, head, asks, found)
    };
    put_age(&mut local.head.fields, entry.age(ask.client.worker.now()));
    put_status(&mut local.head.fields, status);
    Reply::Local(local)
}

fn put_age(fields: &mut Fields, age: u64) {
    fields.push(Name::Other, b"age", itoa::Buffer::new().format(age).as_bytes());
}

fn not_modified(ask: Ask<'_>, entry: &Entry) -> Local {
    let mut local = Local::cached(ask.client, LocalBody::Bytes(Bytes::new()));
    local.head.begin(StatusCode::NOT_MODIFIED, 0);
    for field in entry.head.fields.iter().filter(|it| is_told_with_304(it.name)) {
        local.head.fields.push(field.known, field.name, field.value);
    }
    local.head.forget_length();
    local
}

fn with_body(ask: Ask<'_>, head: &RequestHead, asks: &Asks, found: &Found) -> Local {
    let entry = &found.entry;
    let given = |from: u64, length: Option<u64>| {
        let mut local = Local::cached(ask.client, body(found, from, length));
        local.kept =
            Some(Reading::begin(entry, found.copy.is_some(), |bytes| ask.settings.cache.room_taken(bytes)));
        local
    };
    if let Some(kept) = entry.part() {
        let wanted = asks.range.as_deref().and_then(|it| kept.part(it));
        let (from, to) = wanted.unwrap_or((kept.from, kept.to));
        let mut local = given(from - kept.from, Some(to - from));
        local.head.copy_from(&entry.head);
        local.head.set_length(to - from);
        local.head.fields.remove_if(|it| it.name.eq_ignore_ascii_case(b"content-range"));
        put_range(&mut local, &ContentRange { from, to, total: kept.total }.to_string());
        return local;
    }
    let is_part =
        head.method == Method::GET && entry.head.status == StatusCode::OK && is_of_range(asks, entry);
    let wanted = match (&asks.range, entry.length) {
        (Some(range), Some(length)) if is_part => (part(range, length), length),
        _ => (Part::Whole, 0),
    };
    let (mut local, length) = match wanted {
        (Part::Whole, _) => {
            let mut local = given(0, entry.length);
            local.head.copy_from(&entry.head);
            return local;
        }
        (Part::Bytes(from, to), length) => {
            let mut local = given(from, Some(to - from));
            local.head.copy_from(&entry.head);
            set_status(&mut local, StatusCode::PARTIAL_CONTENT);
            local.head.set_length(to - from);
            put_range(&mut local, &ContentRange { from, to, total: length }.to_string());
            return local;
        }
        (Part::None, length) => (Local::cached(ask.client, LocalBody::Bytes(Bytes::new())), length),
    };
    local.head.begin(StatusCode::RANGE_NOT_SATISFIABLE, 0);
    put_range(&mut local, &format!("bytes */{length}"));
    local
}

fn set_status(local: &mut Local, status: StatusCode) {
    local.head.status = status;
    local.head.reason.clear();
    local.head.reason.push_str(status.canonical_reason().unwrap_or_default());
}

fn put_range(local: &mut Local, range: &str) {
    local.head.fields.push(Name::Other, b"content-range", range.as_bytes());
}

/// Whether `If-Range` lets a part be given (RFC 9110 §13.1.5).
pub(super) fn is_of_range(asks: &Asks, entry: &Entry) -> bool {
    let Some(condition) = asks.if_range.as_deref() else { return true };
    match date(condition) {
        Some(time) => entry.last_modified.as_deref().and_then(date) == Some(time),
        None => entry.etag.as_deref().is_some_and(|tag| matches_strongly(tag, condition)),
    }
}

/// So many bytes of a body, or all that comes; a short one that is there is handed over, so that the worker's own copy serves.
fn body(found: &Found, from: u64, length: Option<u64>) -> LocalBody {
    let there = found.copy.as_ref().or_else(|| found.entry.body.get());
    if let Some(bytes) = there {
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
        let wanted = length.map_or(bytes.len(), |it| usize::try_from(it).unwrap_or(usize::MAX));
        return LocalBody::Bytes(bytes.slice(from..from.saturating_add(wanted).min(bytes.len())));
    }
    LocalBody::Stored(Box::new(StoredBody { body: found.entry.body.clone(), at: from, left: length }))
}
