//! One request of an HTTP/2 connection.

use super::{grpc, message, websocket};
use crate::{
    access_log::End,
    buffer::Buffer,
    connection::{Active, Client},
    error::ProxyError,
    exchange::{BodyError, ClientSide, Exchange, Outgoing, SendError},
    http1::{Fields, Length, RequestHead, ResponseHead, put_chunk, put_last_chunk, trailers_fit},
    local::{Local, LocalBody},
    proxy::{self, Answer, ClientGone, Reply},
    shelf::Shelved,
};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, Method, Request, StatusCode};
use std::{
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll, ready},
};

/// The client's side of a stream.
pub(super) struct Stream<'a> {
    client: &'a Rc<Client>,
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

impl Asked {
    /// Reads a request before its task begins, which would else carry it along.
    pub(super) fn read(client: &Client, request: Request<RecvStream>) -> Self {
        let worker = &client.worker;
        let mut head = worker.request_heads.take(Box::default);
        let ends = request.body().is_end_stream();
        let read = message::read(&request, ends, &worker.routes().head_limits, &mut head);
        let unreadable = read.err().map(|cause| (cause, request.uri().path().into()));
        let websocket = websocket::is_asked_for(&request);
        let grpc = unreadable.is_none() && grpc::is_call(&head);
        Self { head, unreadable, websocket, grpc, recv: request.into_body(), ends }
    }
}

/// Answers a request. Dropped before its answer has begun, it leaves `respond` to the caller.
pub(super) async fn serve(client: &Rc<Client>, asked: Asked, respond: &mut SendResponse<Bytes>) {
    let Asked { mut head, unreadable, websocket, grpc, recv, ends } = asked;
    let active = Active::new(client);
    match &unreadable {
        None => active.asks(&head),
        Some((_, path)) => active.unread(path.as_bytes()),
    }
    let mut stream = Stream {
        client,
        recv,
        respond,
        chunked: false,
        length: None,
        received: 0,
        held: Bytes::new(),
        done: ends,
        grpc,
    };
    let answer = match unreadable {
        // In a box: few are one, and all would be as large.
        None if websocket => return Box::pin(websocket::serve(stream, &mut head, active)).await,
        None => stream.answer(&mut head).await,
        Some((cause, _)) => Ok(Reply::Local(Local::refusal(client, cause))),
    };
    match answer {
        Ok(Reply::Server(answer)) => stream.pass(&head, answer, &active).await,
        Ok(Reply::Local(local)) => stream.give(head.method == Method::HEAD, local, &active).await,
        Err(ClientGone) => active.ended(End::ClientGone),
    }
}

impl<'a> Stream<'a> {
    async fn answer(&mut self, head: &mut RequestHead) -> Result<Reply, ClientGone> {
        if matches!(head.length, Length::Exact(length) if length > self.client.worker.routes().body_max) {
            return Ok(Reply::Local(Local::refusal(self.client, ProxyError::BodyTooLarge)));
        }
        self.chunked = head.length == Length::Chunked;
        self.length = if let Length::Exact(length) = head.length { Some(length) } else { None };
        self.client.progress.asked(self.client.worker.now(), !self.done);
        proxy::answer(self.client, head, self).await
    }

    /// For a tunnel: whose stream it is, and its two halves.
    pub(super) fn client(&self) -> &'a Rc<Client> {
        self.client
    }

    pub(super) fn into_halves(self) -> (RecvStream, &'a mut SendResponse<Bytes>) {
        (self.recv, self.respond)
    }

    /// Passes an answer on to its end.
    pub(super) async fn pass(mut self, request: &RequestHead, answer: Answer, active: &Active<'_>) {
        let Answer { mut head, mut exchange, outgoing } = answer;
        let length = head.length(request.method == Method::HEAD);
        exchange.begin_body(length);
        let response = message::response(&mut head, length, &self.client.worker.date.get());
        active.answered(head.status);
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
        let mut passing = Passing {
            exchange: Some(exchange),
            outgoing,
            persists,
            refused: false,
            data: Buffer::default(),
            trailers: None,
            send,
        };
        let passed = poll_fn(|cx| passing.poll(cx, &mut self)).await;
        active.ended(match passed {
            Ok(()) => End::Complete,
            Err(Reason::INTERNAL_ERROR) => End::ServerBroke,
            Err(_) => End::ClientGone,
        });
        if let Err(reason) = passed {
            passing.send.send_reset(reason);
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
        if self.grpc && !local.head.status.is_success() {
            return self.refuse_call(local, active);
        }
        let Local { mut head, mut body, .. } = local;
        let length = head.length(to_head);
        let response = message::local_response(&mut head, length, &client.worker.date.get());
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

/// Sends a body of our own as the client's window allows.
async fn give_body(
    client: &Client,
    body: &mut LocalBody,
    send: &mut SendStream<Bytes>,
) -> Result<(), Reason> {
    while let Some(mut piece) = body.next().await.map_err(|_| Reason::INTERNAL_ERROR)? {
        client.progress.server_moved(client.worker.now());
        client.log.note(|record| record.sent(piece.len()));
        while !piece.is_empty() {
            client.progress.write_waits();
            send.reserve_capacity(piece.len());
            let allowed = poll_fn(|cx| match send.capacity() {
                0 => send.poll_capacity(cx).map(|it| it.is_some_and(|it| it.is_ok())),
                _ => Poll::Ready(true),
            });
            if !allowed.await {
                return Err(Reason::CANCEL);
            }
            let count = piece.len().min(send.capacity());
            client.took(count);
            send.send_data(piece.split_to(count), false).map_err(|_| Reason::CANCEL)?;
        }
    }
    send.send_data(Bytes::new(), true).map_err(|_| Reason::CANCEL)
}

impl ClientSide for Stream<'_> {
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
                let trailers = trailers.as_ref().and_then(Fields::of_trailers);
                if trailers.as_ref().is_some_and(|it| !trailers_fit(it)) {
                    return Poll::Ready(Err(BodyError::Broken));
                }
                self.done = true;
                self.client.progress.uploaded();
                if self.chunked {
                    put_last_chunk(out, trailers.as_ref());
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
        // A client of HTTP/2 waits for no 100: its window is its leave to send.
        if head.status != StatusCode::CONTINUE {
            let response = message::response(head, Length::Empty, b"");
            self.respond.send_informational(response).map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.respond.poll_reset(cx).map(|_| ())
    }

    fn has_ended(&self) -> bool {
        false
    }
}

/// An answer's body on its way to the client.
struct Passing {
    exchange: Option<Box<Exchange>>,
    outgoing: Outgoing,
    persists: bool,
    /// The server takes no more of the request.
    refused: bool,
    data: Buffer,
    trailers: Option<HeaderMap>,
    send: SendStream<Bytes>,
}

impl Passing {
    /// Goes on until both sides wait. The error is what the client's stream is reset with.
    fn poll(&mut self, cx: &mut Context<'_>, stream: &mut Stream<'_>) -> Poll<Result<(), Reason>> {
        if !self.refused
            && !self.outgoing.is_sent()
            && let Some(exchange) = &mut self.exchange
        {
            match exchange.poll_send(cx, &mut self.outgoing, stream) {
                Poll::Ready(Err(SendError::Client(_))) => return Poll::Ready(Err(Reason::CANCEL)),
                Poll::Ready(Err(SendError::Server(_))) => self.refused = true,
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        let client = stream.client;
        loop {
            if !self.data.is_empty() {
                client.progress.write_waits();
                let before = self.data.len();
                ready!(self.poll_data(cx))?;
                client.log.note(|record| record.sent(before - self.data.len()));
                client.took(before - self.data.len());
                if self.exchange.is_none() && self.data.is_empty() && self.trailers.is_none() {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let Some(exchange) = &mut self.exchange else { return Poll::Ready(self.end()) };
            match exchange.poll_body(cx, &mut self.data, false) {
                Poll::Ready(Ok(last)) => {
                    client.progress.server_moved(client.worker.now());
                    if last {
                        self.last();
                    }
                }
                Poll::Ready(Err(cause)) => {
                    tracing::debug!(%cause, "a server broke off in the middle of an answer");
                    exchange.broke(&cause, client.worker.read_clock());
                    return Poll::Ready(Err(Reason::INTERNAL_ERROR));
                }
                Poll::Pending if exchange.lease.is_lost() => {
                    client.worker.counters.upstream_failures.up();
                    return Poll::Ready(Err(Reason::INTERNAL_ERROR));
                }
                Poll::Pending => {
                    return self.send.poll_reset(cx).map(|reason| Err(reason.unwrap_or(Reason::CANCEL)));
                }
            }
        }
    }

    /// Sends what the client's window allows.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        if self.send.capacity() == 0 {
            self.send.reserve_capacity(self.data.len());
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Reason::CANCEL)),
            }
        }
        let count = self.data.len().min(self.send.capacity());
        let piece = Bytes::copy_from_slice(&self.data.bytes()[..count]);
        self.data.consume(count);
        let last = self.exchange.is_none() && self.data.is_empty() && self.trailers.is_none();
        Poll::Ready(self.send.send_data(piece, last).map_err(|_| Reason::CANCEL))
    }

    /// The answer is complete: the socket can serve another request.
    fn last(&mut self) {
        let Some(mut exchange) = self.exchange.take() else { return };
        if let Some(fields) = exchange.take_trailers() {
            let mut map = HeaderMap::new();
            fields.put_into(&mut map);
            self.trailers = Some(map).filter(|map| !map.is_empty());
        }
        exchange.finish(self.outgoing.is_sent(), self.persists);
    }

    fn end(&mut self) -> Result<(), Reason> {
        let ended = match self.trailers.take() {
            Some(trailers) => self.send.send_trailers(trailers),
            None => self.send.send_data(Bytes::new(), true),
        };
        ended.map_err(|_| Reason::CANCEL)
    }
}
