//! The request as servers are to see it: who asks and how it came is this server's word, or that of a proxy that is trusted.

use super::Way;
use crate::{
    connection::Client,
    exchange::Outgoing,
    forward::{Via, X_FORWARDED_FOR, put_request},
    http1::RequestHead,
    pool::Owner,
    request_id,
    trace_context::TraceParent,
    trusted::client_of,
};
use common::config::HeaderEdit;
use std::net::IpAddr;

/// How the client came to a proxy.
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";

/// The request as servers are to see it, each try alike, and whose it is.
pub(super) fn prepare(
    client: &Client,
    way: &Way<'_>,
    head: &mut RequestHead,
    edits: &[&HeaderEdit],
) -> (Outgoing, Owner) {
    let worker = &client.worker;
    let made = worker.request_ids.next();
    let theirs = TraceParent::of(&head.fields);
    let trace = theirs.unwrap_or_else(|| worker.traces.begin());
    let behind = client.trusted.then(|| Behind::of(client, head));
    // One word, whatever a proxy's was: apps compare it.
    let scheme = if is_secure(client, head) { "https" } else { "http" };
    let (mut address, mut host, mut owner) = (&*client.forwarded_for, None, client.address);
    let mut request_id = &made[..];
    if let Some(behind) = &behind {
        address = &behind.forwarded_for;
        owner = behind.address;
        host = behind.host.as_deref();
        request_id = behind.request_id.as_deref().unwrap_or(request_id);
        client.log.note(|record| record.behind(address));
    }
    client.log.note(|record| record.ids(request_id, trace.trace_id()));
    let via = Via {
        address: address.as_bytes(),
        scheme: scheme.as_bytes(),
        host,
        request_id,
        trace: theirs.is_none().then_some(&trace),
        session_url: way.session_url,
        // Of no concern to servers that are not ours.
        hub_age: worker.hub_age.get().filter(|_| way.upstream.foreign_pool().is_none()),
        tls: client.tls.as_deref(),
    };
    let mut bytes = worker.buffers.take();
    put_request(&mut bytes, head, &via, edits);
    (Outgoing::new(bytes, head.length), owner.into())
}

/// What a proxy that is trusted has said: who its client is, and what it asked for.
struct Behind {
    address: IpAddr,
    forwarded_for: String,
    host: Option<Vec<u8>>,
    request_id: Option<Vec<u8>>,
}

impl Behind {
    fn of(client: &Client, head: &RequestHead) -> Self {
        let lines: Vec<_> = head.fields.named(X_FORWARDED_FOR).collect();
        let named = |name| head.fields.named(name).next().map(<[u8]>::to_vec);
        let address = client_of(&client.worker.routes().trusted, client.address, lines);
        Self {
            address,
            forwarded_for: address.to_string(),
            host: named("x-forwarded-host"),
            request_id: request_id::given(&head.fields).map(<[u8]>::to_vec),
        }
    }
}

/// Whether the client came over TLS. A proxy that is trusted knows of its own client; where it says nothing, and of anyone else,
/// it is this connection that counts. Of a list the first entry is the client's, and a WebSocket's scheme may be `wss`.
pub(super) fn is_secure(client: &Client, head: &RequestHead) -> bool {
    let said = if client.trusted { head.fields.named(X_FORWARDED_PROTO).next() } else { None };
    said.map_or(client.tls.is_some(), |said| {
        let first = said.split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
        first.eq_ignore_ascii_case(b"https") || first.eq_ignore_ascii_case(b"wss")
    })
}
