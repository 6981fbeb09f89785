//! HTTP/2 as bytes: frames by hand, and as much of HPACK as it takes to say anything and to read a status (RFC 7541).

use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

/// What a client says first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

/// Error codes (RFC 9113 §7).
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A frame of `HEADERS` with a whole block.
pub(crate) fn headers(stream: u32, ends: bool, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | if ends { END_STREAM } else { 0 }, stream, block)
}

/// A request without a body.
pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, true, &block(&request("GET", path)))
}

/// The pseudo-fields of a request.
pub(crate) fn request<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![(":method", method), (":scheme", "http"), (":authority", "h"), (":path", path)]
}

/// A block of literal fields that are not remembered (RFC 7541 §6.2.2). U+0080 to U+00FF stand for one byte each.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| [vec![0], string(name), string(value)].concat()).collect()
}

/// A string without Huffman's code.
pub(crate) fn string(text: &str) -> Vec<u8> {
    let bytes = super::hostile::wire(text);
    let mut out = Vec::new();
    match u8::try_from(bytes.len()) {
        Ok(short) if short < 127 => out.push(short),
        _ => {
            out.push(127);
            let mut left = bytes.len() - 127;
            while left >= 128 {
                out.push(u8::try_from(left & 127).unwrap() | 128);
                left >>= 7;
            }
            out.push(u8::try_from(left).unwrap());
        }
    }
    out.extend_from_slice(&bytes);
    out
}

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of `RST_STREAM` or `GOAWAY`.
    pub(crate) fn code(&self) -> u32 {
        let place = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[place..place + 4].try_into().unwrap())
    }

    /// The status that a block begins with, of the first such block of a connection or of one with a common status.
    pub(crate) fn status(&self) -> u16 {
        const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
        let first = self.payload[0];
        match first {
            0x88..=0x8e => INDEXED[usize::from(first - 0x88)],
            0x48 | 0x08 | 0x18 if self.payload[1] & 0x80 != 0 => huffman_number(&self.payload[2..]),
            0x48 | 0x08 | 0x18 => std::str::from_utf8(&self.payload[2..5]).unwrap().parse().unwrap(),
            _ => panic!("this block begins with no status: {:?}", self.payload),
        }
    }
}

/// Three digits in Huffman's code: 0 to 2 have five bits, the others six.
fn huffman_number(bytes: &[u8]) -> u16 {
    let padded = bytes.iter().chain(&[0; 4]).take(4);
    let mut bits = padded.fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
    let mut number = 0;
    for _ in 0..3 {
        let (digit, length) = if bits >> 27 <= 2 { (bits >> 27, 5) } else { ((bits >> 26) - 0x19 + 3, 6) };
        number = number * 10 + u16::try_from(digit).unwrap();
        bits <<= length;
    }
    number
}

/// The next frame; `None` at the connection's end, however it comes.
pub(crate) async fn read_frame<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Frame> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let reading = async {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, rest @ ..] = head;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        stream.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(rest), payload })
    };
    timeout(PATIENCE, reading).await.expect("a frame or an end in time")
}

#[test]
fn a_status_is_read_in_each_form() {
    let status =
        |payload: &[u8]| Frame { kind: HEADERS, flags: 0, stream: 1, payload: payload.to_vec() }.status();
    assert_eq!(status(&[0x88]), 200);
    assert_eq!(status(&[0x8c, 1, 2]), 400);
    assert_eq!(status(b"\x48\x03431"), 431);
    // RFC 7541 §C.6.1 and §C.6.2: 302 and 307.
    assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), 302);
    assert_eq!(status(&[0x48, 0x83, 0x64, 0x0e, 0xff]), 307);
    assert_eq!(block(&[("a", "bc")]), b"\0\x01a\x02bc");
    assert_eq!(string(&"a".repeat(300))[..4], [127, 0xad, 0x01, b'a']);
}
