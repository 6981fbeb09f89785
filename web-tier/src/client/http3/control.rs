//! What a client sends on streams of one direction (RFC 9114 §6.2): its control stream, those of QPACK, and what nobody knows.

use super::{
    Connection,
    frame::{
        CANCEL_PUSH, CONTROL, Code, DATA, FrameHead, GOAWAY, HEADERS, MAX_PUSH_ID, PUSH, PUSH_PROMISE,
        QPACK_DECODER, QPACK_ENCODER, SETTINGS, is_of_http2, number,
    },
};
use bytes::{Buf, Bytes};
use quinn::{ReadError, RecvStream};
use std::{
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
};

/// The longest SETTINGS, and other frames of the control stream that are read.
const FRAME_MAX: u64 = 1024;

/// What a frame, an instruction of QPACK, or a stream of a type that nobody knows costs.
const FRAME: u64 = 1;
const STREAM: u64 = 4;

/// How much is read at a time.
const READ: usize = 4096;

/// Why the connection ends.
type Fault = (Code, &'static str);

/// Reads what the client says on such streams until the connection ends.
pub(super) async fn listen(connection: Rc<Connection>) {
    let mut streams = Streams::default();
    loop {
        let mut coming = pin!(connection.quic.accept_uni());
        let event = poll_fn(|cx| {
            if let Poll::Ready(accepted) = coming.as_mut().poll(cx) {
                return Poll::Ready(accepted.map_err(|_| None));
            }
            match streams.poll(cx, &connection) {
                Poll::Ready(fault) => Poll::Ready(Err(Some(fault))),
                Poll::Pending => Poll::Pending,
            }
        });
        match event.await {
            Ok(stream) => streams.list.push(Stream::new(stream)),
            Err(Some((code, why))) => return connection.close(code, why),
            Err(None) => return,
        }
    }
}

/// Those that are open. QUIC bounds how many.
#[derive(Default)]
struct Streams {
    list: Vec<Stream>,
    /// Which of the types that may be there once have been.
    seen: [bool; 4],
    settings: bool,
    push_max: u64,
}

/// One of them.
struct Stream {
    recv: RecvStream,
    /// Read and not yet looked at: the rest of something that is not complete.
    input: Vec<u8>,
    kind: Option<u64>,
    head: FrameHead,
    /// The frame that has begun, and how much of it is still to come; `None` between frames.
    frame: Option<(u64, u64)>,
}

/// How a stream goes on.
enum Outcome {
    More,
    /// It is of no interest.
    Drop,
}

impl Stream {
    fn new(recv: RecvStream) -> Self {
        Self { recv, input: Vec::new(), kind: None, head: FrameHead::default(), frame: None }
    }

    /// More of it; `None` at its end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> {
        let read = pin!(self.recv.read_chunk(READ, true)).poll(cx)?;
        read.map(|chunk| Ok(chunk.map(|it| it.bytes)))
    }
}

impl Streams {
    /// Reads all that is there. Ready when the connection is to end.
    fn poll(&mut self, cx: &mut Context<'_>, connection: &Connection) -> Poll<Fault> {
        let mut list = std::mem::take(&mut self.list);
        let mut fault = None;
        list.retain_mut(|stream| match self.poll_stream(cx, stream, connection) {
            Ok(Outcome::More) => true,
            Ok(Outcome::Drop) => {
                let _ = stream.recv.stop(Code::StreamCreation.into());
                false
            }
            Err(cause) => {
                fault = Some(cause);
                true
            }
        });
        self.list = list;
        fault.map_or(Poll::Pending, Poll::Ready)
    }

    fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        connection: &Connection,
    ) -> Result<Outcome, Fault> {
        while let Poll::Ready(read) = stream.poll_read(cx) {
            let mut bytes = match read {
                Ok(Some(bytes)) => bytes,
                // Of the connection's end others hear too.
                Err(ReadError::ConnectionLost(_)) => return Ok(Outcome::Drop),
                Ok(None) | Err(_) => {
                    return match stream.kind {
                        Some(CONTROL | QPACK_ENCODER | QPACK_DECODER) => {
                            Err((Code::ClosedCriticalStream, "a stream that must not end has ended"))
                        }
                        _ => Ok(Outcome::Drop),
                    };
                }
            };
            if stream.kind.is_none() {
                stream.input.extend_from_slice(&bytes);
                let Some((kind, length)) = number(&stream.input) else { continue };
                bytes = Bytes::from(std::mem::take(&mut stream.input).split_off(length));
                stream.kind = Some(kind);
                if !self.begins(kind)? {
                    connection.spend(STREAM);
                    return Ok(Outcome::Drop);
                }
            }
            match stream.kind {
                Some(CONTROL) => self.control(stream, bytes, connection)?,
                Some(QPACK_ENCODER) => encoder(&bytes, connection)?,
                Some(QPACK_DECODER) => decoder(stream, &bytes, connection)?,
                _ => {}
            }
        }
        Ok(Outcome::More)
    }

    /// Whether a stream of this type is listened to.
    fn begins(&mut self, kind: u64) -> Result<bool, Fault> {
        let place = match kind {
            CONTROL | QPACK_ENCODER | QPACK_DECODER => kind as usize,
            PUSH => return Err((Code::StreamCreation, "a push of a client's")),
            _ => return Ok(false),
        };
        if std::mem::replace(&mut self.seen[place], true) {
            return Err((Code::StreamCreation, "a second stream of a type that is there once"));
        }
        Ok(true)
    }

    fn control(
        &mut self,
        stream: &mut Stream,
        mut bytes: Bytes,
        connection: &Connection,
    ) -> Result<(), Fault> {
        loop {
            let Some((kind, left)) = stream.frame else {
                let (taken, head) = stream.head.take(&bytes);
                bytes.advance(taken);
                let Some((kind, length)) = head else { return Ok(()) };
                connection.spend(FRAME);
                self.may_begin(kind, length)?;
                stream.frame = Some((kind, length));
                stream.input.clear();
                continue;
            };
            let piece = bytes.split_to(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            if is_read(kind) {
                stream.input.extend_from_slice(&piece);
            }
            let left = left - piece.len() as u64;
            if left > 0 {
                stream.frame = Some((kind, left));
                return Ok(());
            }
            stream.frame = None;
            self.complete(kind, &std::mem::take(&mut stream.input))?;
        }
    }

    fn may_begin(&mut self, kind: u64, length: u64) -> Result<(), Fault> {
        let first = !std::mem::replace(&mut self.settings, true);
        match kind {
            SETTINGS if !first => Err((Code::FrameUnexpected, "SETTINGS a second time")),
            _ if first && kind != SETTINGS => Err((Code::MissingSettings, "no SETTINGS")),
            DATA | HEADERS | PUSH_PROMISE => {
                Err((Code::FrameUnexpected, "a frame of requests on the control stream"))
            }
            kind if is_of_http2(kind) => Err((Code::FrameUnexpected, "a frame of HTTP/2")),
            kind if is_read(kind) && length > FRAME_MAX => {
                Err((Code::ExcessiveLoad, "a frame that is too long"))
            }
            _ => Ok(()),
        }
    }

    fn complete(&mut self, kind: u64, payload: &[u8]) -> Result<(), Fault> {
        match kind {
            SETTINGS => check_settings(payload),
            MAX_PUSH_ID => {
                let max = only_number(payload)?;
                if max < self.push_max {
                    return Err((Code::Id, "a MAX_PUSH_ID that takes something back"));
                }
                self.push_max = max;
                Ok(())
            }
            CANCEL_PUSH => {
                only_number(payload)?;
                Err((Code::Id, "a CANCEL_PUSH of what was never promised"))
            }
            // That it takes no more pushes.
            GOAWAY => only_number(payload).map(|_| ()),
            _ => Ok(()),
        }
    }
}

/// Whether what is in such a frame matters.
fn is_read(kind: u64) -> bool {
    matches!(kind, SETTINGS | MAX_PUSH_ID | CANCEL_PUSH | GOAWAY)
}

fn only_number(payload: &[u8]) -> Result<u64, Fault> {
    match number(payload) {
        Some((value, length)) if length == payload.len() => Ok(value),
        _ => Err((Code::Frame, "a frame that holds one number does not")),
    }
}

/// None of a client's settings changes what is sent to it; they are to be valid (RFC 9114 §7.2.4).
fn check_settings(mut payload: &[u8]) -> Result<(), Fault> {
    let mut seen = Vec::new();
    while !payload.is_empty() {
        let entry = number(payload).and_then(|(id, length)| {
            let (_, more) = number(&payload[length..])?;
            Some((id, length + more))
        });
        let Some((id, length)) = entry else { return Err((Code::Frame, "SETTINGS that break off")) };
        payload = &payload[length..];
        if (0x2..=0x5).contains(&id) {
            return Err((Code::Settings, "a setting of HTTP/2"));
        }
        if seen.contains(&id) {
            return Err((Code::Settings, "a setting twice"));
        }
        seen.push(id);
    }
    Ok(())
}

/// Without a dynamic table there is one instruction that an encoder may give: that the table is to have no room (RFC 9204 §4.3.1).
fn encoder(bytes: &[u8], connection: &Connection) -> Result<(), Fault> {
    connection.spend(FRAME * bytes.len() as u64);
    if bytes.iter().all(|byte| *byte == 0x20) {
        return Ok(());
    }
    Err((Code::QpackEncoderStream, "an instruction for a dynamic table that is not there"))
}

/// And one of a decoder: that it does not read a stream any more (RFC 9204 §4.4.2).
fn decoder(stream: &mut Stream, bytes: &[u8], connection: &Connection) -> Result<(), Fault> {
    // `frame` is there while a number goes on.
    for byte in bytes {
        if stream.frame.is_none() {
            connection.spend(FRAME);
            if byte >> 6 != 0b01 {
                return Err((
                    Code::QpackDecoderStream,
                    "an instruction for a dynamic table that is not there",
                ));
            }
        }
        let goes_on = match stream.frame {
            None => byte & 0x3f == 0x3f,
            Some(_) => byte & 0x80 != 0,
        };
        stream.frame = goes_on.then_some((0, stream.frame.map_or(0, |(_, count)| count) + 1));
        if stream.frame.is_some_and(|(_, count)| count > 10) {
            return Err((Code::QpackDecoderStream, "a number that is too long"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(payload: &[u8]) -> Result<(), Code> {
        check_settings(payload).map_err(|(code, _)| code)
    }

    #[test]
    fn settings_are_valid_or_not() {
        assert_eq!(check(b""), Ok(()));
        assert_eq!(check(&[0x1, 0x0, 0x7, 0x10, 0x6, 0x44, 0x00, 0x40, 0x52, 0x5]), Ok(()));
        assert_eq!(check(&[0x1, 0x0, 0x1, 0x0]), Err(Code::Settings));
        assert_eq!(check(&[0x3, 0x0]), Err(Code::Settings));
        for cut in [&[0x1][..], &[0x40], &[0x6, 0x44]] {
            assert_eq!(check(cut), Err(Code::Frame));
        }
    }
}
