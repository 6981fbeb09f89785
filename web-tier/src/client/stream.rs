//! One request of a connection that has many at a time: HTTP/2 or HTTP/3, which differ in what is below (`sides`).

pub(super) mod head;
pub(super) mod sides;

mod grpc;
mod passing;
mod websocket;

use super::{Active, Underway};
use crate::{
    error::ProxyError,
    http1::{Fields, Length, RequestHead, ResponseHead, Version, put_chunk, put_last_chunk, trailers_fit},
    memory::shelf::Shelved,
    observe::access_log::End,
    proxy::{
        self, Answer, ClientGone, Reply, error_pages,
        error_pages::is_grpc_call,
        local::{Local, Why},
        why,
    },
    upstream::exchange::{BodyError, ClientSide},
    worker::client::Client,
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::ALT_SVC};
use passing::{Passing, give_body};
use sides::{AnswerSide, BodyFault, RequestBody, Reset};
use std::{
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll, ready},
};

/// The client's side of a stream.
pub(super) struct Stream<'a, B, A> {
    client: &'a Rc<Client>,
    /// The number of the connection that it is one of.
    connection: usize,
    body: B,
    to_client: &'a mut A,
    /// The body goes to the server in chunks.
    chunked: bool,
    /// What `Content-Length` says.
    length: Option<u64>,
    received: u64,
    /// The end of a body by its length, while the stream may still bring more: a server is not to take it for the whole then.
    held: Bytes,
    done: bool,
    /// Its trailers go no further.
    drops_trailers: bool,
    /// It is a call in gRPC.
    grpc: bool,
}

/// A request, as it was read.
pub(super) struct Asked {
    head: Shelved<Box<RequestHead>>,
    /// Why it can't be answered, and its path.
    unreadable: Option<(ProxyError, Box<str>)>,
    websocket: bool,
    grpc: bool,
    /// It has no body.
    pub(super) ends: bool,
}

/// A request that is none (RFC 9113 §8.1.1, RFC 9114 §4.1.2), and why.
pub(super) struct Malformed(pub(super) &'static str);

impl Asked {
    /// Reads a request. `ends`: it has no body.
    ///
    /// # Errors
    /// Its stream is to be reset.
    pub(super) fn read<T>(
        client: &Client,
        request: &Request<T>,
        version: Version,
        ends: bool,
    ) -> Result<Self, Malformed> {
        if head::are_malformed(request.headers()) {
            return Err(Malformed("white space around a field's value"));
        }
        let worker = &client.worker;
        let mut head = worker.request_heads.take(Box::default);
        let read = head::read(request, version, ends, &worker.routes().head_limits, &mut head);
        let unreadable = read.err().map(|cause| (cause, request.uri().path().into()));
        let websocket = websocket::is_asked_for(request);
        let grpc = unreadable.is_none() && is_grpc_call(&head);
        Ok(Self { head, unreadable, websocket, grpc, ends })
    }

    /// One of which nothing was read.
    pub(super) fn unreadable(client: &Client, version: Version, cause: ProxyError) -> Self {
        let mut head = client.worker.request_heads.take(Box::default);
        **head = RequestHead { version, ..Default::default() };
        Self { head, unreadable: Some((cause, "".into())), websocket: false, grpc: false, ends: false }
    }
}

/// Answers a request of a `connection`. Dropped before its answer has begun, it leaves that to the caller.
pub(super) async fn serve<B: RequestBody, A: AnswerSide>(
    client: &Rc<Client>,
    asked: Asked,
    body: B,
    to_client: &mut A,
    connection: usize,
) {
    let Asked { mut head, unreadable, websocket, grpc, ends } = asked;
    let active = Active::new(client);
    match &unreadable {
        None => active.asks(&head),
        Some((_, path)) => active.unread(path.as_bytes()),
    }
    let mut stream = Stream {
        client,
        connection,
        body,
        to_client,
        chunked: false,
        length: None,
        received: 0,
        held: Bytes::new(),
        done: ends,
        drops_trailers: false,
        grpc,
    };
    let answer = match unreadable {
        // In a box: few are one, and all would be as large.
        None if websocket => return Box::pin(websocket::serve(stream, &mut head, active)).await,
        None => stream.answer(&mut head).await,
        Some((cause, _)) => Ok(Reply::Local(Local::refusal(client, cause))),
    };
    if let Ok(reply) = &answer {
        active.decided(&head, reply);
    }
    match answer {
        Ok(Reply::Server(answer)) => stream.pass(&head, answer, &active).await,
        Ok(Reply::Local(local)) => stream.give(head.method == Method::HEAD, local, &active).await,
        Err(ClientGone) => active.ended(End::ClientGone),
    }
}

impl<'a, B: RequestBody, A: AnswerSide> Stream<'a, B, A> {
    async fn answer(&mut self, head: &mut RequestHead) -> Result<Reply, ClientGone> {
        if matches!(head.length, Length::Exact(length) if length > self.client.worker.routes().body_max) {
            let refusal = error_pages::refusal(self.client, head, ProxyError::BodyTooLarge);
            return Ok(Reply::Local(refusal));
        }
        self.chunked = head.length == Length::Chunked;
        self.length = if let Length::Exact(length) = head.length { Some(length) } else { None };
        self.client.progress.asked(self.client.worker.now(), !self.done);
        proxy::answer(self.client, head, self).await
    }

    /// Whose stream it is.
    pub(super) fn client(&self) -> &'a Rc<Client> {
        self.client
    }

    /// The number of the connection that it is one of.
    pub(super) fn connection(&self) -> usize {
        self.connection
    }

    /// Its two halves, for a tunnel.
    fn into_halves(self) -> (B, &'a mut A) {
        (self.body, self.to_client)
    }

    /// Says that the client could ask in HTTP/3; where it is spoken, nobody else says where.
    fn announce(&self, response: &mut Response<()>) {
        if let Some(alt_svc) = self.client.alt_svc() {
            response.headers_mut().insert(ALT_SVC, alt_svc.clone());
        } else if self.client.may_speak_http3() {
            response.headers_mut().remove(ALT_SVC);
        }
    }

    /// Waits until all that was sent is in the hands of the connection.
    async fn flush(&mut self) -> Result<(), Reset> {
        poll_fn(|cx| {
            let flushed = self.to_client.poll_flushed(cx);
            if flushed.is_pending() {
                self.client.progress.write_waits();
            }
            flushed
        })
        .await
    }

    /// Passes an answer on to its end.
    pub(super) async fn pass(mut self, request: &RequestHead, answer: Answer, active: &Active<'_>) {
        let Answer { mut head, mut exchange, outgoing } = answer;
        let length = head.length(request.method == Method::HEAD);
        exchange.begin_body(length);
        let mut response = head::response(&mut head, length, &self.client.worker.date.get());
        self.announce(&mut response);
        let status = head.status;
        active.because(status, || why::of_server(&head));
        active.answered(status);
        self.client.progress.answering(self.client.worker.now());
        let empty = length == Length::Empty;
        if self.to_client.begin(response, empty).is_err() {
            return active.ended(End::ClientGone);
        }
        let persists = head.persists() && !request.has_odd_body();
        drop(head);
        if empty {
            exchange.finish(outgoing.is_sent(), persists);
            return active.ended(how_ended(self.flush().await));
        }
        let mut passing = Passing::new(exchange, outgoing, persists);
        let underway = Underway::new(active, request, status);
        let mut passed = poll_fn(|cx| passing.poll(cx, &mut self)).await;
        underway.over(passed == Err(Reset::Internal));
        if passed.is_ok() {
            passed = self.flush().await;
        }
        active.ended(how_ended(passed));
        if let Err(reason) = passed {
            self.to_client.reset(reason);
        }
    }

    /// Tells a client of gRPC why its call gets no server. The log and the counters have the status that says so in HTTP.
    async fn refuse_call(mut self, mut local: Local, active: &Active<'_>) {
        let date = self.client.worker.date.get();
        let mut response = head::local_response(&mut local.head, Length::UntilClose, &date);
        *response.status_mut() = StatusCode::OK;
        grpc::put_refusal(&local, response.headers_mut());
        active.answered(local.head.status);
        self.client.progress.uploaded();
        let mut sent = self.to_client.begin(response, true);
        if sent.is_ok() {
            sent = self.flush().await;
        }
        active.ended(how_ended(sent));
    }

    /// Gives an answer of the web tier's own.
    pub(super) async fn give(mut self, to_head: bool, local: Local, active: &Active<'_>) {
        let client = self.client;
        active.because(local.head.status, || why::of_local(&local));
        if self.grpc && !local.head.status.is_success() {
            return self.refuse_call(local, active).await;
        }
        let Local { mut head, mut body, why, kept: _read_to_the_end, .. } = local;
        let length = head.length(to_head);
        let date = client.worker.date.get();
        let mut response = match why {
            Why::Cached => head::response(&mut head, length, &date),
            _ => head::local_response(&mut head, length, &date),
        };
        self.announce(&mut response);
        active.answered(head.status);
        drop(head);
        client.progress.uploaded();
        client.progress.answering(client.worker.now());
        let empty = length == Length::Empty;
        if self.to_client.begin(response, empty).is_err() {
            return active.ended(End::ClientGone);
        }
        let mut given = if empty { Ok(()) } else { give_body(client, &mut body, self.to_client).await };
        if given.is_ok() {
            given = self.flush().await;
        }
        active.ended(how_ended(given));
        if let Err(reason) = given {
            self.to_client.reset(reason);
        }
    }
}

fn how_ended(sent: Result<(), Reset>) -> End {
    match sent {
        Ok(()) => End::Complete,
        Err(Reset::Internal) => End::ServerBroke,
        Err(_) => End::ClientGone,
    }
}

impl<B: RequestBody, A: AnswerSide> ClientSide for Stream<'_, B, A> {
    fn drop_trailers(&mut self) {
        self.drops_trailers = true;
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, BodyError>> {
        if self.done {
            return Poll::Ready(Ok(true));
        }
        loop {
            let Poll::Ready(data) = self.body.poll_data(cx) else {
                self.client.progress.read_waits(self.client.worker.now());
                return Poll::Pending;
            };
            let Some(data) = data else {
                let trailers = ready!(self.body.poll_trailers(cx)).map_err(|fault| self.broken(fault))?;
                let trailers = trailers.as_ref().and_then(Fields::of_trailers);
                if trailers.as_ref().is_some_and(|it| !trailers_fit(it)) {
                    return Poll::Ready(Err(BodyError::Broken));
                }
                self.done = true;
                self.client.progress.uploaded();
                if self.chunked {
                    put_last_chunk(out, trailers.as_ref().filter(|_| !self.drops_trailers));
                }
                out.extend_from_slice(&std::mem::take(&mut self.held));
                return Poll::Ready(Ok(true));
            };
            let data = data.map_err(|fault| self.broken(fault))?;
            self.client.body_came(data.len());
            self.received += data.len() as u64;
            if self.received > self.client.worker.routes().body_max {
                return Poll::Ready(Err(BodyError::TooLarge));
            }
            self.body.release(data.len());
            if self.length == Some(self.received) && !self.body.is_over() {
                // An empty frame may follow what is held; more than that is refused below.
                self.held = if self.held.is_empty() { data } else { std::mem::take(&mut self.held) };
                continue;
            }
            if self.chunked {
                put_chunk(out, &data);
            } else {
                out.extend_from_slice(&data);
            }
            return Poll::Ready(Ok(false));
        }
    }

    fn poll_inform(&mut self, _: &mut Context<'_>, head: &mut ResponseHead) -> Poll<io::Result<()>> {
        // `100 Continue` too: a window is leave to send, but who has said `Expect: 100-continue` may wait (RFC 9110 §10.1.1).
        let mut response = head::response(head, Length::Empty, b"");
        if self.client.may_speak_http3() {
            response.headers_mut().remove(ALT_SVC);
        }
        let informed = self.to_client.inform(response);
        Poll::Ready(informed.map_err(|_| io::ErrorKind::ConnectionReset.into()))
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.to_client.poll_gone(cx)
    }

    fn has_ended(&self) -> bool {
        false
    }
}

impl<B, A: AnswerSide> Stream<'_, B, A> {
    fn broken(&mut self, fault: BodyFault) -> BodyError {
        if fault == BodyFault::Malformed {
            self.to_client.reset(Reset::Malformed);
        }
        BodyError::Broken
    }
}
