//! A request's way through the cache: [`plan`] finds a kept answer, or what a server is asked; [`Question::answered`] keeps what may be kept of what
//! the server says. Between the two a request is passed on as any other; what has to wait for something else ([`Wait`]) is rare.

mod asks;
mod invalidate;
mod keep;
mod lead;
mod parts;
mod refresh;
mod serve;
mod wait;

pub(super) use refresh::Nobody;

use super::{Passed, Reply, Way};
use crate::{
    cache::{
        Lookup,
        fetch::Turn,
        key::{Asked, Wanted},
        near::Found,
        settings::CacheSettings,
    },
    error::ProxyError,
    http1::{Length, Name, RequestHead},
    proxy::local::Local,
    route::{rules::Edit, trusted::Asker},
    worker::client::Client,
};
use asks::Asks;
use common::config::HeaderEditKind;
use http::Method;
use http_cache::reuse::Reuse;
use invalidate::Change;
use lead::Leading;
use parts::PartAsked;
use std::rc::Rc;
use wait::Wait;

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
pub(super) enum Forwarded {
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

/// What is done for a request.
pub(super) enum Plan {
    /// It is answered.
    Reply(Reply),
    /// A server is asked.
    Ask(Question),
    /// Something else is waited for first.
    Wait(Wait),
}

/// What a server is asked, and what its answer is for.
pub(super) enum Question {
    /// For the client alone.
    Alone(Forwarded),
    /// For the client alone, and it may change what is kept.
    Unsafe(Box<Change>),
    /// For all who want to know.
    Lead(Box<Leading>),
    /// A part of what is not kept as a whole.
    Part(Box<PartAsked>),
}

impl Plan {
    /// The request is passed on without a look at what is kept.
    fn pass(ask: Ask<'_>, why: Forwarded) -> Self {
        ask.client.worker.counters.cache.passed.up();
        Self::Ask(Question::Alone(why))
    }

    /// It asks for what is kept alone, and that is nothing fresh.
    fn nothing_kept(ask: Ask<'_>) -> Self {
        Self::Reply(Reply::Local(Local::error_page(ask.client, 504, Some("nothing fresh is kept"))))
    }
}

impl Question {
    /// What becomes of the server's answer.
    pub(super) fn answered(
        self,
        ask: Ask<'_>,
        head: &RequestHead,
        answered: Result<Passed, ProxyError>,
    ) -> Result<Reply, ProxyError> {
        match self {
            Self::Alone(why) => Ok(given(ask, head, answered?, why)),
            Self::Unsafe(change) => Ok(change.answered(ask, head, answered?)),
            Self::Lead(lead) => lead.answered(ask, head, answered),
            Self::Part(part) => Ok(part.answered(ask, head, answered?)),
        }
    }
}

/// Looks for an answer among what is kept; if a server is asked, the request is changed to what it is asked.
pub(super) fn plan(ask: Ask<'_>, head: &mut RequestHead, in_url: bool) -> Plan {
    let is_get = head.method == Method::GET;
    if !is_get && head.method != Method::HEAD {
        return Change::plan(ask, head);
    }
    let asks = Asks::of(ask.settings, head);
    let host = head.fields.first(Name::Host).unwrap_or_default();
    // A body, another protocol or a session in the path: nothing that the key has.
    // What `Connection` names does not reach the server, whatever a key would have of it.
    let is_plain = head.length == Length::Empty && !head.connection.upgrade && !head.connection.nominates;
    // Servers compare hosts as they like, and sessions in URLs are known to more of them than rules say.
    let is_plain = is_plain && !has_capitals(host) && !names_session(head.path());
    if !is_plain || in_url || asks.is_odd {
        return Plan::pass(ask, Forwarded::Bypass);
    }
    let worker = &ask.client.worker;
    let mut key = worker.cache_key.borrow_mut();
    if !put_key(ask, head, host, &mut key) {
        return Plan::pass(ask, Forwarded::Bypass);
    }
    let cache = &ask.settings.cache;
    let found = match cache.lookup(&worker.near, &mut key, &head.fields, worker.now()) {
        Lookup::Found(found) => Some(found),
        Lookup::Pass | Lookup::NoKey if asks.directives.only_if_cached => None,
        Lookup::Pass if is_get && asks.range.is_none() => {
            return match cache.fetches.alone(cache, &key) {
                Some(lead) => Leading::plan(ask, head, asks, (&key, None, Forwarded::Bypass), lead),
                None => Plan::pass(ask, Forwarded::Bypass),
            };
        }
        Lookup::NoKey => return Plan::pass(ask, Forwarded::Bypass),
        Lookup::Missing if cache.disk().is_some() => return Wait::for_disk(asks, &key),
        Lookup::Missing | Lookup::Pass => None,
    };
    plan_with(ask, head, asks, &key, found)
}

/// The same, when it is known what is kept.
fn plan_with(ask: Ask<'_>, head: &mut RequestHead, asks: Asks, key: &Wanted, found: Option<Found>) -> Plan {
    let (cache, worker) = (&ask.settings.cache, &ask.client.worker);
    let why = match &found {
        Some(found) => match found.entry.reuse(&asks.directives, worker.now()) {
            Reuse::Fresh | Reuse::Stale => return Plan::Reply(serve::hit(ask, head, &asks, found)),
            Reuse::WhileRevalidating => {
                worker.counters.cache.stale.up();
                let age = found.entry.age(worker.now());
                if found.entry.life.may_be_asked(age) && !cache.fetches.is_asked(&found.entry.key) {
                    refresh::spawn(ask, head, &asks, found, &key.primary());
                }
                return Plan::Reply(serve::hit(ask, head, &asks, found));
            }
            Reuse::Validate if asks.asks_anew(&found.entry, worker.now()) => Forwarded::Request,
            Reuse::Validate => Forwarded::Stale,
        },
        None => Forwarded::UriMiss,
    };
    if asks.range.is_some() && found.is_none() && head.method == Method::GET {
        return PartAsked::plan(ask, head, asks, key.primary());
    }
    if asks.directives.only_if_cached {
        return Plan::nothing_kept(ask);
    }
    // What is asked for without a body brings nothing to keep.
    if head.method == Method::HEAD || asks.directives.no_store {
        return Plan::pass(ask, why);
    }
    match cache.fetches.turn(cache, key) {
        Turn::Lead(lead) => Leading::plan(ask, head, asks, (key, found, why), lead),
        Turn::Follow(fetch) => Wait::for_answer(ask, asks, (key, why), fetch),
    }
}

/// Writes the request's key; false: it has none.
fn put_key(ask: Ask<'_>, head: &RequestHead, host: &[u8], key: &mut Wanted) -> bool {
    let asked = Asked {
        host,
        target: &ask.settings.target(&head.target),
        secure: ask.asker.secure,
        upstream: ask.way.upstream.label(),
    };
    let set = ask.edits.iter().filter(|it| it.kind() == HeaderEditKind::SetOnRequest);
    // What a proxy that is trusted says of host and port goes to servers too.
    let names: &[&str] = if ask.asker.trusted { &["x-forwarded-host", "x-forwarded-port"] } else { &[] };
    let said = names.iter().flat_map(|name| head.fields.named(name).map(|value| (*name, value)));
    key.write(&asked, set.map(|it| (it.name(), it.value.as_bytes())).chain(said))
}

/// An answer that is not kept, as the client gets it.
fn given(ask: Ask<'_>, head: &RequestHead, forwarded: Passed, why: Forwarded) -> Reply {
    let mut answer = forwarded.with_cookies(ask.way, head, ask.asker.secure);
    ask.noted(why.noted());
    serve::put_status(&mut answer.head.fields, ["fwd=", why.word(), ""]);
    Reply::Server(answer)
}

fn has_capitals(host: &[u8]) -> bool {
    // All bytes, so that the compiler takes many at a time.
    host.iter().fold(false, |found, byte| found | byte.is_ascii_uppercase())
}

fn names_session(path: &str) -> bool {
    const NAME: &[u8] = b";jsessionid=";
    memchr::memchr(b';', path.as_bytes()).is_some()
        && path.as_bytes().windows(NAME.len()).any(|it| it.eq_ignore_ascii_case(NAME))
}
