//! A client that writes frames of its own.

use super::{
    client::{PATIENCE, dial},
    site::HOST,
};
use quinn::{ConnectionError, Endpoint, ReadToEndError, RecvStream, SendStream, VarInt};
use rustls::pki_types::CertificateDer;
use std::net::SocketAddr;
use tokio::time::timeout;

/// A connection without a word of HTTP/3 on it but SETTINGS.
pub(super) struct Raw {
    pub(super) quic: quinn::Connection,
    pub(super) control: SendStream,
    _endpoint: Endpoint,
}

/// What came of a request or a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Status(u16),
    /// The stream was reset with this code.
    Reset(u64),
    /// The connection was closed with it.
    Closed(u64),
}

impl Raw {
    pub(super) async fn connect(to: SocketAddr, certificate: &CertificateDer<'static>) -> Self {
        let mut it = Self::bare(to, certificate).await;
        it.control.write_all(&[&[0][..], &frame(4, &[])].concat()).await.unwrap();
        it
    }

    /// With nothing on its control stream.
    pub(super) async fn bare(to: SocketAddr, certificate: &CertificateDer<'static>) -> Self {
        let (endpoint, quic) = dial(to, certificate).await.unwrap();
        let control = quic.open_uni().await.unwrap();
        let it = Self { quic, control, _endpoint: endpoint };
        // Once it is answered the handshake is confirmed: until then QUIC may not tell codes of HTTP/3 (RFC 9000 §10.2.3).
        let get = [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/%00")];
        assert_eq!(it.sends(&frame(1, &section(&get))).await, Outcome::Status(400));
        it
    }

    /// Begins a request with these fields.
    pub(super) async fn open(&self, fields: &[(&str, &str)]) -> (SendStream, RecvStream) {
        let (mut send, recv) = timeout(PATIENCE, self.quic.open_bi()).await.unwrap().unwrap();
        send.write_all(&frame(1, &section(fields))).await.unwrap();
        (send, recv)
    }

    /// What comes of a stream with these bytes.
    pub(super) async fn sends(&self, bytes: &[u8]) -> Outcome {
        let (mut send, recv) = timeout(PATIENCE, self.quic.open_bi()).await.unwrap().unwrap();
        // It may be reset before all is sent.
        let _ = send.write_all(bytes).await;
        let _ = send.finish();
        self.outcome(recv).await
    }

    pub(super) async fn outcome(&self, mut recv: RecvStream) -> Outcome {
        match timeout(PATIENCE, recv.read_to_end(1 << 20)).await.expect("an outcome in time") {
            Ok(answer) => Outcome::Status(status(&answer)),
            Err(ReadToEndError::Read(quinn::ReadError::Reset(code))) => Outcome::Reset(code.into_inner()),
            Err(_) => self.closed().await,
        }
    }

    /// Why the connection ends.
    pub(super) async fn closed(&self) -> Outcome {
        match timeout(PATIENCE, self.quic.closed()).await.expect("an end in time") {
            ConnectionError::ApplicationClosed(close) => {
                Outcome::Closed(VarInt::into_inner(close.error_code))
            }
            other => panic!("{other}"),
        }
    }
}

/// The number of an answer's status, by the static table.
fn status(answer: &[u8]) -> u16 {
    // The head of the frame, and of the section.
    let length = if answer[1] < 64 { 2 } else { 3 };
    let section = &answer[length + 2..];
    match section {
        [0b1101_1001, ..] => 200,
        [0b1111_1111, rest, ..] => [100, 204, 206, 302, 400, 403, 421, 425, 500][usize::from(*rest)],
        [0b1101_1011, ..] => 404,
        [0b1101_1100, ..] => 503,
        // By its name, with a value.
        [0b0101_1111, 9, 3, value @ ..] => std::str::from_utf8(&value[..3]).unwrap().parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A frame.
pub(super) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap() | 0x8000_0000;
    [&[kind][..], &length.to_be_bytes(), payload].concat()
}

/// A section whose fields are all spelt out.
pub(super) fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = vec![0, 0];
    let mut number = |first: u8, bits: u32, length: usize, text: &str| {
        let mask = (1 << bits) - 1;
        if length < mask {
            out.push(first | u8::try_from(length).unwrap());
        } else {
            out.push(first | u8::try_from(mask).unwrap());
            let mut rest = length - mask;
            while rest > 127 {
                out.push(u8::try_from(rest & 127).unwrap() | 128);
                rest >>= 7;
            }
            out.push(u8::try_from(rest).unwrap());
        }
        out.extend_from_slice(text.as_bytes());
    };
    for (name, value) in fields {
        number(0x20, 3, name.len(), name);
        number(0, 7, value.len(), value);
    }
    out
}
