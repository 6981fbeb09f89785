//! A request and its answer in HTTP/2 (RFC 9113 §8): a stream of a connection that others share.

use super::{ANSWER_LIMITS, AnswerError, outgoing::Sink, put};
use crate::{
    http1::{Decoder, Fields, HeadError, Length, ResponseHead},
    memory::buffer::{Buffer, Buffers},
    upstream::{h2c, pool::OpenStream},
};
use bytes::Bytes;
use h2::{RecvStream, SendStream, client::ResponseFuture};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, Scheme},
};
use memchr::{memchr, memmem};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// One of them. Dropped before both sides have said their last, it resets the stream.
#[derive(Debug)]
pub(super) struct StreamExchange {
    open: OpenStream,
    request: Sending,
    answer: Receiving,
    to_head: bool,
    trailers: Option<Fields>,
}

/// The request, of which the bytes come as HTTP/1.1 has them.
#[derive(Debug)]
enum Sending {
    /// Its head has not been sent.
    Unsent,
    Body(SendStream<Bytes>, Decoder),
    Sent,
}

/// The answer.
#[derive(Debug)]
enum Receiving {
    /// Nobody was asked.
    Nothing,
    /// The request can't be said in HTTP/2.
    Unsayable(&'static str),
    Head(ResponseFuture),
    Body(RecvStream),
    Complete,
}

impl Sink for StreamExchange {
    /// The first bytes are the whole head.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.request {
            Sending::Unsent => Poll::Ready(self.send_head(bytes)),
            Sending::Body(stream, body) => {
                let (taken, ended) = ready!(poll_write_body(cx, stream, body, bytes))?;
                if ended {
                    self.request = Sending::Sent;
                }
                Poll::Ready(Ok(taken))
            }
            Sending::Sent => Poll::Ready(Err(io::Error::other("more than the request"))),
        }
    }

    /// The connection sees to that.
    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl StreamExchange {
    pub(super) fn new(open: OpenStream) -> Self {
        let (request, answer) = (Sending::Unsent, Receiving::Nothing);
        Self { open, request, answer, to_head: false, trailers: None }
    }

    /// Whether the connection has served before.
    pub(super) fn reused(&self) -> bool {
        self.open.reused()
    }

    fn send_head(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = memmem::find(bytes, b"\r\n\r\n").ok_or(io::ErrorKind::InvalidInput)? + 4;
        let (request, body) = match request_of(&bytes[..length], self.open.origin()) {
            Ok(it) => it,
            Err(why) => {
                self.answer = Receiving::Unsayable(why);
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
        };
        self.to_head = *request.method() == Method::HEAD;
        let empty = body == Length::Empty;
        let sent = self.open.send(request, empty).inspect_err(|cause| {
            // Not the connection: fields that a rule has set, and that only HTTP/1.1 has.
            if !(cause.is_io() || cause.is_go_away() || cause.is_reset()) {
                self.answer = Receiving::Unsayable("these headers have no place in HTTP/2");
            }
        });
        let (answer, stream) = sent.map_err(io::Error::other)?;
        self.answer = Receiving::Head(answer);
        self.request = if empty { Sending::Sent } else { Sending::Body(stream, Decoder::new(body)) };
        Ok(length)
    }

    /// Reads the head of an answer, interim ones too.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), AnswerError>> {
        let future = match &mut self.answer {
            Receiving::Head(future) => future,
            Receiving::Unsayable(why) => return Poll::Ready(Err(AnswerError::Unsayable(why))),
            Receiving::Nothing | Receiving::Body(_) | Receiving::Complete => return Poll::Pending,
        };
        if let Poll::Ready(Some(interim)) = future.poll_informational(cx) {
            let interim = interim?;
            return Poll::Ready(read_head(interim.status(), interim.headers(), None, head));
        }
        let (parts, body) = ready!(Pin::new(future).poll(cx))?.into_parts();
        let ended = body.is_end_stream();
        self.answer = if ended { Receiving::Complete } else { Receiving::Body(body) };
        // What these say of a length is of an answer to GET that would have a body.
        let is_of_other = self.to_head || parts.status == StatusCode::NOT_MODIFIED;
        let empty = if ended && !is_of_other { Some(0) } else { None };
        Poll::Ready(read_head(parts.status, &parts.headers, empty, head))
    }

    /// The head was the answer's: a body of this length follows.
    pub(super) fn begin_body(&mut self, length: Length) {
        if length == Length::Empty {
            self.answer = Receiving::Complete;
        }
    }

    /// Puts more of the body into `out`, in chunks if `chunked`; whether that was the last of it.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Buffer,
        chunked: bool,
        buffers: &Buffers,
    ) -> Poll<Result<bool, AnswerError>> {
        let mut moved = false;
        loop {
            let body = match &mut self.answer {
                Receiving::Body(body) => body,
                Receiving::Complete => return Poll::Ready(Ok(true)),
                _ => return Poll::Pending,
            };
            match body.poll_data(cx) {
                Poll::Ready(Some(data)) => {
                    let data = data?;
                    put(out.end(buffers), &data, chunked);
                    // The server may send as much again.
                    let _ = body.flow_control().release_capacity(data.len());
                    moved = true;
                    if body.is_end_stream() {
                        self.answer = Receiving::Complete;
                    } else if !out.has_room() {
                        return Poll::Ready(Ok(false));
                    }
                }
                Poll::Ready(None) => {
                    self.trailers = ready!(body.poll_trailers(cx))?.as_ref().and_then(Fields::of_trailers);
                    self.answer = Receiving::Complete;
                }
                Poll::Pending if moved => return Poll::Ready(Ok(false)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Those that came behind the body.
    pub(super) fn take_trailers(&mut self) -> Option<Fields> {
        self.trailers.take()
    }
}

/// Sends what the server's windows allow; how many bytes that was, and whether the request has ended.
fn poll_write_body(
    cx: &mut Context<'_>,
    stream: &mut SendStream<Bytes>,
    body: &mut Decoder,
    bytes: &[u8],
) -> Poll<io::Result<(usize, bool)>> {
    let mut taken = skip_frame(body, bytes)?;
    let ahead = usize::try_from(body.data_ahead()).unwrap_or(usize::MAX).min(bytes.len() - taken);
    if ahead == 0 {
        if body.is_done() {
            end(stream, body, Bytes::new())?;
        }
        return Poll::Ready(Ok((taken, body.is_done())));
    }
    if stream.capacity() == 0 {
        stream.reserve_capacity(ahead);
        match stream.poll_capacity(cx) {
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(cause))) => return Poll::Ready(Err(io::Error::other(cause))),
            Poll::Ready(None) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Poll::Pending if taken > 0 => return Poll::Ready(Ok((taken, false))),
            Poll::Pending => return Poll::Pending,
        }
    }
    let count = ahead.min(stream.capacity());
    let data = &bytes[taken..taken + count];
    taken += body.decode(data, |_| {}).map_err(io::Error::other)?;
    taken += skip_frame(body, &bytes[taken..])?;
    let data = Bytes::copy_from_slice(data);
    if body.is_done() {
        end(stream, body, data)?;
    } else {
        stream.send_data(data, false).map_err(io::Error::other)?;
    }
    Poll::Ready(Ok((taken, body.is_done())))
}

/// Takes what frames the data in HTTP/1.1: it is no data here, and waits for no window.
fn skip_frame(body: &mut Decoder, bytes: &[u8]) -> io::Result<usize> {
    let mut taken = 0;
    while body.data_ahead() == 0 && !body.is_done() && taken < bytes.len() {
        taken += body.decode(&bytes[taken..=taken], |_| {}).map_err(io::Error::other)?;
    }
    Ok(taken)
}

/// Sends the last of the data, and the trailers if there are any.
fn end(stream: &mut SendStream<Bytes>, body: &Decoder, data: Bytes) -> io::Result<()> {
    let Some(trailers) = body.trailers() else {
        return stream.send_data(data, true).map_err(io::Error::other);
    };
    if !data.is_empty() {
        stream.send_data(data, false).map_err(io::Error::other)?;
    }
    let mut map = HeaderMap::new();
    trailers.put_into(&mut map);
    stream.send_trailers(map).map_err(io::Error::other)
}

/// A request of which this is the head that servers of HTTP/1.1 get, and how long its body is. What frames and routes it there is
/// said otherwise here (RFC 9113 §8.2.2, §8.3.1); an upgrade can't be asked for. Without a `Host`, as HTTP/1.0 allows, it is for
/// `server`.
pub(crate) fn request_of(
    head: &[u8],
    (scheme, server): (Scheme, &Authority),
) -> Result<(Request<()>, Length), &'static str> {
    let mut rest = head;
    let mut words = next_line(&mut rest).split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method).map_err(|_| "invalid method")?;
    let (mut length, mut authority) = (Length::Empty, None);
    let fields = request.headers_mut();
    loop {
        let line = next_line(&mut rest);
        let Some(colon) = memchr(b':', line) else { break };
        let (name, value) = (&line[..colon], line.get(colon + 2..).unwrap_or_default());
        let name = HeaderName::from_bytes(name).map_err(|_| "invalid header name")?;
        match name {
            HOST if value.is_empty() => {}
            HOST => {
                authority = Some(Authority::try_from(value).map_err(|_| "this Host has no place in HTTP/2")?);
            }
            TRANSFER_ENCODING => length = Length::Chunked,
            CONNECTION | UPGRADE => {}
            _ => {
                let mut value = HeaderValue::from_bytes(value).map_err(|_| "invalid header value")?;
                // Of each request another one: what is remembered of it takes the room of what comes again.
                value.set_sensitive(matches!(name.as_str(), "x-request-id" | "traceparent"));
                if name == CONTENT_LENGTH {
                    let said = value.to_str().ok().and_then(|text| text.parse().ok());
                    length = said.filter(|said| *said > 0).map_or(Length::Empty, Length::Exact);
                }
                fields.append(name, value);
            }
        }
    }
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(scheme);
    uri.authority = Some(authority.unwrap_or_else(|| server.clone()));
    uri.path_and_query = Some(h2c::target(target).ok_or("this request target has no place in HTTP/2")?);
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| "this request target has no place in HTTP/2")?;
    Ok((request, length))
}

/// Takes a line off, which ends with CRLF; a head of ours has no CR elsewhere.
fn next_line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = memchr(b'\r', rest).unwrap_or(rest.len());
    let line = &rest[..end];
    *rest = rest.get(end + 2..).unwrap_or_default();
    line
}

/// Reads an answer's head; without a length it has as many bytes as `ends` says, or as many as come.
fn read_head(
    status: StatusCode,
    headers: &HeaderMap,
    ends: Option<u64>,
    head: &mut ResponseHead,
) -> Result<(), AnswerError> {
    if headers.len() > ANSWER_LIMITS.count {
        return Err(HeadError::TooLarge.into());
    }
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(AnswerError::Http2("a change of protocols (RFC 9113 §8.6)"));
    }
    let fields =
        headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes().trim_ascii()));
    Ok(head.take(status, fields, ends)?)
}
