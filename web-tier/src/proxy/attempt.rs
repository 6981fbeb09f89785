//! One try on one server: a socket, the request on its way, the answer's head or why there is none.

use super::tries::Tries;
use crate::{
    error::ProxyError,
    http1::{Length, Name, ResponseHead},
    memory::shelf::Shelved,
    proxy::forward::{NOT_PROCESSED, SHORT, STOPPED},
    upstream::{
        Lease, Upstream,
        exchange::{AnswerError, ClientSide, Exchange, SendError},
        pool::{Asker, Place, ServerPool, TakeError, Taken, Whose},
    },
    worker::client::{Client, Hopeless},
};
use http::{Method, StatusCode};
use std::{
    cell::Cell,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::timeout;

/// How long an answer's head waits for the first of its body. Of one whose length is known nobody makes use before.
const HEAD_WAIT_MAX: Duration = Duration::from_millis(500);

/// The same of an answer in chunks, which may be a stream of some kind.
const HEAD_WAIT_MAX_CHUNKED: Duration = Duration::from_millis(50);

/// Answers that may say nothing for long after their head.
const STREAMS: [&[u8]; 2] = [b"text/event-stream", b"application/grpc"];

/// Why a try failed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Failure {
    /// The request never left.
    Unsent,
    /// It never left, for all sockets are in use: the server has not heard of it.
    Full {
        /// It has been in the queue for as long as it may.
        waited: bool,
    },
    /// The connection broke before an answer's head, or right behind it: the server may have acted on the request.
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
pub(super) async fn attempt<S: ClientSide>(
    client: &Rc<Client>,
    upstream: &Upstream,
    lease: Lease,
    tries: &mut Tries,
    side: &mut S,
) -> Result<(Box<Exchange>, Shelved<Box<ResponseHead>>), Failure> {
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
    if tries.has_queued && !server.pool.has_place() {
        return Err(Failure::Full { waited: false });
    }
    let asker = Asker { owner: tries.address.into(), holder: client.clone() };
    let whose = if server.pool.tells_whose() { Some(client.endpoints(tries.address)) } else { None };
    let taken = match server.pool.try_take(tries.fresh, whose, &asker) {
        Ok(taken) => taken,
        // In a box: the state of a connect would make every request as large.
        Err(place) => {
            let way = (tries.fresh, whose);
            Box::pin(take(client, &lease, &server.pool, (place, way, &asker), side)).await?
        }
    };
    client.progress.forwarded(worker.now(), server.silence_max);
    let mut exchange = Exchange::new(taken, lease, worker.buffers.clone());
    if exchange.is_stream() {
        client.progress.streams();
    }
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
        if head.status == StatusCode::CONTINUE {
            client.progress.told_to_go_on(worker.now());
        }
    }
    if upstream.foreign_members().is_some() {
        // What only servers of ours may say means nothing here.
        head.fields.remove_if(|field| {
            field.known == Name::Internal && !field.name.eq_ignore_ascii_case(b"copal-cache-control")
        });
    }
    tell(&mut exchange, &head, client);
    if let Some(wait) = head_wait(&exchange, &head, tries) {
        // In a box: the first of a body nearly always comes with its head.
        Box::pin(body_begins(client, &mut exchange, wait)).await?;
    }
    tries.sent = tries.outgoing.is_sent();
    Ok((exchange, head))
}

/// Tells the balancer what a server has answered.
fn tell(exchange: &mut Exchange, head: &ResponseHead, client: &Client) {
    let refused = match head.status {
        StatusCode::SERVICE_UNAVAILABLE => head.fields.internal(NOT_PROCESSED),
        _ => None,
    };
    let now = client.worker.read_clock();
    match refused {
        // No fail window, as where this machine is short itself: what the server has open still works.
        Some(SHORT) => {}
        Some(STOPPED) => exchange.lease.answered(now, StatusCode::OK.as_u16()),
        Some(_) => exchange.lease.refused(now),
        None => exchange.lease.answered(now, head.status.as_u16()),
    }
}

/// How long a head may be kept back for the first of its body, if it may.
fn head_wait(exchange: &Exchange, head: &ResponseHead, tries: &Tries) -> Option<Duration> {
    if !exchange.is_at_head() || !tries.may_resend() {
        return None;
    }
    let streams = |kind: &[u8]| {
        STREAMS.iter().any(|it| kind.get(..it.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(it)))
    };
    let wait = match head.length(tries.to_head) {
        Length::Exact(_) => HEAD_WAIT_MAX,
        Length::Chunked => HEAD_WAIT_MAX_CHUNKED,
        Length::Empty | Length::UntilClose => return None,
    };
    let may = tries.outgoing.is_sent() && !head.fields.named("content-type").any(streams);
    may.then_some(wait)
}

/// Waits a moment for the first of an answer's body. As long as the client has seen nothing of the answer, another server can give it
/// in place of one that dies right behind the head.
async fn body_begins(client: &Client, exchange: &mut Exchange, wait: Duration) -> Result<(), Failure> {
    match timeout(wait, poll_fn(|cx| exchange.poll_behind_head(cx))).await {
        Ok(Err(cause)) => {
            tracing::debug!(%cause, "a server broke off behind the head of an answer");
            client.worker.counters.upstream_failures.up();
            exchange.broke(&cause, client.worker.read_clock());
            Err(Failure::Broken)
        }
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}

/// Waits for a way to a server.
async fn take<S: ClientSide>(
    client: &Client,
    lease: &Lease,
    pool: &ServerPool,
    (place, way, asker): (Option<Place>, (bool, Whose), &Asker),
    side: &mut S,
) -> Result<Taken, Failure> {
    let queued = Cell::new(false);
    let mut taking = pin!(pool.take(place, way, asker, &queued));
    poll_fn(|cx| match taking.as_mut().poll(cx) {
        Poll::Ready(taken) => Poll::Ready(taken.map_err(|cause| not_taken(client, lease, &cause))),
        // Who is gone is not sent to a server when his turn in the queue comes. Who has said his last most likely is, and where
        // requests queue it is the others who would pay for the doubt.
        Poll::Pending if side.poll_gone(cx).is_ready() || (queued.get() && side.has_ended()) => {
            Poll::Ready(Err(Failure::Final(ProxyError::ClientGone)))
        }
        Poll::Pending => match client.hopeless(lease) {
            Some(why) => Poll::Ready(Err(hopeless(client, lease, why))),
            None => Poll::Pending,
        },
    })
    .await
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
        Poll::Ready(Err(SendError::Client(cause))) => return Poll::Ready(Err(Failure::Final(cause.into()))),
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
    match cause {
        TakeError::Connect(cause) => {
            client.worker.counters.upstream_failures.up();
            client.worker.tell_of_backend(cause);
            lease.unreachable(client.worker.read_clock());
            Failure::Unsent
        }
        TakeError::QueueFull => Failure::Full { waited: false },
        TakeError::QueueTimeout(_) => Failure::Full { waited: true },
        // No fail window, and the idle sockets stay: they are what still works. Another server may have one.
        TakeError::Short(cause) => {
            client.worker.counters.dials_short.up();
            if let Some(times) = client.worker.short.happened(client.worker.now()) {
                tracing::warn!(%cause, times, "no new connections to servers: this machine is short of something");
            }
            Failure::Full { waited: false }
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
fn not_answered(client: &Client, exchange: &Exchange, tries: &mut Tries, cause: &AnswerError) -> Failure {
    if let AnswerError::Unsayable(why) = cause {
        return Failure::Final(ProxyError::Bad(why));
    }
    // Nobody has looked at it: as long as all of it is here, it is as if it had never been sent.
    if cause.is_unprocessed() && tries.outgoing.rewind() {
        tracing::debug!(%cause, "a server has not taken a request");
        return match cause {
            AnswerError::Refused => Failure::Full { waited: false },
            _ => Failure::Stale,
        };
    }
    let unsent = tries.outgoing.is_unsent();
    let stale = exchange.reused() && (unsent || (tries.may_resend() && !cause.is_invalid()));
    tracing::debug!(%cause, unsent, stale, "no answer from a server");
    if stale {
        return Failure::Stale;
    }
    client.worker.counters.upstream_failures.up();
    exchange.broke(cause, client.worker.read_clock());
    match unsent {
        true => Failure::Unsent,
        false if cause.is_invalid() => Failure::Final(ProxyError::Invalid),
        false => Failure::Broken,
    }
}

/// Lets go of an answer that the client does not get; its socket serves on where that is cheap.
pub(super) fn discard(mut exchange: Box<Exchange>, head: &ResponseHead, method: &Method, sent: bool) {
    exchange.begin_body(head.length(*method == Method::HEAD));
    if sent {
        exchange.discard(head.persists());
    }
}
