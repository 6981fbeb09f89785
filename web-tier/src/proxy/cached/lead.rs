//! Asks a server, for all who want to know.

use super::{Ask, Forwarded, Plan, Question, asks, asks::Asks, given, keep, serve};
use crate::{
    cache::{
        fetch::Lead,
        key::{Key, Wanted},
        near::Found,
        settings::seconds,
    },
    error::ProxyError,
    http1::{Name, RequestHead},
    proxy::{Passed, Reply},
};
use http::StatusCode;
use http_cache::{
    directives::SURROGATE_CAPABILITY,
    vary::{Encodings, languages},
};

/// A request that is under way for all.
pub(in crate::proxy) struct Leading {
    asks: Asks,
    /// Without what the answer depends on.
    primary: Key,
    /// What is kept already, and is not good enough.
    found: Option<Found>,
    /// The server is asked whether that is still so.
    validates: bool,
    why: Forwarded,
    lead: Lead,
    asked_s: u64,
}

impl Leading {
    /// Makes the request one for all.
    pub(super) fn plan(
        ask: Ask<'_>,
        head: &mut RequestHead,
        asks: Asks,
        (key, found, why): (&Wanted, Option<Found>, Forwarded),
        lead: Lead,
    ) -> Plan {
        let worker = &ask.client.worker;
        worker.counters.cache.misses.up();
        normalise(head, &asks);
        let conditional = found.as_ref().filter(|it| it.entry.has_validator());
        let validates = conditional.map(|it| asks::ask_whether_changed(head, &it.entry)).is_some();
        let (primary, asked_s) = (key.primary_of(lead.key()), worker.wall_seconds());
        Plan::Ask(Question::Lead(Box::new(Self { asks, primary, found, validates, why, lead, asked_s })))
    }

    /// Keeps the answer, if it may be kept.
    pub(super) fn answered(
        self,
        ask: Ask<'_>,
        head: &RequestHead,
        answered: Result<Passed, ProxyError>,
    ) -> Result<Reply, ProxyError> {
        let Self { asks, primary, found, validates, why, lead, asked_s } = self;
        let worker = &ask.client.worker;
        let stale = |found: &Found| {
            found.entry.stored(worker.now()).serves_on_error(seconds(ask.settings.config.stale_if_error))
        };
        let passed = match answered {
            Ok(it) => it,
            Err(cause) => match found.filter(|it| cause != ProxyError::ClientGone && stale(it)) {
                Some(found) => return Ok(serve::stale_on_error(ask, head, &asks, &found, cause.status())),
                None => return Err(cause),
            },
        };
        let status = passed.answer.head.status;
        if let Some(found) = &found {
            if validates && status == StatusCode::NOT_MODIFIED {
                worker.counters.cache.revalidated.up();
                return Ok(keep::freshen(ask, head, &asks, (&primary, found), (passed, asked_s), lead));
            }
            if matches!(status.as_u16(), 500 | 502 | 503 | 504) && stale(found) {
                passed.discard(&head.method);
                return Ok(serve::stale_on_error(ask, head, &asks, found, status));
            }
        }
        match keep::storable(ask, head, &asks, &passed, asked_s) {
            Ok(storable) => match keep::begin(ask, head, &primary, storable, passed, lead) {
                Ok(begun) => Ok(serve::stored(ask, head, &asks, begun, why)),
                Err(passed) => Ok(given(ask, head, *passed, why)),
            },
            Err(cause) => {
                worker.counters.cache.not_kept[cause as usize].up();
                let url = || {
                    let (host, target) = primary.host_and_target();
                    format!("{host}{target}")
                };
                ask.settings.cache.not_kept.note(worker.now(), url, cause.words());
                // What this request has brought about says nothing of others: they ask themselves.
                if cause.is_of_the_answer() {
                    lead.refused();
                } else {
                    drop(lead);
                }
                Ok(given(ask, head, passed, why))
            }
        }
    }
}

/// Asks for what answers are told apart by, in the client's place: what its server sees is what the key has.
pub(super) fn normalise(head: &mut RequestHead, asks: &Asks) {
    if asks.accepts {
        let encodings = Encodings::of(head.fields.named("accept-encoding")).text();
        put_instead(head, "accept-encoding", encodings);
        if let Some(languages) = languages(head.fields.named("accept-language")) {
            put_instead(head, "accept-language", &languages);
        }
    }
    // To servers that speak with surrogates, this one is meant.
    if asks.through_surrogates {
        head.fields.remove_if(|field| field.name.eq_ignore_ascii_case(b"surrogate-capability"));
    }
    head.fields.push(Name::Other, b"surrogate-capability", SURROGATE_CAPABILITY.as_bytes());
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
