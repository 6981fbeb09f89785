//! A client's side in HTTP/1.1: one request after another is read, answered, and counted.

mod end;
mod side;

use super::{
    Active, Client, Underway,
    passing::{Passed, Passing},
};
use crate::{
    error::ProxyError,
    http1::{Decoder, Length, RequestHead, ResponseHead, Version, put_chunk, put_last_chunk},
    memory::{
        buffer::{Buffer, SIZE},
        shelf::Shelved,
    },
    observe::access_log::End,
    proxy::{
        self, Answer, ClientGone, Reply, error_pages,
        forward::{Framing, ToClient, put_response},
        local::{Local, LocalBody, Why},
        tunnel, why,
    },
    transport::stream::{ClientStream, Rewound},
    upstream::exchange::Exchange,
};
use http::{Method, StatusCode};
use memchr::memchr;
use static_files::PIECE;
use std::{
    future::poll_fn,
    io,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
};

/// What a client of HTTP/2 says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A body that is in memory already, and longer than this, is not copied before it is written.
const DIRECT_MIN: usize = SIZE;

/// What becomes of a connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It serves another one.
    Next,
    /// It closes.
    Close,
    /// It closes when the client has stopped sending: a socket that is closed with unread bytes is reset by the kernel, and the
    /// client may never see the answer.
    Linger,
    /// It closes without a word: what the client has is not the whole.
    Cut,
    /// It goes on in HTTP/2.
    Http2,
    /// It is reset: an answer without a length would look complete to the client.
    Reset,
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Http1 {
    pub(super) client: Rc<Client>,
    stream: ClientStream,
    /// HTTP/2 is spoken here too.
    h2c: bool,
    input: Buffer,
    pub(super) output: Buffer,
    /// How many requests there have been; past what fits, as many.
    requests: u32,
    /// Of the present request.
    body: Decoder,
    /// How much of the body has come, in bytes on the connection.
    received: u64,
    chunked: bool,
    version: Version,
    /// The request's method is `HEAD`.
    to_head: bool,
    /// An interim answer is in `output`.
    informing: bool,
    /// The client has sent its last byte.
    ended: bool,
}

impl Http1 {
    pub(crate) fn new(client: Rc<Client>, stream: ClientStream, h2c: bool) -> Self {
        Self {
            client,
            stream,
            h2c,
            input: Buffer::default(),
            output: Buffer::default(),
            requests: 0,
            body: Decoder::default(),
            received: 0,
            chunked: false,
            version: Version::Http11,
            to_head: false,
            informing: false,
            ended: false,
        }
    }

    /// Serves requests until the connection is to end.
    pub(crate) async fn run(&mut self) -> After {
        loop {
            if self.input.is_empty() && !self.wait().await {
                return After::Close;
            }
            if self.h2c {
                match self.begins_http2() {
                    Some(true) => return After::Http2,
                    Some(false) => self.h2c = false,
                    None => {
                        if !self.wait_more().await {
                            return After::Close;
                        }
                        continue;
                    }
                }
            }
            // Boxed: the state of a request would make every idle connection larger.
            match Box::pin(self.serve_one()).await {
                After::Next => {}
                end => return end,
            }
        }
    }

    /// Waits for a request's first bytes, holding no buffer; false when there will be none.
    fn wait(&mut self) -> impl Future<Output = bool> {
        self.input.release();
        self.output.release();
        poll_fn(move |cx| {
            if self.client.worker.connections.closing() {
                return Poll::Ready(false);
            }
            let filled = self.input.poll_fill(cx, &mut self.stream, &self.client.worker.buffers);
            filled.map(|count| count.is_ok_and(|count| count > 0))
        })
    }

    /// Whether the client's first bytes are the preface of HTTP/2 (RFC 9113 §3.4); `None` while they could become it.
    fn begins_http2(&self) -> Option<bool> {
        let common = self.input.len().min(PREFACE.len());
        if self.input.bytes()[..common] != PREFACE[..common] {
            return Some(false);
        }
        (common == PREFACE.len()).then_some(true)
    }

    /// Reads more of the client's first bytes.
    fn wait_more(&mut self) -> impl Future<Output = bool> {
        poll_fn(move |cx| {
            let filled = self.input.poll_fill(cx, &mut self.stream, &self.client.worker.buffers);
            filled.map(|count| count.is_ok_and(|count| count > 0))
        })
    }

    /// The connection from its first byte, for another protocol.
    pub(super) fn into_stream(self) -> Rewound<ClientStream> {
        Rewound::new(self.input.bytes().to_vec(), self.stream)
    }

    async fn serve_one(&mut self) -> After {
        let client = self.client.clone();
        let mut head = client.worker.request_heads.take(Box::default);
        match self.read_head(&mut head).await {
            Ok(true) => {}
            Ok(false) => return After::Close,
            Err(cause) => {
                self.begin(Length::Empty);
                // Not as the request before it.
                (self.version, self.to_head) = (Version::Http11, false);
                let active = Active::new(&client);
                active.unread(self.input.bytes());
                return self.give(Local::refusal(&client, cause), false, active).await;
            }
        }
        self.begin(head.length);
        self.version = head.version;
        self.to_head = head.method == Method::HEAD;
        let active = Active::new(&client);
        active.asks(&head);
        if matches!(head.length, Length::Exact(length) if length > client.worker.routes().body_max) {
            let refusal = error_pages::refusal(&client, &head, ProxyError::BodyTooLarge);
            return self.give(refusal, false, active).await;
        }
        let reply = proxy::answer(&client, &mut head, self).await;
        if let Ok(reply) = &reply {
            active.decided(&head, reply);
        }
        match reply {
            Ok(Reply::Server(answer)) => self.pass(&head, answer, active).await,
            Ok(Reply::Local(local)) => self.give(local, head.persists(), active).await,
            Err(ClientGone) => {
                active.ended(End::ClientGone);
                After::Cut
            }
        }
    }

    /// Reads a request's head; false when the connection ended.
    async fn read_head(&mut self, head: &mut RequestHead) -> Result<bool, ProxyError> {
        let worker = &self.client.worker;
        if !self.input.is_empty() {
            self.client.progress.read(worker.now());
        }
        let mut fresh = !self.input.is_empty();
        loop {
            if fresh && let Some(length) = head.parse(self.input.bytes(), &worker.routes().head_limits)? {
                self.input.consume(length);
                return Ok(true);
            }
            let filled = poll_fn(|cx| {
                let filled = self.input.poll_fill(cx, &mut self.stream, &worker.buffers);
                if filled.is_pending() && self.input.is_empty() && worker.connections.closing() {
                    return Poll::Ready(Ok(0));
                }
                filled
            });
            let count = filled.await.unwrap_or(0);
            if count == 0 {
                return Ok(false);
            }
            self.client.progress.read(worker.now());
            // Nothing can have changed without the end of a line, or of the room: to look at each byte of a long head anew would
            // cost its square.
            let (input, limits) = (self.input.bytes(), worker.routes().head_limits);
            fresh = input[input.len() - count..].contains(&b'\n')
                || input.len() >= limits.bytes
                || (input.len() > limits.target && memchr(b'\n', input).is_none());
        }
    }

    /// Whether the connection may serve another request after this one.
    fn may_go_on(&self) -> bool {
        let worker = &self.client.worker;
        !self.client.ends_soon() && u64::from(self.requests) < worker.routes().keepalive_max
    }

    fn begin(&mut self, length: Length) {
        self.body = Decoder::new(length);
        self.received = 0;
        self.requests = self.requests.saturating_add(1);
        self.chunked = length == Length::Chunked;
        self.client.progress.asked(self.client.worker.now(), length != Length::Empty);
    }

    /// Passes an answer on to its end.
    async fn pass(&mut self, request: &RequestHead, answer: Answer, active: Active<'_>) -> After {
        let Answer { mut head, mut exchange, outgoing } = answer;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(head, exchange, active).await;
        }
        let length = head.length(self.to_head);
        let framing = match length {
            Length::Empty => Framing::None,
            Length::Exact(length) => Framing::Exact(length),
            _ if self.version == Version::Http10 => Framing::Close,
            Length::Chunked | Length::UntilClose => Framing::Chunked,
        };
        exchange.begin_body(length);
        let persists = request.persists() && framing != Framing::Close && self.may_go_on();
        self.put_head(&mut head, framing, persists, false);
        let status = head.status;
        active.because(status, || why::of_server(&head));
        active.answered(status);
        self.client.progress.answering(self.client.worker.now());
        let server_persists = head.persists() && !request.has_odd_body();
        drop(head);
        let mut passing = Passing::new(exchange, outgoing, framing, server_persists);
        let underway = Underway::new(&active, request, status);
        let passed = poll_fn(|cx| passing.poll(cx, self)).await;
        underway.over(matches!(passed, Passed::Broken));
        active.ended(match passed {
            Passed::Whole => End::Complete,
            Passed::ClientGone => End::ClientGone,
            Passed::Broken => End::ServerBroke,
        });
        self.after(passed, persists, framing)
    }

    fn after(&mut self, passed: Passed, persists: bool, framing: Framing) -> After {
        let client = &self.client;
        client.progress.answered(client.worker.now());
        match passed {
            Passed::Whole if !self.body.is_done() => After::Linger,
            Passed::Whole if persists => After::Next,
            Passed::Whole if !self.input.is_empty() => After::Linger,
            Passed::Broken if framing == Framing::Close => After::Reset,
            Passed::Whole => After::Close,
            Passed::ClientGone | Passed::Broken => After::Cut,
        }
    }

    fn put_head(&mut self, head: &mut ResponseHead, framing: Framing, persists: bool, local: bool) {
        let worker = &self.client.worker;
        let to = ToClient {
            framing,
            local,
            close: !persists,
            keep_alive: self.version == Version::Http10,
            alt_svc: self.client.alt_svc(),
            date: &worker.date.get(),
        };
        let before = self.output.len();
        put_response(self.output.end(&worker.buffers), head, to);
        self.client.log.note(|record| record.head_put(self.output.len() - before));
    }

    /// Gives an answer of the web tier's own.
    async fn give(&mut self, local: Local, persists: bool, active: Active<'_>) -> After {
        active.because(local.head.status, || why::of_local(&local));
        let Local { mut head, mut body, ends_connection, why, kept: _read_to_the_end } = local;
        // A request's body that is here already does not stand in the way of the next request.
        let drained = self.body.decode(self.input.bytes(), |_| {});
        self.input.consume(drained.unwrap_or(0));
        let persists =
            persists && drained.is_ok() && self.body.is_done() && !ends_connection && self.may_go_on();
        let framing = match head.length(self.to_head) {
            Length::Exact(length) => Framing::Exact(length),
            Length::Empty => Framing::None,
            _ if self.version == Version::Http10 => Framing::Close,
            _ => Framing::Chunked,
        };
        let persists = persists && framing != Framing::Close;
        self.put_head(&mut head, framing, persists, why != Why::Cached);
        active.answered(head.status);
        drop(head);
        let progress = &self.client.progress;
        progress.uploaded();
        progress.answering(self.client.worker.now());
        let chunked = framing == Framing::Chunked;
        let given = if framing == Framing::None { Ok(()) } else { self.give_body(&mut body, chunked).await };
        let given = match given {
            Ok(()) => poll_fn(|cx| self.poll_write(cx)).await,
            Err(cause) => Err(cause),
        };
        self.client.progress.answered(self.client.worker.now());
        active.ended(if given.is_ok() { End::Complete } else { End::ClientGone });
        match given {
            Err(_) => After::Cut,
            Ok(()) if persists => After::Next,
            Ok(()) => After::Linger,
        }
    }

    async fn give_body(&mut self, body: &mut LocalBody, chunked: bool) -> io::Result<()> {
        loop {
            let mut next = pin!(body.next(PIECE));
            // What is there leaves before the rest is waited for.
            let piece = match poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await {
                Poll::Ready(Ok(piece)) => piece,
                Poll::Ready(Err(cause)) => {
                    poll_fn(|cx| self.poll_write(cx)).await?;
                    return Err(cause);
                }
                Poll::Pending => {
                    poll_fn(|cx| self.poll_write(cx)).await?;
                    next.await?
                }
            };
            let Some(piece) = piece else { break };
            self.client.progress.server_moved(self.client.worker.now());
            if piece.len() > DIRECT_MIN && !chunked {
                // With the head before it: a packet of its own would wake the client for nothing.
                let mut rest = &piece[..];
                poll_fn(|cx| self.poll_write_with(cx, &mut rest)).await?;
                continue;
            }
            for part in piece.chunks(SIZE) {
                // A small body leaves with its head.
                if self.output.len() + part.len() > SIZE {
                    poll_fn(|cx| self.poll_write(cx)).await?;
                }
                let out = self.output.end(&self.client.worker.buffers);
                if chunked { put_chunk(out, part) } else { out.extend_from_slice(part) }
            }
        }
        if chunked {
            put_last_chunk(self.output.end(&self.client.worker.buffers), None);
        }
        Ok(())
    }

    /// The server agrees to change protocols: from here on only bytes are passed.
    async fn switch(
        &mut self,
        mut head: Shelved<Box<ResponseHead>>,
        exchange: Box<Exchange>,
        active: Active<'_>,
    ) -> After {
        self.put_head(&mut head, Framing::None, true, false);
        active.answered(head.status);
        drop(head);
        if poll_fn(|cx| self.poll_write(cx)).await.is_ok()
            && let Some((socket, from_server, lease)) = exchange.into_parts()
        {
            self.client.progress.tunnelling(self.client.worker.now());
            let input = std::mem::take(&mut self.input);
            tunnel::run(&self.client, (&mut self.stream, input), (socket, from_server), &lease).await;
            active.ended(End::Complete);
        }
        After::Close
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_with(cx, &mut &[][..])
    }

    /// Writes `rest` behind what is to leave, from where it is.
    fn poll_write_with(&mut self, cx: &mut Context<'_>, rest: &mut &[u8]) -> Poll<io::Result<()>> {
        let before = self.output.len() + rest.len();
        let written = self.output.poll_drain_with(cx, &mut self.stream, rest);
        let sent = before - self.output.len() - rest.len();
        self.client.log.note(|record| record.sent(sent));
        // Of what there is a slow client takes a part at a time.
        if sent > 0 || written.is_ready() {
            self.client.took(sent);
        }
        if written.is_pending() {
            self.client.progress.write_waits();
        }
        written
    }
}
