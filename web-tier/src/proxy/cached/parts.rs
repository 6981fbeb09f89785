//! Parts that are kept as parts (RFC 9111 §3.3), while the whole is not kept: one of each answer, which grows by those that touch it where a strong
//! tag says that they are of the same body (§3.4). They answer requests for ranges that lie in them, and no others.

use super::{
    Ask, Forwarded,
    asks::Asks,
    from_disk, given, keep, normalise, pass,
    serve::{self, is_of_range},
};
use crate::{
    cache::{Cache, Lookup, body::Body, entry::Entry, key::Key, near::Found},
    error::ProxyError,
    http1::{Length, Name, RequestHead, ResponseHead},
    proxy::{Passed, Reply, forward, local::Local},
    upstream::exchange::ClientSide,
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

/// Answers a request for a part of what is not kept as a whole.
pub(super) async fn answer<S: ClientSide>(
    ask: Ask<'_>,
    head: &mut RequestHead,
    asks: &Asks,
    whole: &Key,
    side: &mut S,
) -> Result<Reply, ProxyError> {
    let (cache, worker) = (&ask.settings.cache, &ask.client.worker);
    let of_parts = whole.of_parts();
    let (mut key, url) = (of_parts.bytes().to_vec(), of_parts.url().len());
    let found = match cache.lookup(&worker.near, &mut key, &head.fields, worker.now()) {
        Lookup::Found(found) => Some(found),
        Lookup::Missing => from_disk(ask, head, (&mut key, url)).await,
        Lookup::Pass | Lookup::NoKey => None,
    };
    if let Some(found) = found.filter(|it| has(it, asks))
        && matches!(found.entry.reuse(&asks.directives, worker.now()), Reuse::Fresh | Reuse::Stale)
    {
        return Ok(serve::hit(ask, head, asks, &found));
    }
    if asks.directives.only_if_cached {
        return Ok(Reply::Local(Local::error_page(ask.client, 504, Some("nothing fresh is kept"))));
    }
    let lead = if asks.directives.no_store { None } else { cache.fetches.alone(cache, &key, url) };
    // Others that ask for parts meanwhile do not wait: theirs may be other ones.
    let Some(lead) = lead else { return pass(ask, head, Forwarded::UriMiss, side).await };
    worker.counters.cache.misses.up();
    normalise(head);
    let asked_s = worker.wall_seconds();
    let mut passed = forward(ask.client, ask.asker, ask.way, head, ask.edits, side).await?;
    let Ok(storable) = keep::storable(ask, head, asks, &passed, asked_s) else {
        return Ok(given(ask, head, passed, Forwarded::UriMiss));
    };
    let place = if is_part_of_more(&mut passed) { &of_parts } else { whole };
    match keep::begin(ask, head, place, storable, passed, lead).await {
        Ok(begun) => Ok(serve::stored(ask, head, asks, begun, Forwarded::UriMiss)),
        Err(passed) => Ok(given(ask, head, *passed, Forwarded::UriMiss)),
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
