//! The life of a request, one function a phase: normalise → route → prepare → (choose a server → take a socket → send), the
//! last three again while that is safe → answer.

use crate::{
    balance::{TRIES_MAX, Tried},
    body::{RequestBody, ResponseBody},
    connection::Client,
    error::ProxyError,
    forward::{NOT_PROCESSED, Via, prepare_request, prepare_response},
    normalise::{decoded, normalise_request},
    pool::{Pooled, TakeError},
    rules::Target,
    saved::Saved,
    sticky,
    upstream::{Lease, Upstream},
};
use http::{Method, Request, Response, StatusCode, header::HOST};
use hyper::body::Incoming;
use std::{convert::Infallible, rc::Rc};

/// Answers one request.
pub(crate) async fn serve(
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let worker = &client.worker;
    worker.counters.requests.up();
    worker.counters.requests_active.up();
    let asked = Asked { client: &client, answered: false };
    let answer = handle(&client, request).await;
    let response = answer.unwrap_or_else(|cause| cause.respond(&client));
    worker.counters.answered(response.status());
    asked.answered();
    Ok(response)
}

/// A request whose answer's body does not exist yet: keeps the count of active requests right when the client goes away.
struct Asked<'a> {
    client: &'a Client,
    answered: bool,
}

impl Asked<'_> {
    /// From here on the answer's body keeps the count.
    fn answered(mut self) {
        self.answered = true;
        self.client.progress.answering(self.client.worker.now());
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.client.worker.counters.requests_active.down();
        }
    }
}

async fn handle(
    client: &Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, ProxyError> {
    let (head, body) = request.into_parts();
    let (body, uploaded) = RequestBody::new(body);
    client.progress.asked(client.worker.read_clock(), uploaded);
    let mut request = Request::from_parts(head, body);
    normalise_request(&mut request)?;
    let target = *route(client, &request)?;
    prepare(client, &mut request);
    forward(client, &target, request).await
}

fn route<'a>(client: &'a Client, request: &Request<RequestBody>) -> Result<&'a Target, ProxyError> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let path = decoded(request.uri().path());
    client.worker.hosts.route(host, &path).ok_or(ProxyError::NoRule)
}

fn prepare(client: &Client, request: &mut Request<RequestBody>) {
    let request_id = client.worker.request_ids.next();
    let via = Via { address: &client.forwarded_for, scheme: "http", request_id };
    let has_body = !request.body().is_empty();
    prepare_request(request, via, has_body);
}

/// Sends a request to a server of its cluster, and to another one while that is safe.
async fn forward(
    client: &Rc<Client>,
    target: &Target,
    mut request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, ProxyError> {
    let worker = &client.worker;
    let upstream = &worker.upstreams[target.upstream];
    let mut plan = Retries::new(client, upstream, &request);
    loop {
        let session =
            if target.sticky { sticky::session(request.headers(), upstream.session_cookie()) } else { None };
        let Some(lease) = upstream.lease(worker.now(), session, target, plan.tried) else {
            return Err(plan.last_error);
        };
        let server = lease.index();
        match attempt(client, upstream, lease, request, plan.fresh).await {
            Ok(answer) => match plan.after_answer(server, &answer.response) {
                Some(again) => request = again,
                None => return Ok(answer.into_response(client)),
            },
            Err(failure) => request = plan.after_failure(server, failure)?,
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
enum Failure {
    /// The request never left: here it is again. `stale`: on a socket that the server had just closed, which says nothing
    /// about the server.
    Unsent { request: Box<Request<RequestBody>>, stale: bool },
    /// The connection broke before an answer's head: the server may have acted on the request.
    Broken,
    /// No way to go on.
    Final(ProxyError),
}

/// One try on one server.
async fn attempt(
    client: &Rc<Client>,
    upstream: &Rc<Upstream>,
    lease: Lease,
    request: Request<RequestBody>,
    fresh: bool,
) -> Result<Answer, Failure> {
    let worker = &client.worker;
    let server = upstream.server(lease.index());
    let mut pooled = match server.pool.take(fresh).await {
        Ok(pooled) => pooled,
        Err(TakeError::Connect(cause)) => {
            tracing::debug!(%cause, "a server can't be reached");
            worker.counters.upstream_failures.up();
            lease.unreachable(worker.read_clock());
            return Err(Failure::Unsent { request: Box::new(request), stale: false });
        }
        Err(cause @ (TakeError::QueueFull | TakeError::QueueTimeout(_))) => {
            tracing::debug!(%cause, "a request is refused");
            worker.counters.queue_refusals.up();
            return Err(Failure::Final(ProxyError::Busy));
        }
    };
    client.progress.forwarded(worker.now(), server.silence_max);
    let sending = pooled.sender().try_send_request(request);
    let Some(sent) = client.unless_server_silent(sending).await else {
        worker.counters.upstream_failures.up();
        lease.broke(worker.read_clock());
        return Err(Failure::Final(ProxyError::Silent));
    };
    match sent {
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            Err(Failure::Final(ProxyError::Invalid))
        }
        Ok(response) => {
            lease.succeeded();
            Ok(Answer { response, pooled, lease })
        }
        Err(mut cause) => Err(not_sent(client, &lease, &pooled, cause.take_message(), cause.error())),
    }
}

/// Sorts out why hyper has no answer.
fn not_sent(
    client: &Client,
    lease: &Lease,
    pooled: &Pooled,
    message: Option<Request<RequestBody>>,
    cause: &hyper::Error,
) -> Failure {
    tracing::debug!(%cause, reused = pooled.reused(), unsent = message.is_some(), "no answer from a server");
    let worker = &client.worker;
    if let Some(request) = message {
        if !pooled.reused() {
            worker.counters.upstream_failures.up();
            lease.broke(worker.read_clock());
        }
        return Failure::Unsent { request: Box::new(request), stale: pooled.reused() };
    }
    // The client's body broke off, not the server.
    if cause.is_user() {
        return Failure::Final(ProxyError::BodyBroken);
    }
    worker.counters.upstream_failures.up();
    lease.broke(worker.read_clock());
    if cause.is_parse() { Failure::Final(ProxyError::Invalid) } else { Failure::Broken }
}

/// What a request may still try.
struct Retries {
    tried: Tried,
    /// Tries left after the present one.
    left: usize,
    /// The next try is not to use an idle socket.
    fresh: bool,
    /// A request that may have been seen is sent again once.
    resent: bool,
    saved: Option<Saved>,
    /// What the client hears when no server is left.
    last_error: ProxyError,
}

impl Retries {
    fn new(client: &Client, upstream: &Upstream, request: &Request<RequestBody>) -> Self {
        let worth_saving = request.body().is_empty() && upstream.has_others();
        Self {
            tried: Tried::default(),
            left: TRIES_MAX - 1,
            fresh: false,
            resent: false,
            saved: worth_saving.then(|| client.worker.shelf.save(request)),
            last_error: ProxyError::NoServer,
        }
    }

    /// The request for one more try, after one that brought no answer.
    fn after_failure(&mut self, server: usize, failure: Failure) -> Result<Request<RequestBody>, ProxyError> {
        let (request, error) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Unsent { request, stale } => {
                // A socket that went stale is replaced by a new one to the same server: its session lives there.
                self.fresh = stale;
                if !stale {
                    self.tried.add(server);
                }
                (Some(*request), ProxyError::NoServer)
            }
            Failure::Broken => {
                self.tried.add(server);
                self.last_error = ProxyError::Broken;
                (self.resend(), ProxyError::Broken)
            }
        };
        self.left = self.left.checked_sub(1).ok_or(error)?;
        request.ok_or(error)
    }

    /// The request for one more try, if its answer says that a server could not serve it.
    fn after_answer(&mut self, server: usize, response: &Response<Incoming>) -> Option<Request<RequestBody>> {
        if response.status() != StatusCode::SERVICE_UNAVAILABLE || self.left == 0 {
            return None;
        }
        let unseen = response.headers().contains_key(NOT_PROCESSED);
        let again = if unseen { self.saved.as_ref().map(Saved::request) } else { self.resend() }?;
        self.tried.add(server);
        self.left -= 1;
        Some(again)
    }

    /// The request once more, if it is safe (RFC 9110 §9.2.1) and has not been repeated yet.
    fn resend(&mut self) -> Option<Request<RequestBody>> {
        let saved = self.saved.as_ref().filter(|saved| !self.resent && is_safe(saved.method()))?;
        self.resent = true;
        Some(saved.request())
    }
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}
