//! The life of a request, one function a phase: normalise → route → prepare → (choose a server → take a socket → send), the
//! last three again while that is safe → the answer's head. The client's side passes the body on.

use crate::{
    balance::{TRIES_MAX, Tried},
    connection::{Client, Hopeless},
    error::ProxyError,
    exchange::{AnswerError, BodyError, ClientSide, Exchange, Outgoing, SendError},
    forward::{NOT_PROCESSED, Via, X_FORWARDED_FOR, put_request},
    host::without_port,
    http1::{Name, RequestHead, ResponseHead},
    local::{Local, edit_answer},
    normalise::{decoded, normalise_request},
    pool::TakeError,
    request_id,
    routes::Routes,
    rules::{Decision, ForeignTarget, Outcome, RequestView, Site, SiteRequest, Target},
    session_url::InUrl,
    shelf::Shelved,
    trace_context::TraceParent,
    trusted::client_of,
    upstream::{Lease, Upstream},
};
use common::{
    config::{HeaderEdit, Strategy},
    hub_age::{self, HUB_AGE},
};
use http::{Method, StatusCode};
use std::{
    cell::Cell,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
};

/// An answer's head, and the exchange that brings its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Shelved<Box<ResponseHead>>,
    pub(crate) exchange: Exchange,
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
        Decision::Static(site) => Ok(Reply::Local(file(client, head, site).await)),
        Decision::Redirect { status, location } => {
            Ok(Reply::Local(Local::redirect(client, status, &location)))
        }
        Decision::Error { status, message } => Ok(Reply::Local(Local::error_page(client, status, message))),
        Decision::None => Err(ProxyError::NoRule),
    };
    let mut reply = match reply {
        Ok(reply) => reply,
        Err(ProxyError::ClientGone) => return Err(ClientGone),
        Err(cause) => Reply::Local(Local::refusal(client, cause)),
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
        secure: client.tls.is_some(),
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
            Err(failure) => tries.again_after_failure(server, failure, budget)?,
        }
        worker.counters.retries.up();
    }
}

/// Whether the client came over TLS: to this server, or to a proxy that is trusted to say so.
fn is_secure(client: &Client, head: &RequestHead) -> bool {
    let said =
        || head.fields.named(X_FORWARDED_PROTO).next().is_some_and(|it| it.eq_ignore_ascii_case(b"https"));
    client.tls.is_some() || (client.trusted && said())
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

/// How the client came to a proxy.
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";

/// The request as servers are to see it, each try alike.
fn prepare(client: &Client, way: &Way<'_>, head: &mut RequestHead, edits: &[&HeaderEdit]) -> Outgoing {
    let worker = &client.worker;
    let made = worker.request_ids.next();
    let theirs = TraceParent::of(&head.fields);
    let trace = theirs.unwrap_or_else(|| worker.traces.begin());
    let behind = client.trusted.then(|| Behind::of(client, head));
    let (mut address, mut scheme, mut host) = (&*client.forwarded_for, client.scheme().as_bytes(), None);
    let mut request_id = &made[..];
    if let Some(behind) = &behind {
        address = &behind.address;
        scheme = behind.scheme.as_deref().unwrap_or(scheme);
        host = behind.host.as_deref();
        request_id = behind.request_id.as_deref().unwrap_or(request_id);
        client.log.note(|record| record.behind(address));
    }
    client.log.note(|record| record.ids(request_id, trace.trace_id()));
    let via = Via {
        address: address.as_bytes(),
        scheme,
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
    Outgoing::new(bytes, head.length)
}

/// What a proxy that is trusted has said: who its client is, and how it came.
struct Behind {
    address: String,
    scheme: Option<Vec<u8>>,
    host: Option<Vec<u8>>,
    request_id: Option<Vec<u8>>,
}

impl Behind {
    fn of(client: &Client, head: &RequestHead) -> Self {
        let lines: Vec<_> = head.fields.named(X_FORWARDED_FOR).collect();
        let named = |name| head.fields.named(name).next().map(<[u8]>::to_vec);
        Self {
            address: client_of(&client.worker.routes().trusted, client.address, lines).to_string(),
            scheme: named(X_FORWARDED_PROTO),
            host: named("x-forwarded-host"),
            request_id: request_id::given(&head.fields).map(<[u8]>::to_vec),
        }
    }
}

/// Whether the answer rests on the memory of a server that is cut off from the hub, which this one hears: another server may have
/// answered with more already.
fn is_outdated(client: &Client, answer: &ResponseHead) -> bool {
    let said = answer.fields.internal(HUB_AGE).and_then(hub_age::parse);
    said.is_some_and(|age| client.worker.hears_more_than(age))
}

/// Why a try failed.
#[derive(Debug, Clone, Copy)]
enum Failure {
    /// The request never left.
    Unsent,
    /// The connection broke before an answer's head: the server may have acted on the request.
    Broken,
    /// It was found closed, at once or without an answer, on a socket that had served before and that the server may just have
    /// given up: this says nothing about the server.
    Stale,
    /// The hub says that the server's process is gone.
    Gone,
    /// No way to go on.
    Final(ProxyError),
}

/// One try on one server.
async fn attempt<S: ClientSide>(
    client: &Client,
    upstream: &Upstream,
    lease: Lease,
    tries: &mut Tries,
    side: &mut S,
) -> Result<(Exchange, Shelved<Box<ResponseHead>>), Failure> {
    let worker = &client.worker;
    let server = upstream.server(lease.index());
    client.log.note(|record| record.tried(&server.name));
    client.progress.awaits_socket();
    if !tries.safe {
        // It can't be sent again once it has left. The runtime looks at the network first, so that a pooled socket whose
        // server has died since is known to be closed and not taken.
        tokio::task::yield_now().await;
    }
    server.heed_breaks();
    // In a block: what is pinned outside of one is held to the end.
    let socket = {
        let queued = Cell::new(false);
        let mut taking = pin!(server.pool.take(tries.fresh, &queued));
        poll_fn(|cx| match taking.as_mut().poll(cx) {
            Poll::Ready(taken) => Poll::Ready(taken.map_err(|cause| not_taken(client, &lease, &cause))),
            // Who is gone is not sent to a server when his turn in the queue comes. Who has said his last most likely is, and
            // where requests queue it is the others who would pay for the doubt.
            Poll::Pending if side.poll_gone(cx).is_ready() || (queued.get() && side.has_ended()) => {
                Poll::Ready(Err(Failure::Final(ProxyError::ClientGone)))
            }
            Poll::Pending => match client.hopeless(&lease) {
                Some(why) => Poll::Ready(Err(hopeless(client, &lease, why))),
                None => Poll::Pending,
            },
        })
        .await?
    };
    client.progress.forwarded(worker.now(), server.silence_max);
    let mut exchange = Exchange::new(socket, lease, worker.buffers.clone());
    let mut head = worker.response_heads.take(Box::default);
    loop {
        poll_fn(|cx| poll_head(cx, client, &mut exchange, tries, &mut head, side)).await?;
        if !head.status.is_informational() {
            break;
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            if tries.upgrade {
                break;
            }
            return Err(Failure::Final(ProxyError::Invalid));
        }
        let informed = poll_fn(|cx| side.poll_inform(cx, &mut head)).await;
        informed.map_err(|_| Failure::Final(ProxyError::ClientGone))?;
    }
    if upstream.foreign_pool().is_some() {
        // What only servers of ours may say means nothing here.
        head.fields.remove_if(|field| field.known == Name::Internal);
    }
    if head.status == StatusCode::SERVICE_UNAVAILABLE && head.fields.internal(NOT_PROCESSED).is_some() {
        exchange.lease.refused(worker.read_clock());
    } else {
        exchange.lease.answered(worker.read_clock(), head.status.as_u16());
    }
    tries.sent = tries.outgoing.is_sent();
    Ok((exchange, head))
}

/// Sends the request on, and reads what comes back until it is a head.
fn poll_head<S: ClientSide>(
    cx: &mut Context<'_>,
    client: &Client,
    exchange: &mut Exchange,
    tries: &mut Tries,
    head: &mut ResponseHead,
    side: &mut S,
) -> Poll<Result<(), Failure>> {
    let mut unsendable = None;
    match exchange.poll_send(cx, &mut tries.outgoing, side) {
        Poll::Ready(Err(SendError::Client(BodyError::Broken))) => {
            return Poll::Ready(Err(Failure::Final(ProxyError::BodyBroken)));
        }
        Poll::Ready(Err(SendError::Client(BodyError::TooLarge))) => {
            return Poll::Ready(Err(Failure::Final(ProxyError::BodyTooLarge)));
        }
        Poll::Ready(Err(SendError::Server(cause))) => unsendable = Some(AnswerError::Io(cause)),
        Poll::Ready(Ok(())) | Poll::Pending => {}
    }
    // A server that takes no more may have answered already.
    let cause = match (exchange.poll_head(cx, head), unsendable) {
        (Poll::Ready(Ok(())), _) => return Poll::Ready(Ok(())),
        (Poll::Ready(Err(cause)), _) | (Poll::Pending, Some(cause)) => cause,
        (Poll::Pending, None) => {
            if tries.outgoing.is_complete() && side.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Failure::Final(ProxyError::ClientGone)));
            }
            return match client.hopeless(&exchange.lease) {
                Some(why) => Poll::Ready(Err(hopeless(client, &exchange.lease, why))),
                None => Poll::Pending,
            };
        }
    };
    Poll::Ready(Err(not_answered(client, exchange, tries, &cause)))
}

/// Sorts out why there is no socket.
fn not_taken(client: &Client, lease: &Lease, cause: &TakeError) -> Failure {
    tracing::debug!(%cause, "no socket to a server");
    let worker = &client.worker;
    match cause {
        TakeError::Connect(_) => {
            worker.counters.upstream_failures.up();
            lease.unreachable(worker.read_clock());
            Failure::Unsent
        }
        TakeError::QueueFull | TakeError::QueueTimeout(_) => {
            worker.counters.queue_refusals.up();
            Failure::Final(ProxyError::Busy)
        }
    }
}

/// Sorts out why there is no use in waiting for a server.
fn hopeless(client: &Client, lease: &Lease, why: Hopeless) -> Failure {
    let worker = &client.worker;
    worker.counters.upstream_failures.up();
    match why {
        Hopeless::Silent => {
            lease.broke(worker.read_clock());
            Failure::Final(ProxyError::Silent)
        }
        // No fail window of ours: the hub's word keeps requests away, and says when the server is back.
        Hopeless::Gone => Failure::Gone,
    }
}

/// Sorts out why there is no answer.
fn not_answered(client: &Client, exchange: &Exchange, tries: &Tries, cause: &AnswerError) -> Failure {
    let unsent = tries.outgoing.is_unsent();
    let stale = exchange.reused() && (unsent || (tries.may_resend() && !cause.is_invalid()));
    tracing::debug!(%cause, unsent, stale, "no answer from a server");
    if stale {
        return Failure::Stale;
    }
    client.worker.counters.upstream_failures.up();
    exchange.lease.broke(client.worker.read_clock());
    match unsent {
        true => Failure::Unsent,
        false if cause.is_invalid() => Failure::Final(ProxyError::Invalid),
        false => Failure::Broken,
    }
}

fn discard(mut exchange: Exchange, head: &ResponseHead, method: &Method, sent: bool) {
    exchange.begin_body(head.length(*method == Method::HEAD));
    if sent {
        exchange.discard(head.persists());
    }
}

/// A request, and what it may still try.
struct Tries {
    outgoing: Outgoing,
    tried: Tried,
    /// Tries left after the present one.
    left: usize,
    /// The next try is not to use an idle socket.
    fresh: bool,
    /// A request that may have been seen is sent again once.
    resent: bool,
    /// Its method is safe (RFC 9110 §9.2.1).
    safe: bool,
    /// It asks to change protocols.
    upgrade: bool,
    /// All of it had left when the answer's head came.
    sent: bool,
    /// What the client hears when no server is left.
    last_error: ProxyError,
}

impl Tries {
    fn new(outgoing: Outgoing, head: &RequestHead) -> Self {
        Self {
            outgoing,
            tried: Tried::default(),
            left: TRIES_MAX - 1,
            fresh: false,
            resent: false,
            safe: matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS),
            upgrade: head.connection.upgrade,
            sent: false,
            last_error: ProxyError::NoServer,
        }
    }

    /// Gets ready for one more try, after one that brought no answer; the error when there is none.
    fn again_after_failure(
        &mut self,
        server: usize,
        failure: Failure,
        budget: impl FnOnce() -> bool,
    ) -> Result<(), ProxyError> {
        self.fresh = false;
        let unsent = self.outgoing.is_unsent();
        let error = if unsent { ProxyError::NoServer } else { ProxyError::Broken };
        match failure {
            Failure::Final(error) => return Err(error),
            // A socket that went stale is replaced by a new one to the same server: its session lives there.
            Failure::Stale => self.fresh = true,
            // The balance keeps it away if it is down; if it was replaced, its successor may be asked.
            Failure::Gone => {}
            Failure::Unsent | Failure::Broken => self.tried.add(server),
        }
        if !unsent {
            self.last_error = error;
            if !self.resend() {
                return Err(error);
            }
        }
        self.left = self.left.checked_sub(1).ok_or(error)?;
        // A stale socket is no sign of overload, and the try in its place goes to the same server.
        if matches!(failure, Failure::Stale) || budget() { Ok(()) } else { Err(error) }
    }

    /// Gets ready for one more try, if the answer says that the server could not serve the request, and that is safe.
    fn again_after_answer(
        &mut self,
        client: &Client,
        server: usize,
        answer: &ResponseHead,
        budget: impl FnOnce() -> bool,
    ) -> bool {
        let refused = answer.status == StatusCode::SERVICE_UNAVAILABLE || is_outdated(client, answer);
        if !refused || self.left == 0 {
            return false;
        }
        let unseen = answer.fields.internal(NOT_PROCESSED).is_some();
        let may = if unseen { self.outgoing.is_whole() } else { self.may_resend() };
        if !may || !budget() || !(if unseen { self.outgoing.rewind() } else { self.resend() }) {
            return false;
        }
        self.tried.add(server);
        self.left -= 1;
        true
    }

    /// Whether the request may be sent again though a server may have seen it.
    fn may_resend(&self) -> bool {
        self.safe && !self.resent && self.outgoing.is_whole()
    }

    /// Makes the request ready to be sent again, if it may be.
    fn resend(&mut self) -> bool {
        let may = self.may_resend() && self.outgoing.rewind();
        self.resent |= may;
        may
    }
}
