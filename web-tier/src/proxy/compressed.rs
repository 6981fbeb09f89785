//! Whether an answer is compressed for its client, and what is said of it then (RFC 9110 §8.4, §12.5.5).

use super::{
    Reply,
    local::{Local, LocalBody, PackingBody},
};
use crate::{
    cache::{entry::Reading, packed::PackedBody},
    http1::{Name, RequestHead, ResponseHead, Version},
    worker::{Worker, client::Client},
};
use bytes::Bytes;
use common::config::{Compression, Encoding};
use compression::rules::{choose, is_worth, says_vary, weakened};
use http::Method;
use http_cache::{members, vary::Encodings};

/// Compresses an answer, if it is worth it and its client takes it. Of one that is worth it, caches on the way are told that others may get
/// it otherwise.
pub(super) fn compress(client: &Client, rules: &Compression, request: &RequestHead, reply: &mut Reply) {
    let head = reply.head();
    let length = head.content_length();
    if !is_worth(rules, head.status.as_u16(), &head.fields, length) {
        return;
    }
    if !says_vary(head.fields.named("vary")) {
        head.fields.push(Name::Other, b"vary", b"Accept-Encoding");
    }
    let Some(encoding) = wanted(rules, request) else { return };
    if request.method == Method::HEAD {
        return say(head, encoding);
    }
    match reply {
        Reply::Server(answer) => {
            if let Some(encoder) = client.worker.encoders.begin(encoding, length) {
                let length = answer.head.length(false);
                answer.exchange.begin_packing(length, encoder);
                say(&mut answer.head, encoding);
            }
        }
        Reply::Local(local) => compress_local(&client.worker, local, encoding, length),
    }
}

/// The encoding that the client of a request takes. Parts are parts of what servers have, and HTTP/1.0 has no chunks.
fn wanted(rules: &Compression, request: &RequestHead) -> Option<Encoding> {
    let fields = &request.fields;
    let is_plain = |line: &[u8]| members(line).any(|it| it.eq_ignore_ascii_case(b"no-transform"));
    if request.version == Version::Http10 || fields.named("cache-control").any(is_plain) {
        return None;
    }
    choose(rules, Encodings::of(fields.named("accept-encoding")))
}

/// Says of an answer that it has an encoding, and so another length, and that its bytes are not those of its tag.
fn say(head: &mut ResponseHead, encoding: Encoding) {
    let tag = head.fields.named("etag").next().map(weakened);
    head.fields.remove_if(|field| {
        field.name.eq_ignore_ascii_case(b"etag") || field.name.eq_ignore_ascii_case(b"accept-ranges")
    });
    if let Some(tag) = tag {
        head.fields.push(Name::Other, b"etag", &tag);
    }
    head.fields.push(Name::Other, b"content-encoding", encoding.name().as_bytes());
    head.forget_length();
}

/// An answer of our own: a kept one may be there already as its client takes it.
fn compress_local(worker: &Worker, local: &mut Local, encoding: Encoding, length: Option<u64>) {
    if let Some(entry) = local.kept.as_ref().map(Reading::entry)
        && let Some(settings) = &worker.routes().cache
    {
        match settings.cache.packed(&worker.near, entry, encoding, worker.now()) {
            PackedBody::Is(bytes) => {
                let plain = usize::try_from(entry.body.length()).unwrap_or(usize::MAX);
                worker.encoders.counters().reused(plain, bytes.len());
                say(&mut local.head, encoding);
                local.head.set_length(bytes.len() as u64);
                local.body = LocalBody::Bytes(bytes);
                return;
            }
            PackedBody::Useless => return,
            PackedBody::Missing => settings.cache.pack(entry, encoding),
        }
    }
    if local.body.is_done() {
        return;
    }
    if let Some(encoder) = worker.encoders.begin(encoding, length) {
        say(&mut local.head, encoding);
        let source = std::mem::replace(&mut local.body, LocalBody::Bytes(Bytes::new()));
        local.body = LocalBody::Packing(Box::new(PackingBody::new(source, encoder)));
    }
}
