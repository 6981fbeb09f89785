//! The life of a request, one function a phase: normalise → route → prepare → (choose a server → take a socket → send), the
//! last three again while that is safe → answer.

use crate::{
    balance::{TRIES_MAX, Tried},
    body::{RequestBody, ResponseBody, discard},
    connection::{Client, Hopeless},
    error::ProxyError,
    forward::{Found, From, HUB_AGE, NOT_PROCESSED, Via, prepare_request, prepare_response},
    normalise::{decoded, normalise_request},
    pool::{Pooled, TakeError},
    rules::Target,
    saved::Saved,
    sticky,
    upstream::{Lease, Upstream},
};
use common::hub_age;
use http::{Method, Request, Response, StatusCode, header::HOST};
use hyper::body::Incoming;
use std::{convert::Infallible, pin::pin, rc::Rc};

/// Answers one request. What needs no waiting is done at once, so that the future holds only what it needs later: it is moved
/// once a request.
pub(crate) fn serve(
    client: Rc<Client>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> {
    client.worker.counters.requests.up();
    client.worker.counters.requests_active.up();
    let asked = Asked { client, answered: false };
    let mut begun = begin(&asked.client, request);
    async move {
        // By reference: what an async function takes by value, its future holds twice.
        let answer = match &mut begun {
            Ok((target, tries)) => forward(&asked.client, target, tries).await,
            Err(cause) => Err(*cause),
        };
        Ok(asked.answered(answer))
    }
}

/// A request whose answer's body does not exist yet: keeps the count of active requests right when the client goes away.
struct Asked {
    client: Rc<Client>,
    answered: bool,
}

impl Asked {
    /// The answer, counted. From here on its body keeps the count of active requests.
    fn answered(mut self, answer: Result<Response<ResponseBody>, ProxyError>) -> Response<ResponseBody> {
        let response = answer.unwrap_or_else(|cause| cause.respond(&self.client));
        self.answered = true;
        self.client.worker.counters.answered(response.status());
        self.client.progress.answering(self.client.worker.now());
        response
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.answered {
            self.client.worker.counters.requests_active.down();
        }
    }
}

/// Normalises, routes and prepares a request.
fn begin(client: &Client, request: Request<Incoming>) -> Result<(Target, Tries), ProxyError> {
    let (head, body) = request.into_parts();
    let (body, uploaded) = RequestBody::new(body);
    client.progress.asked(client.worker.now(), uploaded);
    let mut request = Request::from_parts(head, body);
    let found = Found::new(request.headers(), From::Client);
    normalise_request(&mut request, &found)?;
    let target = *route(client, &request)?;
    let number = client.worker.request_ids.next();
    let saved = save(client, target, &request);
    prepare(client, number, found, &mut request);
    Ok((target, Tries::new(number, request, saved)))
}

/// A copy of a request that may have to be sent again.
fn save(client: &Client, target: Target, request: &Request<RequestBody>) -> Option<Saved> {
    // One that is not safe is only ever sent again to another server, which says that the first did not process it.
    let again = client.worker.upstreams[target.upstream].has_others() || is_safe(request.method());
    (again && request.body().is_empty()).then(|| client.worker.shelf.save(request))
}

fn route<'a>(client: &'a Client, request: &Request<RequestBody>) -> Result<&'a Target, ProxyError> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let path = decoded(request.uri().path());
    client.worker.hosts.route(host, &path).ok_or(ProxyError::NoRule)
}

fn prepare(client: &Client, number: u64, found: Found, request: &mut Request<RequestBody>) {
    let request_id = client.worker.request_ids.id(number);
    let hub_age = client.worker.hub_age();
    let via = Via { address: &client.forwarded_for, scheme: "http", request_id, hub_age };
    let has_body = !request.body().is_empty();
    prepare_request(request, found, via, has_body);
}

/// Sends a request to a server of its cluster, and to another one while that is safe.
async fn forward(
    client: &Rc<Client>,
    target: &Target,
    tries: &mut Tries,
) -> Result<Response<ResponseBody>, ProxyError> {
    let worker = &client.worker;
    let upstream = &worker.upstreams[target.upstream];
    loop {
        let lease = upstream.lease(worker.now(), tries.session(upstream, target), target, tries.tried);
        let Some(lease) = lease else { return Err(tries.last_error) };
        let server = lease.index();
        match attempt(client, upstream, lease, tries).await {
            Ok(answer) if tries.again_after_answer(client, server, &answer.response) => {
                discard(answer.response.into_body(), answer.pooled);
            }
            Ok(answer) if is_outdated(client, &answer.response) => {
                discard(answer.response.into_body(), answer.pooled);
                return Err(ProxyError::NoServer);
            }
            Ok(answer) => return Ok(answer.into_response(client)),
            Err(failure) => tries.again_after_failure(client, server, failure)?,
        }
        worker.counters.retries.up();
    }
}

/// An answer's head, and what is held of its server.
struct Answer {
    response: Response<Incoming>,
    pooled: Pooled,
    lease: Lease,
}

impl Answer {
    fn into_response(self, client: &Rc<Client>) -> Response<ResponseBody> {
        let (mut head, body) = self.response.into_parts();
        prepare_response(&mut head);
        Response::from_parts(head, ResponseBody::upstream(client.clone(), body, self.pooled, self.lease))
    }
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

/// One try on one server. A request that could not be sent is still in `tries` afterwards.
async fn attempt(
    client: &Client,
    upstream: &Upstream,
    lease: Lease,
    tries: &mut Tries,
) -> Result<Answer, Failure> {
    let worker = &client.worker;
    let server = upstream.server(lease.index());
    client.progress.awaits_socket();
    if tries.request.as_ref().is_some_and(|request| !is_safe(request.method())) {
        // It can't be sent again once it has left. The runtime looks at the network first, so that a pooled socket whose
        // server has died since is known to be closed and not taken.
        tokio::task::yield_now().await;
    }
    server.heed_breaks();
    // In blocks: what is pinned outside of one is held to the end.
    let taken = {
        let taking = pin!(server.pool.take(tries.fresh));
        client.unless_hopeless(&lease, taking).await
    };
    let mut pooled = match taken {
        Ok(Ok(pooled)) => pooled,
        Ok(Err(cause)) => return Err(not_taken(client, &lease, &cause)),
        Err(why) => return Err(hopeless(client, &lease, why)),
    };
    client.progress.forwarded(worker.now(), server.silence_max);
    let request = tries.request.take().expect("every try begins with a request");
    let sent = {
        let sending = pin!(pooled.sender().try_send_request(request));
        client.unless_hopeless(&lease, sending).await
    };
    let sent = match sent {
        Ok(sent) => sent,
        Err(why) => return Err(hopeless(client, &lease, why)),
    };
    match sent {
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            Err(Failure::Final(ProxyError::Invalid))
        }
        Ok(response) => {
            lease.succeeded();
            Ok(Answer { response, pooled, lease })
        }
        Err(mut cause) => {
            tries.request = cause.take_message();
            Err(not_answered(client, &lease, &pooled, tries, cause.error()))
        }
    }
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

/// Sorts out why hyper has no answer.
fn not_answered(
    client: &Client,
    lease: &Lease,
    pooled: &Pooled,
    tries: &Tries,
    cause: &hyper::Error,
) -> Failure {
    let unsent = tries.request.is_some();
    let stale = pooled.reused() && (unsent || (tries.may_resend() && !cause.is_parse()));
    tracing::debug!(%cause, unsent, stale, "no answer from a server");
    // The client's body broke off, not the server.
    if !unsent && cause.is_user() {
        return Failure::Final(ProxyError::BodyBroken);
    }
    if stale {
        return Failure::Stale;
    }
    client.worker.counters.upstream_failures.up();
    lease.broke(client.worker.read_clock());
    match unsent {
        true => Failure::Unsent,
        false if cause.is_parse() => Failure::Final(ProxyError::Invalid),
        false => Failure::Broken,
    }
}

/// A request, and what it may still try.
struct Tries {
    /// For the next try.
    request: Option<Request<RequestBody>>,
    tried: Tried,
    /// Tries left after the present one.
    left: usize,
    /// The next try is not to use an idle socket.
    fresh: bool,
    /// A request that may have been seen is sent again once.
    resent: bool,
    saved: Option<Saved>,
    /// That of its `X-Request-Id`, the same for each try.
    number: u64,
    /// What the client hears when no server is left.
    last_error: ProxyError,
}

impl Tries {
    fn new(number: u64, request: Request<RequestBody>, saved: Option<Saved>) -> Self {
        Self {
            tried: Tried::default(),
            left: TRIES_MAX - 1,
            fresh: false,
            resent: false,
            saved,
            number,
            last_error: ProxyError::NoServer,
            request: Some(request),
        }
    }

    /// The session of the request, if the rule wants it to stick.
    fn session(&self, upstream: &Upstream, target: &Target) -> Option<&str> {
        let request = self.request.as_ref().filter(|_| target.sticky)?;
        sticky::session(request.headers(), upstream.session_cookie())
    }

    /// Gets ready for one more try, after one that brought no answer; the error when there is none.
    fn again_after_failure(
        &mut self,
        client: &Client,
        server: usize,
        failure: Failure,
    ) -> Result<(), ProxyError> {
        self.fresh = false;
        let error = if self.request.is_some() { ProxyError::NoServer } else { ProxyError::Broken };
        match failure {
            Failure::Final(error) => return Err(error),
            // A socket that went stale is replaced by a new one to the same server: its session lives there.
            Failure::Stale => self.fresh = true,
            // The balance keeps it away if it is down; if it was replaced, its successor may be asked.
            Failure::Gone => {}
            Failure::Unsent | Failure::Broken => self.tried.add(server),
        }
        if self.request.is_none() {
            self.last_error = error;
            self.request = self.resend(client);
        }
        self.left = self.left.checked_sub(1).ok_or(error)?;
        self.request.is_some().then_some(()).ok_or(error)
    }

    /// Gets ready for one more try, if the answer says that the server could not serve the request, and that is safe.
    fn again_after_answer(&mut self, client: &Client, server: usize, response: &Response<Incoming>) -> bool {
        let refused = response.status() == StatusCode::SERVICE_UNAVAILABLE || is_outdated(client, response);
        if !refused || self.left == 0 {
            return false;
        }
        let unseen = response.headers().contains_key(NOT_PROCESSED);
        self.request = if unseen { self.copy(client) } else { self.resend(client) };
        if self.request.is_none() {
            return false;
        }
        self.tried.add(server);
        self.left -= 1;
        true
    }

    /// Whether the request may be sent again though a server may have seen it: it is safe (RFC 9110 §9.2.1) and has not been
    /// repeated yet.
    fn may_resend(&self) -> bool {
        !self.resent && self.saved.as_ref().is_some_and(|saved| is_safe(saved.method()))
    }

    /// The request once more, if it may be.
    fn resend(&mut self, client: &Client) -> Option<Request<RequestBody>> {
        if !self.may_resend() {
            return None;
        }
        self.resent = true;
        self.copy(client)
    }

    /// The request once more, made ready as the first was.
    fn copy(&self, client: &Client) -> Option<Request<RequestBody>> {
        let mut request = self.saved.as_ref()?.request();
        let found = Found::new(request.headers(), From::Client);
        prepare(client, self.number, found, &mut request);
        Some(request)
    }
}

/// Whether the answer rests on the memory of a server that is cut off from the hub, which this one hears: another server may have
/// answered with more already.
fn is_outdated(client: &Client, response: &Response<Incoming>) -> bool {
    let said = response.headers().get(HUB_AGE).and_then(|age| hub_age::parse(age.as_bytes()));
    said.is_some_and(|age| client.worker.hears_more_than(age))
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, R>(_: fn(A, B) -> R) -> usize {
        size_of::<R>()
    }

    /// It is moved once a request, and kept by each connection.
    #[test]
    fn the_future_of_a_request_is_small() {
        let size = size_of_future(serve);
        assert!(size <= 1536, "{size} bytes");
    }
}
