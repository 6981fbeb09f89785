//! The request as servers are to see it: who asks and how it came is this server's word, or that of a proxy that is trusted.

use super::{
    Way,
    forwarded_port::{forwarded_port, port_of},
};
use crate::{
    http1::{Name, RequestHead},
    observe::{request_id, trace_context::TraceParent},
    proxy::forward::{Trace, Via, put_request},
    route::{rules::Edit, trusted::Asker},
    upstream::exchange::Outgoing,
    worker::client::Client,
};
use traces::{Exporter, Span, TraceContext};

/// The request as servers are to see it, each try alike.
pub(super) fn prepare(
    client: &Client,
    asker: &Asker<'_>,
    way: &Way<'_>,
    head: &mut RequestHead,
    edits: &[Edit<'_>],
) -> Outgoing {
    let worker = &client.worker;
    let made = worker.request_ids.next();
    let theirs = TraceParent::of(&head.fields);
    let span =
        worker.spans.as_ref().and_then(|spans| begin_span(spans, head, theirs.as_ref(), asker.trusted));
    let trace = match (&span, theirs) {
        (Some(span), _) => TraceParent::of_span(span.context()),
        (None, Some(theirs)) => theirs,
        (None, None) => worker.traces.begin(),
    };
    let behind = asker.trusted.then(|| Behind::of(head));
    // One word, whatever a proxy's was: apps compare it.
    let scheme = if asker.secure { "https" } else { "http" };
    let (mut host, mut port, mut request_id) = (None, None, &made[..]);
    if let Some(behind) = &behind {
        host = behind.host.as_deref();
        port = behind.port;
        request_id = behind.request_id.as_deref().unwrap_or(request_id);
    }
    // That of the URL which the client has asked for: where it listens here may be hidden behind an address translation.
    let port = port.or_else(|| port_of(host.or(head.fields.first(Name::Host))?));
    let port = port.unwrap_or(if asker.secure { 443 } else { 80 });
    client.log.note(|record| record.ids(request_id, trace.trace_id()));
    let ours = way.upstream.foreign_members().is_none();
    head.noted.id.extend_from_slice(request_id);
    let via = Via {
        address: asker.text.as_bytes(),
        port,
        scheme: scheme.as_bytes(),
        host,
        request_id,
        trace: match (&span, theirs) {
            (Some(_), theirs) => Trace::Span { parent: &trace, goes_on: theirs.is_some(), ours },
            (None, None) => Trace::New(&trace),
            (None, Some(_)) => Trace::Theirs,
        },
        session_url: way.session_url,
        // Of no concern to servers that are not ours.
        hub_age: worker.hub_age.get().filter(|_| ours),
        tls: client.tls.as_deref(),
    };
    let mut bytes = worker.buffers.take();
    put_request(&mut bytes, head, &via, edits);
    if let Some(span) = span {
        client.log.note(|record| record.traced(span));
    }
    Outgoing::new(bytes, head.length)
}

/// The span of a request, if it is recorded: as a proxy that is trusted has decided, or else as this server decides, whatever the client
/// says. It is in the client's trace, if there is one.
fn begin_span(
    spans: &Exporter,
    head: &RequestHead,
    theirs: Option<&TraceParent>,
    trusted: bool,
) -> Option<Span> {
    let theirs = theirs.and_then(|it| TraceContext::parse(it.as_bytes()));
    let decided = theirs.as_ref().filter(|_| trusted).map(|it| it.sampled);
    if !decided.unwrap_or_else(|| spans.samples()) {
        return None;
    }
    let begun = match theirs {
        Some(theirs) => spans.server(
            TraceContext { sampled: true, ..theirs.next() },
            Some(theirs.span),
            head.method.to_string(),
        ),
        None => spans.server(TraceContext::begin(true), None, head.method.to_string()),
    };
    Some(begun)
}

/// What a proxy that is trusted has said of a request: what its client asked for.
struct Behind {
    host: Option<Vec<u8>>,
    port: Option<u16>,
    request_id: Option<Vec<u8>>,
}

impl Behind {
    fn of(head: &RequestHead) -> Self {
        let named = |name| head.fields.named(name).next().map(<[u8]>::to_vec);
        Self {
            host: named("x-forwarded-host"),
            port: forwarded_port(&head.fields),
            request_id: request_id::given(&head.fields).map(<[u8]>::to_vec),
        }
    }
}
