//! Parts that are kept as parts (RFC 9111 §3.3), while the whole is not kept: one of each answer, which grows by those that touch it where a strong
//! tag says that they are of the same body (§3.4). They answer requests for ranges that lie in them, and no others.

use super::{
    Ask, Forwarded, Plan, Question,
    asks::Asks,
    given, keep,
    lead::normalise,
    serve::{self, is_of_range},
    wait::Wait,
};
use crate::{
    cache::{
        Cache, Lookup,
        body::Body,
        entry::Entry,
        fetch::Lead,
        key::{Key, Wanted},
        near::Found,
    },
    http1::{Length, Name, RequestHead, ResponseHead},
    proxy::{Passed, Reply},
};
use bytes::Bytes;
use http::StatusCode;
use http_cache::{range::ContentRange, reuse::Reuse};
use std::sync::Arc;

/// Which part of a whole an answer is, if it is one that can be kept: one range, of a known whole, and as long as it says.
pub(super) fn content_range(answer: &ResponseHead) -> Option<ContentRange> {
    if answer.status != StatusCode::PARTIAL_CONTENT {
        return None;
    }
    let mut lines = answer.fields.named("content-range");
    let (line, None) = (lines.next()?, lines.next()) else { return None };
    let range = ContentRange::of(line)?;
    (answer.length(false) == Length::Exact(range.length())).then_some(range)
}

/// A request for a part of what is not kept as a whole.
pub(in crate::proxy) struct PartAsked {
    asks: Asks,
    whole: Key,
    lead: Lead,
    asked_s: u64,
}

impl PartAsked {
    /// Looks for the part that is kept of a whole with this key.
    pub(super) fn plan(ask: Ask<'_>, head: &mut RequestHead, asks: Asks, whole: Key) -> Plan {
        let (cache, worker) = (&ask.settings.cache, &ask.client.worker);
        let mut key = Wanted::of(&whole.of_parts());
        let found = match cache.lookup(&worker.near, &mut key, &head.fields, worker.now()) {
            Lookup::Found(found) => Some(found),
            Lookup::Missing if cache.disk().is_some() => return Wait::for_part(asks, key, whole),
            Lookup::Missing | Lookup::Pass | Lookup::NoKey => None,
        };
        Self::plan_with(ask, head, asks, (&key, whole), found)
    }

    /// The same, when it is known what is kept.
    pub(super) fn plan_with(
        ask: Ask<'_>,
        head: &mut RequestHead,
        asks: Asks,
        (key, whole): (&Wanted, Key),
        found: Option<Found>,
    ) -> Plan {
        let (cache, worker) = (&ask.settings.cache, &ask.client.worker);
        if let Some(found) = found.filter(|it| has(it, &asks))
            && matches!(found.entry.reuse(&asks.directives, worker.now()), Reuse::Fresh | Reuse::Stale)
        {
            return Plan::Reply(serve::hit(ask, head, &asks, &found));
        }
        if asks.directives.only_if_cached {
            return Plan::nothing_kept(ask);
        }
        let lead = if asks.directives.no_store { None } else { cache.fetches.alone(cache, key) };
        // Others that ask for parts meanwhile do not wait: theirs may be other ones.
        let Some(lead) = lead else { return Plan::pass(ask, Forwarded::UriMiss) };
        worker.counters.cache.misses.up();
        normalise(head, &asks);
        let asked_s = worker.wall_seconds();
        Plan::Ask(Question::Part(Box::new(Self { asks, whole, lead, asked_s })))
    }

    /// Keeps the answer, if it may be kept.
    pub(super) fn answered(self, ask: Ask<'_>, head: &RequestHead, mut passed: Passed) -> Reply {
        let Self { asks, whole, lead, asked_s } = self;
        let Ok(storable) = keep::storable(ask, head, &asks, &passed, asked_s) else {
            return given(ask, head, passed, Forwarded::UriMiss);
        };
        let place = if is_part_of_more(&mut passed) { whole.of_parts() } else { whole };
        match keep::begin(ask, head, &place, storable, passed, lead) {
            Ok(begun) => serve::stored(ask, head, &asks, begun, Forwarded::UriMiss),
            Err(passed) => given(ask, head, *passed, Forwarded::UriMiss),
        }
    }
}

/// Whether an answer is a part; one that is all there is becomes the whole.
fn is_part_of_more(passed: &mut Passed) -> bool {
    let answer = &mut passed.answer.head;
    let Some(range) = content_range(answer) else { return false };
    if range.is_whole() {
        answer.status = StatusCode::OK;
        answer.reason.clear();
        answer.reason.push_str("OK");
        answer.fields.remove_if(|it| it.name.eq_ignore_ascii_case(b"content-range"));
    }
    !range.is_whole()
}

/// Whether what is kept has all that is asked for, and is what is asked for.
fn has(found: &Found, asks: &Asks) -> bool {
    let part = found.entry.part();
    let wanted = asks.range.as_deref().zip(part).and_then(|(range, part)| part.part(range));
    wanted.is_some() && is_of_range(asks, &found.entry)
}

/// A part together with the one that is kept already, if they are of the same body without doubt, and touch; fields and age are those
/// of the newer (RFC 9111 §3.4).
pub(super) fn joined(cache: &Cache, new: &Entry, max: u64) -> Option<Arc<Entry>> {
    let added = new.part()?;
    let old = cache.peek(&new.key)?;
    let known = old.part()?;
    let is_strong = |tag: &&[u8]| tag.starts_with(b"\"");
    let same = new.etag.as_deref().filter(is_strong).is_some_and(|tag| old.etag.as_deref() == Some(tag));
    let range = known.joined(&added).filter(|it| same && it.length() <= max)?;
    if range == added {
        return None;
    }
    let (old_body, new_body) = (old.body.get()?, new.body.get()?);
    let mut body = Vec::with_capacity(usize::try_from(range.length()).ok()?);
    let offset = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    // What the old one has before, the new one, and what the old one has behind.
    body.extend_from_slice(
        old_body.get(..offset(added.from.saturating_sub(known.from)).min(old_body.len()))?,
    );
    body.extend_from_slice(new_body);
    if known.to > added.to {
        body.extend_from_slice(old_body.get(offset(added.to - known.from)..)?);
    }
    if body.len() as u64 != range.length() {
        return None;
    }
    let mut entry =
        Entry { body: Arc::new(Body::whole(Bytes::from(body))), length: Some(range.length()), ..new.copy() };
    entry.head.fields.remove_if(|it| it.name.eq_ignore_ascii_case(b"content-range"));
    entry.head.fields.push(Name::Other, b"content-range", range.to_string().as_bytes());
    entry.head = entry.head.kept(entry.length);
    Some(Arc::new(entry))
}
