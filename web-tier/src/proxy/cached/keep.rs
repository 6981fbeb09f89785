//! Keeps a server's answer while it comes: it is read to its end whatever becomes of the client that asked.

use super::{super::Passed, Ask, asks::Asks, parts, serve};
use crate::{
    cache::{
        Cache,
        body::Body,
        entry::{Entry, Life},
        fetch::Lead,
        key::{self, Key},
        near::Found,
    },
    http1::{Fields, Length, Name, RequestHead, ResponseHead},
    memory::buffer::Buffer,
    proxy::{Reply, forward::prepare_response},
    upstream::exchange::Exchange,
    worker::Worker,
};
use http::{Method, StatusCode};
use http_cache::{
    freshness::Times,
    store::{Asked, Storable, WhyNot},
    validate::{is_updated, matches_weakly},
    vary::Vary,
};
use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{task::spawn_local, time::timeout};

/// What an answer may depend on that each key says.
const SAID_BY_THE_KEY: [&str; 4] = ["host", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"];

/// What an answer is read ahead of the one client that reads it, where it has turned out to be too long to be kept, in bytes.
const AHEAD: u64 = 256 << 10;

/// How often it is looked whether that client is still there.
const LOOK: Duration = Duration::from_millis(500);

/// Whether the answer of a server may be kept.
pub(super) fn storable(
    ask: Ask<'_>,
    head: &RequestHead,
    asks: &Asks,
    passed: &Passed,
    asked_s: u64,
) -> Result<Storable, WhyNot> {
    let times = Times { asked: asked_s, answered: ask.client.worker.wall_seconds() };
    let of_a_user = asks.authorized || ask.is_of_a_user(head);
    let asked = Asked { of_a_user, no_store: asks.directives.no_store };
    let answer = &passed.answer.head;
    let rules = ask.settings.rules(head.path());
    // A part is kept under the same rules as the whole (RFC 9111 §3.3), if it is one that was asked for.
    let is_part = asks.range.is_some() && parts::content_range(answer).is_some();
    let status = if is_part { StatusCode::OK } else { answer.status };
    let mut storable = Storable::of(asked, status.as_u16(), &answer.fields, times, &rules)?;
    // What rules set on the request is in the key already, and so are host and scheme.
    let is_in_key =
        |name: &str| SAID_BY_THE_KEY.contains(&name) || ask.edits.iter().any(|it| it.name() == name);
    storable.vary = storable.vary.without(is_in_key);
    // What this server alone tells the other can't be looked up.
    let is_known = |name: &str| matches!(Name::of(name.as_bytes()), Name::Other | Name::Cookie);
    if storable.vary.names().all(is_known) { Ok(storable) } else { Err(WhyNot::Vary) }
}

/// Begins to keep an answer, of which a client may read at once; gives it back if there is no room for it.
pub(super) fn begin(
    ask: Ask<'_>,
    head: &RequestHead,
    primary: &Key,
    storable: Storable,
    passed: Passed,
    lead: Lead,
) -> Result<Begun, Box<Passed>> {
    let (config, worker) = (&ask.settings.config, &ask.client.worker);
    let length = passed.answer.head.length(false);
    let known = match length {
        Length::Empty => Some(0),
        Length::Exact(length) => Some(length),
        Length::Chunked | Length::UntilClose => None,
    };
    let stale_keep = stale_keep(&storable, config.stale_keep, config.stale_if_error);
    let fresh = Duration::from_secs(storable.lifetime.saturating_sub(storable.initial_age));
    let is_short = known.is_none_or(|it| it <= config.max_entry_size);
    let key = is_short
        .then(|| ask.settings.cache.key_of_answer(primary, &storable.vary, &head.fields, fresh + stale_keep));
    let room = ask.settings.cache.room(known.unwrap_or(0));
    let (Some(Some(key)), Some(room)) = (key, room) else {
        worker.counters.cache.too_large.up();
        lead.refused();
        return Err(Box::new(passed));
    };
    let Passed { mut answer, server } = passed;
    let persists = answer.head.persists();
    prepare_response(&mut answer.head);
    let mut for_one = Fields::default();
    answer
        .head
        .fields
        .iter()
        .filter(|it| storable.is_for_one(it.name))
        .for_each(|it| for_one.push(it.known, it.name, it.value));
    answer.head.fields.remove_if(|field| !storable.keeps(field.name));
    put_date(&mut answer.head, worker);
    let entry = entry(&answer.head, known, storable, stale_keep, (key, worker.now(), worker.wall_seconds()));
    let entry = Arc::new(Entry { body: Arc::new(Body::with_room(room)), ..entry });
    answer.exchange.begin_body(length);
    let pump = Pump {
        entry: entry.clone(),
        lead,
        cache: ask.settings.cache.clone(),
        max: config.max_entry_size,
        known: known.is_some(),
    };
    // One whose end is known to fit is read by all at once; of another it is not known yet whether it is for all.
    if known.is_some() {
        pump.lead.answered(&entry);
    }
    let silence = ask.way.upstream.server(server).silence_max;
    let source = Source { exchange: answer.exchange, buffer: Buffer::default(), persists, silence };
    pump.start(source, length == Length::Empty);
    Ok(Begun { entry, for_one })
}

/// An answer that is being kept.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) entry: Arc<Entry>,
    /// Fields that only the client gets who has asked.
    pub(super) for_one: Fields,
}

/// How long an answer is kept when it is stale.
fn stale_keep(storable: &Storable, keep: Duration, grace: Duration) -> Duration {
    let seconds = |it: Option<u32>| Duration::from_secs(it.unwrap_or(0).into());
    let directives = &storable.directives;
    let said = seconds(directives.stale_while_revalidate).max(seconds(directives.stale_if_error)).max(grace);
    if storable.has_validator { said.max(keep) } else { said }
}

fn entry(
    head: &ResponseHead,
    length: Option<u64>,
    storable: Storable,
    stale_keep: Duration,
    (key, came, came_s): (Key, std::time::Instant, u64),
) -> Entry {
    let named = |name: &str| head.fields.named(name).next().map(Box::from);
    Entry {
        key,
        body: Arc::default(),
        length,
        came,
        came_s,
        initial_age: storable.initial_age,
        lifetime: storable.lifetime,
        stale_keep,
        etag: named("etag"),
        last_modified: named("last-modified"),
        tags: storable.tags,
        directives: storable.directives,
        life: Life::default(),
        hits: AtomicU64::new(0),
        readers: AtomicU32::new(0),
        head: head.kept(length),
    }
}

/// Says when an answer came that does not say when it was made (RFC 9110 §6.6.1).
fn put_date(head: &mut ResponseHead, worker: &Worker) {
    if head.fields.first(Name::Date).is_none() {
        head.fields.push(Name::Date, b"date", &worker.date.get());
    }
}

/// Whether an answer for which this request has waited is one to it too.
pub(super) fn answers(cache: &Cache, entry: &Entry, head: &RequestHead, primary: &Key) -> bool {
    if entry.key == *primary {
        return true;
    }
    // It depends on fields of the request.
    let mut key = primary.bytes().to_vec();
    cache.vary_of(primary).is_some_and(|vary| key::vary(&mut key, &vary, &head.fields))
        && entry.key.bytes() == key
}

/// The answer that is kept is still so: what the 304 says takes the place of what was said before.
pub(super) fn freshen(
    ask: Ask<'_>,
    head: &RequestHead,
    asks: &Asks,
    (primary, found): (&Key, &Found),
    (passed, asked_s): (Passed, u64),
    lead: Lead,
) -> Reply {
    let worker = &ask.client.worker;
    let mut merged = worker.response_heads.take(Box::default);
    merged.copy_from(&found.entry.head);
    let mut news = passed;
    prepare_response(&mut news.answer.head);
    let said = &news.answer.head.fields;
    let other_tag = said
        .named("etag")
        .next()
        .is_some_and(|it| found.entry.etag.as_deref().is_some_and(|known| !matches_weakly(it, known)));
    let other_vary =
        said.named("vary").next().is_some() && Vary::of(said) != Vary::of(&found.entry.head.fields);
    let told: Vec<_> = said.iter().filter(|it| is_updated(it.name)).collect();
    // It was made now, if it does not say when.
    let is_date = |name: &[u8]| name.eq_ignore_ascii_case(b"date");
    merged
        .fields
        .remove_if(|old| is_date(old.name) || told.iter().any(|new| new.name.eq_ignore_ascii_case(old.name)));
    for field in &told {
        merged.fields.push(field.known, field.name, field.value);
    }
    drop(told);
    news.discard(&Method::GET);
    let times = Times { asked: asked_s, answered: worker.wall_seconds() };
    let of_a_user = asks.authorized || ask.is_of_a_user(head);
    let asked = Asked { of_a_user, no_store: asks.directives.no_store };
    let status = merged.status.as_u16();
    let storable = Storable::of(asked, status, &merged.fields, times, &ask.settings.rules(head.path()));
    let config = &ask.settings.config;
    if other_tag || other_vary {
        // It is not about what is kept: the next request asks anew.
        ask.settings.cache.forget_url(primary.url());
        drop(lead);
        return serve::revalidated(ask, head, asks, found);
    }
    let Ok(storable) = storable else {
        if storable.is_err_and(WhyNot::is_of_the_answer) {
            // It is not to be kept any more.
            ask.settings.cache.forget_url(primary.url());
            lead.refused();
        } else {
            drop(lead);
        }
        let entry = Arc::new(Entry { head: merged.kept(found.entry.length), ..found.entry.copy() });
        return serve::revalidated(ask, head, asks, &Found::far(entry));
    };
    let stale_keep = stale_keep(&storable, config.stale_keep, config.stale_if_error);
    merged.fields.remove_if(|field| !storable.keeps(field.name));
    let place = (found.entry.key.clone(), worker.now(), worker.wall_seconds());
    put_date(&mut merged, worker);
    let fresh = entry(&merged, found.entry.length, storable, stale_keep, place);
    let fresh = Arc::new(Entry { body: found.entry.body.clone(), ..fresh });
    lead.answered(&fresh);
    if fresh.body.get().is_some() {
        keep(&ask.settings.cache, &fresh, &lead, config.max_entry_size);
    }
    lead.done();
    serve::revalidated(ask, head, asks, &Found::far(fresh))
}

/// Keeps an answer, unless something has changed at its URL meanwhile.
fn keep(cache: &Cache, entry: &Arc<Entry>, lead: &Lead, max: u64) {
    if lead.is_good() {
        match parts::joined(cache, entry, max) {
            Some(joined) => cache.insert(&joined),
            None => cache.insert(entry),
        }
        // That may have come between.
        if !lead.is_good() {
            cache.forget_url(entry.key.url());
        }
    }
}

/// Where an answer comes from.
struct Source {
    exchange: Box<Exchange>,
    buffer: Buffer,
    persists: bool,
    /// How long its server may be silent.
    silence: Duration,
}

/// Brings an answer into the cache.
struct Pump {
    entry: Arc<Entry>,
    lead: Lead,
    cache: Arc<Cache>,
    max: u64,
    /// The body's length is known.
    known: bool,
}

/// What became of an attempt to read on.
enum Read {
    More,
    Whole,
    Broken,
}

impl Pump {
    /// Reads what is there already, which most often is all, and the rest in a task of its own.
    fn start(self, mut source: Source, is_empty: bool) {
        if is_empty {
            source.exchange.finish(true, source.persists);
            return self.finish();
        }
        loop {
            // The task looks again, and is woken.
            let mut nobody = Context::from_waker(Waker::noop());
            let read = source.exchange.poll_body(&mut nobody, &mut source.buffer, false);
            let Poll::Ready(read) = read else { break };
            match self.took(&mut source, read.map_err(|_| ())) {
                Read::Whole => {
                    source.exchange.finish(true, source.persists);
                    return self.finish();
                }
                Read::Broken => return self.broke(),
                Read::More if self.entry.body.length() > self.max => break,
                Read::More => {}
            }
        }
        spawn_local(self.run(source));
    }

    fn took(&self, source: &mut Source, read: Result<bool, ()>) -> Read {
        let Ok(last) = read else { return Read::Broken };
        if !source.buffer.is_empty() {
            self.entry.body.push(source.buffer.bytes());
            source.buffer.consume(source.buffer.len());
        }
        if last { Read::Whole } else { Read::More }
    }

    async fn run(self, mut source: Source) {
        loop {
            // One whose length is known has its room, and perhaps many readers.
            if !self.known && (self.entry.body.length() > self.max || !self.entry.body.fits()) {
                return self.pass_on(source).await;
            }
            let read = poll_fn(|cx| source.exchange.poll_body(cx, &mut source.buffer, false));
            let read = timeout(source.silence, read).await.map_or(Err(()), |it| it.map_err(|_| ()));
            match self.took(&mut source, read) {
                Read::More => {}
                Read::Whole => {
                    source.exchange.finish(true, source.persists);
                    return self.finish();
                }
                Read::Broken => return self.broke(),
            }
        }
    }

    /// It is too long: the one client that reads it gets the rest, as fast as it takes it.
    async fn pass_on(self, mut source: Source) {
        let Self { entry, lead, .. } = self;
        lead.refused();
        let body = &entry.body;
        body.begin_passing();
        loop {
            while timeout(LOOK, body.is_taken_to(AHEAD)).await.is_err() {
                if Arc::strong_count(&entry) == 1 {
                    return;
                }
            }
            let read = poll_fn(|cx| source.exchange.poll_body(cx, &mut source.buffer, false));
            match timeout(source.silence, read).await {
                Ok(Ok(last)) => {
                    body.push(source.buffer.bytes());
                    source.buffer.consume(source.buffer.len());
                    if last {
                        source.exchange.finish(true, source.persists);
                        return body.end_passing();
                    }
                }
                Ok(Err(_)) | Err(_) => return body.break_off(),
            }
        }
    }

    fn finish(self) {
        let is_whole = self.entry.length.is_none_or(|length| length == self.entry.body.length());
        if !is_whole {
            return self.broke();
        }
        self.entry.body.finish();
        if self.entry.body.length() <= self.max {
            keep(&self.cache, &self.entry, &self.lead, self.max);
        }
        if !self.known {
            self.lead.answered(&self.entry);
        }
        self.lead.done();
    }

    /// What broke off is never kept.
    fn broke(self) {
        self.entry.body.break_off();
    }
}
