//! What of a request's fields the cache looks at, read once.

use crate::{
    cache::{entry::Entry, settings::CacheSettings},
    http1::{Name, RequestHead},
};
use http_cache::{directives::RequestDirectives, validate::Conditions};
use std::time::Instant;

/// What a request asks of the cache. What it asks of an answer is copied, as the request's head changes on its way.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Asks {
    pub(super) directives: RequestDirectives,
    none_match: Option<Box<[u8]>>,
    modified_since: Option<Box<[u8]>>,
    pub(super) range: Option<Box<[u8]>>,
    pub(super) if_range: Option<Box<[u8]>>,
    /// It has `Authorization`.
    pub(super) authorized: bool,
    /// It has a field by which some servers take it for another request than its key says, or a condition that only its server can judge.
    pub(super) is_odd: bool,
    /// It has `Accept-Encoding` or `Accept-Language`.
    pub(super) accepts: bool,
    /// It has `Surrogate-Capability`.
    pub(super) through_surrogates: bool,
}

/// Fields that frameworks take a method, a path, a host or a scheme from: no key has them, so what they bring is for the one who sent them.
const ODD: [&str; 30] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-original-uri",
    "x-original-host",
    "x-rewrite-url",
    "x-host",
    "x-http-host-override",
    "x-http-path-override",
    "x-override-url",
    "x-request-path",
    "front-end-https",
    "x-url-scheme",
    "x-scheme",
    "x-forward-host",
    "x-backend-host",
    "x-envoy-original-path",
    "x-script-name",
    "x-client-ip",
    "true-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-arr-ssl",
    "client-ip",
    "script-name",
    "destination",
    "base-url",
    "if-match",
    "if-unmodified-since",
];

impl Asks {
    /// What a request asks.
    pub(super) fn of(settings: &CacheSettings, head: &RequestHead) -> Self {
        let mut asks = Self::default();
        let (mut pragma, mut controlled) = (false, false);
        for field in head.fields.iter().filter(|it| it.known == Name::Other) {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name.as_bytes());
            match field.name.len() {
                5 if is("range") => asks.range = Some(field.value.into()),
                6 if is("pragma") => pragma |= field.value.trim_ascii().eq_ignore_ascii_case(b"no-cache"),
                8 if is("if-range") => asks.if_range = Some(field.value.into()),
                13 if is("cache-control") => {
                    controlled = true;
                    asks.directives.add(field.value);
                }
                13 if is("authorization") => asks.authorized = true,
                // Several lines are one list.
                13 if is("if-none-match") => {
                    let mut all = asks.none_match.take().map(Vec::from).unwrap_or_default();
                    all.extend_from_slice(b", ");
                    all.extend_from_slice(field.value);
                    asks.none_match = Some(all.into());
                }
                15 if is("accept-encoding") || is("accept-language") => asks.accepts = true,
                20 if is("surrogate-capability") => asks.through_surrogates = true,
                17 if is("if-modified-since") => asks.modified_since = Some(field.value.into()),
                // As servers could take it for one of them.
                _ if matches!(
                    field.name.first().map(|it| it | 0x20),
                    Some(b'x' | b'f' | b'i' | b't' | b'c' | b's' | b'd' | b'b')
                ) =>
                {
                    asks.is_odd |= ODD.into_iter().any(|it| Name::is_alike(field.name, it.as_bytes()));
                }
                _ => {}
            }
        }
        asks.directives.no_cache |= pragma && !controlled;
        if settings.config.ignore_request_directives {
            asks.directives = RequestDirectives::default();
        }
        if !settings.config.enable_range {
            asks.range = None;
        }
        asks
    }

    /// What of it says whose it is: of a request in the client's name for something that is not for the client.
    pub(super) fn of_whom(&self) -> Self {
        let directives =
            RequestDirectives { no_store: self.directives.no_store, ..RequestDirectives::default() };
        Self { directives, authorized: self.authorized, ..Self::default() }
    }

    /// What the client has.
    pub(super) fn conditions(&self) -> Conditions<'_> {
        Conditions { none_match: self.none_match.as_deref(), modified_since: self.modified_since.as_deref() }
    }

    /// Whether it is the request that wants its server asked, and not the answer.
    pub(super) fn asks_anew(&self, entry: &Entry, now: Instant) -> bool {
        self.directives.no_cache || entry.stored(now).is_fresh()
    }
}

/// Makes a request ask whether the answer that is kept is still so, in place of what the client asked.
pub(super) fn ask_whether_changed(head: &mut RequestHead, entry: &Entry) {
    drop_conditions(head);
    if let Some(tag) = &entry.etag {
        head.fields.push(Name::Other, b"if-none-match", tag);
    }
    if let Some(time) = &entry.last_modified {
        head.fields.push(Name::Other, b"if-modified-since", time);
    }
}

/// The whole answer is wanted, whatever the client has of it.
pub(super) fn drop_conditions(head: &mut RequestHead) {
    const CONDITIONS: [&str; 4] = ["if-none-match", "if-modified-since", "range", "if-range"];
    head.fields.remove_if(|field| {
        field.known == Name::Other
            && CONDITIONS.iter().any(|it| field.name.eq_ignore_ascii_case(it.as_bytes()))
    });
}
