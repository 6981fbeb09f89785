//! One request of an HTTP/2 connection.

use super::{
    Open, grpc, message,
    passing::{Passing, give_body},
    websocket,
};
use crate::{
    client::{Active, Underway},
    error::ProxyError,
    http1::{Fields, Length, RequestHead, ResponseHead, put_chunk, put_last_chunk, trailers_fit},
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
use h2::{Reason, RecvStream, server::SendResponse};
use http::{Method, Request, StatusCode};
use std::{
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll, ready},
};

/// The client's side of a stream.
pub(super) struct Stream<'a> {
    client: &'a Rc<Client>,
    open: &'a Open,
    recv: RecvStream,
    respond: &'a mut SendResponse<Bytes>,
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
    /// Its body, and whether there is none.
    recv: RecvStream,
    ends: bool,
}

/// A request that is none (RFC 9113 §8.1.1), and why.
pub(super) struct Malformed(pub(super) &'static str);

impl Asked {
    /// Reads a request before its task begins, which would else carry it along. `malformed`: its block has been found to be.
    ///
    /// # Errors
    /// Its stream is to be reset with PROTOCOL_ERROR.
    pub(super) fn read(
        client: &Client,
        request: Request<RecvStream>,
        malformed: bool,
    ) -> Result<Self, Malformed> {
        if malformed {
            return Err(Malformed("a fragment in :path"));
        }
        if message::are_malformed(request.headers()) {
            return Err(Malformed("white space around a field's value"));
        }
        let worker = &client.worker;
        let mut head = worker.request_heads.take(Box::default);
        let ends = request.body().is_end_stream();
        let read = message::read(&request, ends, &worker.routes().head_limits, &mut head);
        let unreadable = read.err().map(|cause| (cause, request.uri().path().into()));
        let websocket = websocket::is_asked_for(&request);
        let grpc = unreadable.is_none() && is_grpc_call(&head);
        Ok(Self { head, unreadable, websocket, grpc, recv: request.into_body(), ends })
    }
}

/// Answers a request. Dropped before its answer has begun, it leaves `respond` to the caller.
pub(super) async fn serve(client: &Rc<Client>, asked: Asked, respond: &mut SendResponse<Bytes>, open: &Open) {
    let Asked { mut head, unreadable, websocket, grpc, recv, ends } = asked;
    let active = Active::new(client);
    match &unreadable {
        None => active.asks(&head),
        Some((_, path)) => active.unread(path.as_bytes()),
    }
    let mut stream = Stream {
        client,
        open,
        recv,
        respond,
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

impl<'a> Stream<'a> {
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
        self.open.connection()
    }

    /// Its two halves, for a tunnel.
    pub(super) fn into_halves(self) -> (RecvStream, &'a mut SendResponse<Bytes>) {
        (self.recv, self.respond)
    }

    /// Passes an answer on to its end.
    pub(super) async fn pass(mut self, request: &RequestHead, answer: Answer, active: &Active<'_>) {
        let Answer { mut head, mut exchange, outgoing } = answer;
        let length = head.length(request.method == Method::HEAD);
        exchange.begin_body(length);
        let response = message::response(&mut head, length, &self.client.worker.date.get());
        let status = head.status;
        active.because(status, || why::of_server(&head));
        active.answered(status);
        self.client.progress.answering(self.client.worker.now());
        let empty = length == Length::Empty;
        let Ok(send) = self.respond.send_response(response, empty) else {
            return active.ended(End::ClientGone);
        };
        let persists = head.persists() && !request.has_odd_body();
        drop(head);
        if empty {
            active.ended(End::Complete);
            return exchange.finish(outgoing.is_sent(), persists);
        }
        let mut passing = Passing::new(exchange, outgoing, persists, send);
        let underway = Underway::new(active, request, status);
        let passed = poll_fn(|cx| passing.poll(cx, &mut self)).await;
        underway.over(passed == Err(Reason::INTERNAL_ERROR));
        active.ended(match passed {
            Ok(()) => End::Complete,
            Err(Reason::INTERNAL_ERROR) => End::ServerBroke,
            Err(_) => End::ClientGone,
        });
        if let Err(reason) = passed {
            passing.reset(reason);
        }
    }

    /// Tells a client of gRPC why its call gets no server. The log and the counters have the status that says so in HTTP.
    fn refuse_call(self, mut local: Local, active: &Active<'_>) {
        let date = self.client.worker.date.get();
        let mut response = message::local_response(&mut local.head, Length::UntilClose, &date);
        *response.status_mut() = StatusCode::OK;
        grpc::put_refusal(&local, response.headers_mut());
        active.answered(local.head.status);
        self.client.progress.uploaded();
        let sent = self.respond.send_response(response, true);
        active.ended(if sent.is_ok() { End::Complete } else { End::ClientGone });
    }

    /// Gives an answer of the web tier's own.
    pub(super) async fn give(self, to_head: bool, local: Local, active: &Active<'_>) {
        let client = self.client;
        active.because(local.head.status, || why::of_local(&local));
        if self.grpc && !local.head.status.is_success() {
            return self.refuse_call(local, active);
        }
        let Local { mut head, mut body, why, kept: _read_to_the_end, .. } = local;
        let length = head.length(to_head);
        let date = client.worker.date.get();
        let response = match why {
            Why::Cached => message::response(&mut head, length, &date),
            _ => message::local_response(&mut head, length, &date),
        };
        active.answered(head.status);
        drop(head);
        client.progress.uploaded();
        client.progress.answering(client.worker.now());
        let empty = length == Length::Empty;
        let Ok(mut send) = self.respond.send_response(response, empty) else {
            return active.ended(End::ClientGone);
        };
        let given = if empty { Ok(()) } else { give_body(client, &mut body, &mut send).await };
        active.ended(match given {
            Ok(()) => End::Complete,
            Err(Reason::INTERNAL_ERROR) => End::ServerBroke,
            Err(_) => End::ClientGone,
        });
        if let Err(reason) = given {
            send.send_reset(reason);
        }
    }
}

impl ClientSide for Stream<'_> {
    fn drop_trailers(&mut self) {
        self.drops_trailers = true;
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, BodyError>> {
        if self.done {
            return Poll::Ready(Ok(true));
        }
        loop {
            let Poll::Ready(data) = self.recv.poll_data(cx) else {
                self.client.progress.read_waits(self.client.worker.now());
                return Poll::Pending;
            };
            let Some(data) = data else {
                let trailers = ready!(self.recv.poll_trailers(cx)).map_err(|_| BodyError::Broken)?;
                if trailers.as_ref().is_some_and(message::are_malformed)
                    || self.open.is_malformed(self.respond.stream_id())
                {
                    self.respond.send_reset(Reason::PROTOCOL_ERROR);
                    return Poll::Ready(Err(BodyError::Broken));
                }
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
            let data = data.map_err(|_| BodyError::Broken)?;
            self.client.body_came(data.len());
            self.received += data.len() as u64;
            if self.received > self.client.worker.routes().body_max {
                return Poll::Ready(Err(BodyError::TooLarge));
            }
            // The client may send as much again.
            let _ = self.recv.flow_control().release_capacity(data.len());
            if self.length == Some(self.received) && !self.recv.is_end_stream() {
                // An empty frame may follow what is held; more than that `h2` refuses.
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
        let response = message::response(head, Length::Empty, b"");
        Poll::Ready(self.respond.send_informational(response).map_err(io::Error::other))
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.respond.poll_reset(cx).map(|_| ())
    }

    fn has_ended(&self) -> bool {
        false
    }
}
