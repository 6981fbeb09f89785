//! The life of a request, one function a phase: normalise → route → prepare → (choose a server → take a socket → send), the
//! last three again while that is safe → the answer's head. The client's side passes the body on.

mod attempt;
mod prepare;
mod tries;

use crate::{
    connection::Client,
    error::ProxyError,
    exchange::{ClientSide, Exchange, Outgoing},
    forward::X_FORWARDED_FOR,
    host::without_port,
    http1::{Length, Name, RequestHead, ResponseHead},
    local::{Local, edit_answer},
    normalise::{decoded, normalise_request},
    routes::Routes,
    rules::{Decision, ForeignTarget, Outcome, RequestView, Site, SiteRequest, Target},
    session_url::InUrl,
    shelf::Shelved,
    trusted::client_of,
    upstream::Upstream,
};
use attempt::{Failure, attempt, discard};
use common::{
    config::{HeaderEdit, Strategy},
    shortage::is_shortage,
};
use prepare::{is_secure, prepare};
use std::rc::Rc;
use tries::{Tries, is_outdated};

/// An answer's head, and the exchange that brings its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Shelved<Box<ResponseHead>>,
    pub(crate) exchange: Box<Exchange>,
    /// The request, of which a part may still have to be sent.
    pub(crate) outgoing: Outgoing,
}

/// What a client gets.
#[derive(Debug)]
pub(crate) enum Reply {
    Server(Answer),
    Local(Local),
}

/// Nobody is there any more to hear an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientGone;

/// Answers a request: by a server, or by what the rules say of it.
pub(crate) async fn answer<S: ClientSide>(
    client: &Client,
    head: &mut RequestHead,
    side: &mut S,
) -> Result<Reply, ClientGone> {
    if let Err(cause) = normalise_request(head).and_then(|()| check_certificate(client, head)) {
        return Ok(Reply::Local(Local::refusal(client, cause)));
    }
    let routes = client.worker.routes();
    let in_url = if routes.session_urls { InUrl::of(head) } else { Ok(None) };
    let in_url = match in_url {
        Ok(in_url) => in_url,
        Err(cause) => return Ok(Reply::Local(Local::refusal(client, cause))),
    };
    let Outcome { decision, edits, rewritten } = evaluate(client, &routes, head, in_url.as_ref());
    if let Some(in_url) = in_url.as_ref().filter(|_| !keeps_session(&decision)) {
        head.set_path(&in_url.path);
    }
    let rewritten = rewritten.map_or(Ok(()), |to| head.set_target(&to.target(), &routes.head_limits));
    let reply = match decision {
        _ if let Err(cause) = rewritten => Err(cause.into()),
        Decision::Proxy(target) => {
            let way = Way::to(&routes, target, in_url.as_ref());
            forward(client, &way, head, &edits, side).await.map(Reply::Server)
        }
        Decision::HttpProxy(target) => {
            let way = Way::to_foreign(&routes, target);
            forward(client, &way, head, &edits, side).await.map(Reply::Server)
        }
        // In a box, as every request would be as large.
        Decision::Static(site) => Ok(Reply::Local(Box::pin(file(client, head, site)).await)),
        Decision::Redirect { status, location } => {
            Ok(Reply::Local(Local::redirect(client, status, &location)))
        }
        Decision::Error { status, message } => Ok(Reply::Local(Local::error_page(client, status, message))),
        Decision::None => Err(ProxyError::NoRule),
    };
    let mut reply = match reply {
        Ok(reply) => reply,
        Err(ProxyError::ClientGone) => return Err(ClientGone),
        Err(cause) => {
            if cause == ProxyError::Busy {
                client.worker.counters.queue_refusals.up();
            }
            Reply::Local(Local::refusal(client, cause))
        }
    };
    match &mut reply {
        Reply::Server(answer) => edit_answer(&mut answer.head, &edits),
        Reply::Local(local) => edit_answer(&mut local.head, &edits),
    }
    Ok(reply)
}

/// Whether a path that names a session is forwarded as it came: to servers of which no rule says that they want it otherwise.
fn keeps_session(decision: &Decision<'_>) -> bool {
    match decision {
        Decision::Proxy(target) => !target.session_url,
        decision => matches!(decision, Decision::HttpProxy(_)),
    }
}

/// What the rules of the request's host decide.
fn evaluate<'a>(
    client: &Client,
    routes: &'a Routes,
    head: &RequestHead,
    in_url: Option<&InUrl>,
) -> Outcome<'a> {
    let remote = if client.trusted {
        let lines: Vec<_> = head.fields.named(X_FORWARDED_FOR).collect();
        client_of(&routes.trusted, client.address, lines)
    } else {
        client.address
    };
    routes.hosts.evaluate(&RequestView {
        method: head.method.as_str(),
        path: &decoded(in_url.map_or(head.path(), |it| &it.path)),
        query: head.query(),
        host: host(head),
        headers: &head.fields,
        remote,
        secure: is_secure(client, head),
        local_port: client.local_port(),
        now: client.worker.wall(),
    })
}

/// A file of this server.
async fn file(client: &Client, head: &RequestHead, site: &Site) -> Local {
    let request = SiteRequest {
        method: head.method.as_str(),
        path: &decoded(head.path()),
        target: head.path(),
        query: head.query(),
        headers: &Site::headers(&head.fields),
    };
    match site.answer(&request).await {
        Ok(answer) => Local::file(client, answer),
        Err(cause) if is_shortage(&cause) => {
            if let Some(times) = client.worker.short.happened(client.worker.now()) {
                tracing::warn!(%cause, times, "a file can't be read: this machine is short of something");
            }
            Local::refusal(client, ProxyError::Short)
        }
        Err(cause) => {
            tracing::warn!(path = head.path(), %cause, "a file can't be read");
            Local::error_page(client, 500, None)
        }
    }
}

/// Where a request goes, and how one of the servers there is chosen.
struct Way<'a> {
    upstream: &'a Rc<Upstream>,
    strategy: Strategy,
    sticky: bool,
    /// What the URL says of a session, where that counts.
    session_url: Option<&'a str>,
}

impl<'a> Way<'a> {
    fn to(routes: &'a Routes, target: &Target, in_url: Option<&'a InUrl>) -> Self {
        let upstream = &routes.upstreams[target.upstream];
        let Target { strategy, sticky, .. } = *target;
        let session_url = target.session_url.then(|| in_url.map_or("", |it| &it.session));
        Self { upstream, strategy, sticky, session_url }
    }

    fn to_foreign(routes: &'a Routes, target: &ForeignTarget) -> Self {
        let upstream = &routes.foreign[target.place];
        Self { upstream, strategy: target.strategy, sticky: true, session_url: None }
    }
}

/// Sends a request to a server of its cluster, and to another one while that is safe.
async fn forward<S: ClientSide>(
    client: &Client,
    way: &Way<'_>,
    head: &mut RequestHead,
    edits: &[&HeaderEdit],
    side: &mut S,
) -> Result<Answer, ProxyError> {
    let (worker, upstream) = (&client.worker, way.upstream);
    let secure = is_secure(client, head);
    if head.length != Length::Empty && head.fields.first(Name::Expect).is_some() {
        client.progress.holds_back();
    }
    let mut tries = Tries::new(prepare(client, way, head, edits), head);
    upstream.count_request(worker.now());
    let budget = || upstream.may_retry(worker.now());
    loop {
        let in_url = way.session_url.filter(|session| !session.is_empty());
        let belongs = upstream.belongs(&head.fields, in_url, way.sticky);
        let lease = upstream.lease(worker.now(), belongs.affinity, way.strategy, tries.tried);
        let Some(lease) = lease else { return Err(tries.last_error) };
        let server = lease.index();
        match attempt(client, upstream, lease, &mut tries, side).await {
            Ok((exchange, answer)) if tries.again_after_answer(client, server, &answer, budget) => {
                discard(exchange, &answer, &head.method, tries.sent);
            }
            Ok((exchange, answer)) if is_outdated(client, &answer) => {
                discard(exchange, &answer, &head.method, tries.sent);
                return Err(ProxyError::NoServer);
            }
            Ok((exchange, mut answer)) => {
                if let Some(pool) = upstream.foreign_pool() {
                    pool.put_cookies(belongs.token(), server, &mut answer.fields, secure);
                }
                return Ok(Answer { head: answer, exchange, outgoing: tries.outgoing });
            }
            Err(Failure::Full { .. }) if upstream.holds(&belongs) => return Err(ProxyError::Busy),
            Err(failure) => tries.again_after_failure(server, failure, budget)?,
        }
        worker.counters.retries.up();
    }
}

/// A client that was shown the certificate of one host does not speak to another on the same connection.
fn check_certificate(client: &Client, head: &RequestHead) -> Result<(), ProxyError> {
    let Some(tls) = &client.tls else { return Ok(()) };
    if tls.is_misdirected(without_port(host(head))) { Err(ProxyError::Misdirected) } else { Ok(()) }
}

/// `Host`, as sent.
fn host(head: &RequestHead) -> &str {
    head.fields.first(Name::Host).and_then(|host| str::from_utf8(host).ok()).unwrap_or("")
}
