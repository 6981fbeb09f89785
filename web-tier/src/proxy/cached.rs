//! A request's way through the cache: a kept answer, or that of a server, which is kept if it may be.

mod asks;
mod invalidate;
mod keep;
mod refresh;
mod serve;

use super::{Passed, Reply, Way, forward};
use crate::{
    cache::{
        Lookup,
        fetch::{Lead, Turn},
        key::{Asked, Key},
        near::Found,
        settings::{CacheSettings, seconds},
    },
    error::ProxyError,
    http1::{Length, Name, RequestHead},
    proxy::local::Local,
    route::{rules::Edit, trusted::Asker},
    upstream::exchange::ClientSide,
    worker::client::Client,
};
use asks::Asks;
use common::config::HeaderEditKind;
use http::{Method, StatusCode};
use http_cache::{directives::SURROGATE, reuse::Reuse, vary::Encodings};
use std::rc::Rc;

/// What all steps of a request need.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) client: &'a Rc<Client>,
    pub(super) asker: &'a Asker<'a>,
    pub(super) way: &'a Way<'a>,
    pub(super) edits: &'a [Edit<'a>],
    pub(super) settings: &'a CacheSettings,
}

/// What is said of an answer in `Cache-Status` (RFC 9211) when its server gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forwarded {
    /// Nothing is kept for the URL.
    UriMiss,
    /// What is kept is stale.
    Stale,
    /// The request asks for it.
    Request,
    /// It is not one for caches.
    Bypass,
    /// Its method is not one for caches.
    Method,
}

impl Forwarded {
    fn word(self) -> &'static str {
        match self {
            Self::UriMiss => "uri-miss",
            Self::Stale => "stale",
            Self::Request => "request",
            Self::Bypass => "bypass",
            Self::Method => "method",
        }
    }
}

/// Answers a request by what is kept, or by a server.
pub(super) async fn answer<S: ClientSide>(
    ask: Ask<'_>,
    head: &mut RequestHead,
    in_url: bool,
    side: &mut S,
) -> Result<Reply, ProxyError> {
    let is_get = head.method == Method::GET;
    if !is_get && head.method != Method::HEAD {
        return invalidate::forward(ask, head, side).await;
    }
    let asks = Asks::of(ask.settings, head);
    // A body, another protocol or a session in the path: nothing that the key has.
    if head.length != Length::Empty || head.connection.upgrade || in_url || asks.is_odd {
        return pass(ask, head, Forwarded::Bypass, side).await;
    }
    let mut key = std::mem::take(&mut *ask.client.worker.cache_key.borrow_mut());
    let answer = keyed(ask, head, &asks, &mut key, side).await;
    *ask.client.worker.cache_key.borrow_mut() = key;
    answer
}

/// The same of a request that may have a key.
async fn keyed<S: ClientSide>(
    ask: Ask<'_>,
    head: &mut RequestHead,
    asks: &Asks,
    key: &mut Vec<u8>,
    side: &mut S,
) -> Result<Reply, ProxyError> {
    let worker = &ask.client.worker;
    let set = ask.edits.iter().filter(|it| it.kind() == HeaderEditKind::SetOnRequest);
    let asked = Asked {
        host: head.host(),
        target: &head.target,
        secure: ask.asker.secure,
        upstream: ask.way.upstream.label(),
    };
    // What a proxy that is trusted says of the host goes to servers too.
    let said = head.fields.named("x-forwarded-host").next().filter(|_| ask.asker.trusted);
    let said = said.map(|it| ("x-forwarded-host", str::from_utf8(it).unwrap_or_default()));
    let Some(url) = asked.put(key, set.map(|it| (it.name(), &*it.value)).chain(said)) else {
        return pass(ask, head, Forwarded::Bypass, side).await;
    };
    let primary_length = key.len();
    let cache = &ask.settings.cache;
    let found = match cache.lookup(&worker.near, key, &head.fields, worker.now()) {
        Lookup::Found(found) => Some(found),
        Lookup::Missing => None,
        Lookup::Pass | Lookup::NoKey if asks.directives.only_if_cached => None,
        Lookup::Pass | Lookup::NoKey => return pass(ask, head, Forwarded::Bypass, side).await,
    };
    let why = match &found {
        Some(found) => match found.entry.reuse(&asks.directives, worker.now()) {
            Reuse::Fresh | Reuse::Stale => return Ok(serve::hit(ask, head, asks, found)),
            Reuse::WhileRevalidating => {
                worker.counters.cache.stale.up();
                if !cache.fetches.is_asked(cache, &found.entry.key) {
                    refresh::spawn(ask, head, found, &Key::new(&key[..primary_length], url));
                }
                return Ok(serve::hit(ask, head, asks, found));
            }
            Reuse::Validate if asks.asks_anew(&found.entry, worker.now()) => Forwarded::Request,
            Reuse::Validate => Forwarded::Stale,
        },
        None => Forwarded::UriMiss,
    };
    if asks.directives.only_if_cached {
        return Ok(Reply::Local(Local::error_page(ask.client, 504, Some("nothing fresh is kept"))));
    }
    // What is asked for a part, or without a body, brings nothing to keep.
    if head.method == Method::HEAD || asks.range.is_some() && found.is_none() {
        return pass(ask, head, why, side).await;
    }
    match cache.fetches.turn(cache, key, url) {
        Turn::Lead(lead) => {
            let primary = Key::new(&key[..primary_length], url);
            lead_fetch(ask, head, asks, (&primary, found, why), lead, side).await
        }
        Turn::Follow(fetch) => {
            worker.counters.cache.collapsed.up();
            match fetch.wait(ask.settings.config.collapse_timeout).await {
                Some(entry) if keep::answers(cache, &entry, head, &key[..primary_length]) => {
                    Ok(serve::collapsed(ask, head, asks, &Found::far(entry)))
                }
                _ => pass(ask, head, why, side).await,
            }
        }
    }
}

/// Asks a server, for all who want to know.
async fn lead_fetch<S: ClientSide>(
    ask: Ask<'_>,
    head: &mut RequestHead,
    asks: &Asks,
    (primary, found, why): (&Key, Option<Found>, Forwarded),
    lead: Lead,
    side: &mut S,
) -> Result<Reply, ProxyError> {
    let worker = &ask.client.worker;
    worker.counters.cache.misses.up();
    normalise_encodings(head);
    head.fields.push_parts(b"surrogate-capability", [SURROGATE.as_bytes(), b"=\"Surrogate/1.0\"", b""]);
    let conditional = found.as_ref().filter(|it| it.entry.has_validator());
    let own = conditional.map(|it| asks::ask_whether_changed(head, &it.entry));
    let asked_s = worker.wall_seconds();
    let answered = forward(ask.client, ask.asker, ask.way, head, ask.edits, side).await;
    let stale = |found: &Found| {
        found.entry.stored(worker.now()).serves_on_error(seconds(ask.settings.config.stale_if_error))
    };
    let forwarded = match answered {
        Ok(it) => it,
        Err(cause) => match found.filter(|it| cause != ProxyError::ClientGone && stale(it)) {
            Some(found) => return Ok(serve::stale_on_error(ask, head, asks, &found, cause.status())),
            None => return Err(cause),
        },
    };
    let status = forwarded.answer.head.status;
    if let Some(found) = &found {
        if own.is_some() && status == StatusCode::NOT_MODIFIED {
            worker.counters.cache.revalidated.up();
            return Ok(keep::freshen(ask, head, asks, (primary, found), (forwarded, asked_s), lead));
        }
        if matches!(status.as_u16(), 500 | 502 | 503 | 504) && stale(found) {
            forwarded.discard(&head.method);
            return Ok(serve::stale_on_error(ask, head, asks, found, status));
        }
    }
    match keep::storable(ask, head, asks, &forwarded, asked_s) {
        Ok(storable) => match keep::begin(ask, head, primary, storable, forwarded, lead).await {
            Ok(begun) => Ok(serve::stored(ask, head, asks, begun, why)),
            Err(forwarded) => Ok(given(ask, head, *forwarded, why)),
        },
        Err(cause) => {
            worker.counters.cache.not_kept[cause as usize].up();
            let (host, target) = primary.host_and_target();
            ask.settings.cache.not_kept.note(|| format!("{host}{target}"), cause.words());
            // A 304 to the client's own condition says nothing of the answer.
            if status != StatusCode::NOT_MODIFIED {
                lead.refused(primary);
            }
            Ok(given(ask, head, forwarded, why))
        }
    }
}

/// Passes a request on, and its answer back, without a look at what is kept.
async fn pass<S: ClientSide>(
    ask: Ask<'_>,
    head: &mut RequestHead,
    why: Forwarded,
    side: &mut S,
) -> Result<Reply, ProxyError> {
    ask.client.worker.counters.cache.passed.up();
    let forwarded = forward(ask.client, ask.asker, ask.way, head, ask.edits, side).await?;
    Ok(given(ask, head, forwarded, why))
}

/// An answer that is not kept, as the client gets it.
fn given(ask: Ask<'_>, head: &RequestHead, forwarded: Passed, why: Forwarded) -> Reply {
    let mut answer = forwarded.with_cookies(ask.way, head, ask.asker.secure);
    serve::put_status(&mut answer.head.fields, "fwd=", why.word());
    Reply::Server(answer)
}

/// Asks for the encodings that answers are told apart by, in the client's place: what its server sees is what the key has.
fn normalise_encodings(head: &mut RequestHead) {
    let is_it = |name: &[u8]| name.eq_ignore_ascii_case(b"accept-encoding");
    let text = Encodings::of(head.fields.named("accept-encoding")).text();
    let mut lines = head.fields.named("accept-encoding");
    if lines.next().is_some_and(|it| it == text.as_bytes()) && lines.next().is_none() {
        return;
    }
    drop(lines);
    head.fields.remove_if(|field| is_it(field.name));
    if !text.is_empty() {
        head.fields.push(Name::Other, b"accept-encoding", text.as_bytes());
    }
}
