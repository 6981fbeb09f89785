//! What errors look like: a host's own pages in the place of our few words, and, if it wants that, of what servers say.

use super::{
    Reply,
    attempt::discard,
    local::{Local, RETRY_AFTER, Why},
    why::said,
};
use crate::{
    error::ProxyError,
    http1::{Fields, Name, RequestHead},
    route::{Routes, pages::Page},
    worker::client::Client,
};
use common::config::Maintenance;
use std::sync::Arc;

/// What is kept of a server's error: what tells a client what to do, and cookies.
const KEPT: [&str; 5] = ["allow", "proxy-authenticate", RETRY_AFTER, "set-cookie", "www-authenticate"];

/// The kind of a request that is a call in gRPC.
const GRPC: &[u8] = b"application/grpc";

/// The answer to a request that can't be served.
pub(crate) fn refusal(client: &Client, head: &RequestHead, cause: ProxyError) -> Local {
    let mut local = Local::refusal(client, cause);
    if let Some((page, _)) = page(&client.worker.routes(), head, local.head.status.as_u16()) {
        local.show(&page);
    }
    local
}

/// The answer of a rule that closes the site.
pub(super) fn closed(client: &Client, routes: &Routes, head: &RequestHead, rule: &Maintenance) -> Local {
    let mut local = Local::closed(client, rule.status, rule.retry_after.as_secs());
    if let Some(page) = routes.pages.get(&rule.file.path).filter(|_| !is_grpc_call(head)) {
        local.show(&page);
    }
    local
}

/// An error with its page, anything else as it is.
pub(super) fn dress(client: &Client, routes: &Routes, head: &RequestHead, reply: Reply) -> Reply {
    let status = reply.status();
    if !status.is_client_error() && !status.is_server_error() {
        return reply;
    }
    let Some((page, for_servers)) = page(routes, head, status.as_u16()) else { return reply };
    match reply {
        Reply::Local(mut local) if local.why != Why::Cached => {
            local.show(&page);
            Reply::Local(local)
        }
        reply if !for_servers => reply,
        Reply::Local(kept) => {
            let mut local = Local::page(client, status, &page);
            copy_kept(&kept.head.fields, &mut local.head.fields);
            local.why = Why::Cached;
            Reply::Local(local)
        }
        Reply::Server(answer) => {
            let mut local = Local::page(client, status, &page);
            copy_kept(&answer.head.fields, &mut local.head.fields);
            local.why = Why::Server(said(&answer.head));
            discard(answer.exchange, &answer.head, &head.method, answer.outgoing.is_sent());
            Reply::Local(local)
        }
    }
}

/// The page for a status of a request's host, and whether it is for servers' errors too.
fn page(routes: &Routes, head: &RequestHead, status: u16) -> Option<(Arc<Page>, bool)> {
    let pages = routes.hosts.error_pages(head.host()).filter(|_| !is_grpc_call(head))?;
    Some((routes.pages.get(&pages.file(status)?.path)?, pages.for_servers))
}

fn copy_kept(from: &Fields, to: &mut Fields) {
    for field in from.iter() {
        if KEPT.iter().any(|name| field.name.eq_ignore_ascii_case(name.as_bytes())) {
            to.push(Name::of(field.name), field.name, field.value);
        }
    }
}

/// Whether a request is a call in gRPC: `application/grpc`, or with a `+` and the form of its messages behind it. (gRPC-Web is not.) Its
/// client reads no pages.
pub(crate) fn is_grpc_call(head: &RequestHead) -> bool {
    head.fields.named("content-type").next().is_some_and(|value| {
        let (kind, rest) = value.split_at(GRPC.len().min(value.len()));
        kind.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';'))
    })
}
