//! A request's way through the cache: a kept answer, or that of a server, which is kept if it may be.

mod asks;
mod invalidate;
mod keep;
mod parts;
mod refresh;
mod serve;

pub(super) use refresh::Nobody;

use super::{Passed, Reply, Way, forward};
use crate::{
    cache::{
        Lookup,
        disk_record::Now,
        fetch::{Fetch, Lead, Turn},
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
use http_cache::{
    directives::SURROGATE,
    reuse::Reuse,
    vary::{Encodings, languages},
};
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

impl Ask<'_> {
    /// What the access log says of the cache's part.
    fn noted(&self, what: &'static str) {
        self.client.log.note(|record| record.cached(what));
    }

    /// Whether it is known to be of one user: by a session's cookie, a certificate, or the word of a rule.
    fn is_of_a_user(&self, head: &RequestHead) -> bool {
        let certified = self.client.tls.as_ref().is_some_and(|tls| tls.client.is_some());
        certified || self.way.knows_user || self.way.is_of_a_session(&head.fields)
    }
}

impl Forwarded {
    /// As the access log has it.
    fn noted(self) -> &'static str {
        match self {
            Self::UriMiss | Self::Stale => "miss",
            Self::Request | Self::Bypass | Self::Method => "bypass",
        }
    }

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
    // What `Connection` names does not reach the server, whatever a key would have of it.
    let is_plain = head.length == Length::Empty && !head.connection.upgrade && !head.connection.nominates;
    // Servers compare hosts as they like, and sessions in URLs are known to more of them than rules say.
    let is_plain =
        is_plain && !head.host().bytes().any(|it| it.is_ascii_uppercase()) && !names_session(head.path());
    if !is_plain || in_url || asks.is_odd {
        return pass(ask, head, Forwarded::Bypass, side).await;
    }
    let mut key = std::mem::take(&mut *ask.client.worker.cache_key.borrow_mut());
    let answer = keyed(ask, head, &asks, &mut key, side).await;
    *ask.client.worker.cache_key.borrow_mut() = key;
    answer
}

/// Writes the request's key; where its part that is the URL ends. `None`: it has no key.
fn put_key(ask: Ask<'_>, head: &RequestHead, key: &mut Vec<u8>) -> Option<usize> {
    let asked = Asked {
        host: head.host(),
        target: &ask.settings.target(&head.target),
        secure: ask.asker.secure,
        upstream: ask.way.upstream.label(),
    };
    let set = ask.edits.iter().filter(|it| it.kind() == HeaderEditKind::SetOnRequest);
    // What a proxy that is trusted says of host and port goes to servers too.
    let said = |name| head.fields.named(name).next().filter(|_| ask.asker.trusted);
    let said = ["x-forwarded-host", "x-forwarded-port"].into_iter().filter_map(|name| {
        let value = said(name)?;
        Some((name, str::from_utf8(value).unwrap_or_default()))
    });
    asked.put(key, set.map(|it| (it.name(), &*it.value)).chain(said))
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
    let Some(url) = put_key(ask, head, key) else {
        return pass(ask, head, Forwarded::Bypass, side).await;
    };
    let primary = key.len();
    let primary = |key: &[u8]| Key::new(&key[..primary], url);
    let cache = &ask.settings.cache;
    let found = match cache.lookup(&worker.near, key, &head.fields, worker.now()) {
        Lookup::Found(found) => Some(found),
        Lookup::Pass | Lookup::NoKey if asks.directives.only_if_cached => None,
        Lookup::Pass if head.method == Method::GET && asks.range.is_none() => {
            return match cache.fetches.alone(cache, key, url) {
                Some(lead) => {
                    lead_fetch(ask, head, asks, (&primary(key), None, Forwarded::Bypass), lead, side).await
                }
                None => pass(ask, head, Forwarded::Bypass, side).await,
            };
        }
        Lookup::NoKey => return pass(ask, head, Forwarded::Bypass, side).await,
        Lookup::Missing => from_disk(ask, head, (key, url)).await,
        Lookup::Pass => None,
    };
    let why = match &found {
        Some(found) => match found.entry.reuse(&asks.directives, worker.now()) {
            Reuse::Fresh | Reuse::Stale => return Ok(serve::hit(ask, head, asks, found)),
            Reuse::WhileRevalidating => {
                worker.counters.cache.stale.up();
                let age = found.entry.age(worker.now());
                if found.entry.life.may_be_asked(age) && !cache.fetches.is_asked(cache, &found.entry.key) {
                    refresh::spawn(ask, head, asks, found, &primary(key));
                }
                return Ok(serve::hit(ask, head, asks, found));
            }
            Reuse::Validate if asks.asks_anew(&found.entry, worker.now()) => Forwarded::Request,
            Reuse::Validate => Forwarded::Stale,
        },
        None => Forwarded::UriMiss,
    };
    if asks.range.is_some() && found.is_none() && head.method == Method::GET {
        // In a box, as every request would be as large.
        return Box::pin(parts::answer(ask, head, asks, &primary(key), side)).await;
    }
    if asks.directives.only_if_cached {
        return Ok(Reply::Local(Local::error_page(ask.client, 504, Some("nothing fresh is kept"))));
    }
    // What is asked for without a body brings nothing to keep.
    if head.method == Method::HEAD || asks.directives.no_store {
        return pass(ask, head, why, side).await;
    }
    match cache.fetches.turn(cache, key, url) {
        Turn::Lead(lead) => lead_fetch(ask, head, asks, (&primary(key), found, why), lead, side).await,
        Turn::Follow(fetch) => follow(ask, head, asks, (&primary(key), why), &fetch, side).await,
    }
}

/// What was kept in memory before.
async fn from_disk(ask: Ask<'_>, head: &RequestHead, key: (&mut Vec<u8>, usize)) -> Option<Found> {
    let (cache, worker) = (&ask.settings.cache, &ask.client.worker);
    let now = Now { monotonic: worker.now(), wall: worker.wall_seconds() };
    // In a box, as every request would be as large.
    let found = Box::pin(cache.disk()?.bring(cache, key, &head.fields, now)).await?;
    worker.counters.cache.from_disk.up();
    Some(found)
}

/// Waits for the answer that another asks for, and asks for itself if that is not for it.
async fn follow<S: ClientSide>(
    ask: Ask<'_>,
    head: &mut RequestHead,
    asks: &Asks,
    (primary, why): (&Key, Forwarded),
    fetch: &Fetch,
    side: &mut S,
) -> Result<Reply, ProxyError> {
    ask.client.worker.counters.cache.collapsed.up();
    match fetch.wait(ask.settings.config.collapse_timeout).await {
        Some(entry) if keep::answers(&ask.settings.cache, &entry, head, primary.bytes()) => {
            Ok(serve::collapsed(ask, head, asks, &Found::far(entry)))
        }
        _ => pass(ask, head, why, side).await,
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
    normalise(head);
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
            // What this request has brought about says nothing of others: they ask themselves.
            if cause.is_of_the_answer() {
                lead.refused();
            } else {
                drop(lead);
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
    ask.noted(why.noted());
    serve::put_status(&mut answer.head.fields, "fwd=", why.word());
    Reply::Server(answer)
}

fn names_session(path: &str) -> bool {
    const NAME: &[u8] = b";jsessionid=";
    path.contains(';') && path.as_bytes().windows(NAME.len()).any(|it| it.eq_ignore_ascii_case(NAME))
}

/// Asks for what answers are told apart by, in the client's place: what its server sees is what the key has.
fn normalise(head: &mut RequestHead) {
    let encodings = Encodings::of(head.fields.named("accept-encoding")).text();
    put_instead(head, "accept-encoding", encodings);
    if let Some(languages) = languages(head.fields.named("accept-language")) {
        put_instead(head, "accept-language", &languages);
    }
    // To servers that speak with surrogates, this one is meant.
    head.fields.remove_if(|field| field.name.eq_ignore_ascii_case(b"surrogate-capability"));
    head.fields.push_parts(b"surrogate-capability", [SURROGATE.as_bytes(), b"=\"Surrogate/1.0\"", b""]);
}

/// One line with this value, or none.
fn put_instead(head: &mut RequestHead, name: &str, text: &str) {
    let mut lines = head.fields.named(name);
    let is_so = match lines.next() {
        Some(line) => line == text.as_bytes() && lines.next().is_none(),
        None => text.is_empty(),
    };
    drop(lines);
    if !is_so {
        head.fields.remove_if(|field| field.name.eq_ignore_ascii_case(name.as_bytes()));
        if !text.is_empty() {
            head.fields.push(Name::Other, name.as_bytes(), text.as_bytes());
        }
    }
}
