//! What must hold of any bytes that come from a network: tried by tests with mutations of valid messages, and by the fuzz targets in
//! `web-tier/fuzz`. Each panics if it does not hold, and says whether the input was taken for a message.

use crate::{
    http1::{
        ChunkError, Decoder, Fields, HeadError, HeadLimits, Length, Name, RequestHead, ResponseHead,
        put_chunk, put_last_chunk,
    },
    proxy::forward::{Trace, Via, put_request},
    route::{normalise::normalise_request, session_url::InUrl},
    upstream::exchange::request_in_http2,
};
use http::{
    Method,
    uri::{Authority, PathAndQuery, Scheme},
};

/// Small, so that mutations reach them.
pub(crate) const LIMITS: HeadLimits = HeadLimits { count: 8, bytes: 400, target: 100 };

/// Of a request's head.
pub fn request(bytes: &[u8]) -> bool {
    let mut head = RequestHead::default();
    let read = head.parse(bytes, &LIMITS);
    prefixes(bytes, read, |start| RequestHead::default().parse(start, &LIMITS));
    let Ok(Some(length)) = read else { return false };
    assert!(length <= LIMITS.bytes + 2, "a head of {length} bytes is over the limit");
    assert!(head.target.len() <= LIMITS.target && head.target.bytes().all(|it| it.is_ascii_graphic()));
    assert!(head.path().starts_with('/') || head.path() == "*", "{:?}", head.path());
    assert!(head.length != Length::UntilClose, "a request does not end with its connection");
    fields(&head.fields);
    // A head that has served before reads the same.
    let mut used = RequestHead::default();
    let _ =
        used.parse(b"POST http://x/y?z HTTP/1.0\r\nContent-Length: 7\r\nConnection: close\r\n\r\n", &LIMITS);
    assert_eq!(used.parse(bytes, &LIMITS), read);
    assert_eq!(format!("{used:?}"), format!("{head:?}"));
    true
}

/// Of a request's way from a client to a server: what a server gets is what was decided upon, in HTTP/1.1 and in HTTP/2, and nothing
/// that one of the two could read otherwise.
pub fn way(bytes: &[u8]) -> bool {
    let mut head = RequestHead::default();
    let Ok(Some(_)) = head.parse(bytes, &LIMITS) else { return false };
    if normalise_request(&mut head, |_| true).is_err() {
        return false;
    }
    let (path, query) = (head.path().to_owned(), head.query().map(str::to_owned));
    if let Ok(Some(in_url)) = InUrl::of(&head, |_| true) {
        assert!(in_url.path.starts_with('/') && !in_url.path.contains(";jsessionid="), "{in_url:?}");
    }
    let mut sent = Vec::new();
    let via = Via {
        port: 80,
        address: b"192.0.2.7",
        scheme: b"https",
        host: None,
        request_id: b"id",
        session_url: None,
        hub_age: None,
        tls: None,
        trace: Trace::Theirs,
    };
    put_request(&mut sent, &mut head, &via, &[]);
    let shown = || sent.escape_ascii().to_string();
    let mut seen = RequestHead::default();
    let limits = HeadLimits { count: 64, bytes: 4096, target: 4096 };
    assert_eq!(seen.parse(&sent, &limits), Ok(Some(sent.len())), "{}", shown());
    assert_eq!((&seen.method, seen.path(), seen.query()), (&head.method, &*path, query.as_deref()));
    assert_eq!(seen.length, head.length, "{}", shown());
    normalise_request(&mut seen, |_| true).expect("a server gets a valid request");
    assert_eq!(seen.path(), path, "a server normalises it no further");
    assert!(!matches!(head.method, Method::CONNECT | Method::TRACE));
    let one = |name: &str| assert_eq!(seen.fields.named(name).count(), 1, "{name} in {}", shown());
    ["host", "via", "x-forwarded-for", "x-forwarded-proto", "x-request-id"].into_iter().for_each(one);
    assert_eq!(seen.fields.named("x-forwarded-for").next(), Some(&b"192.0.2.7"[..]));
    assert!(seen.fields.all(Name::Internal).next().is_none(), "{}", shown());

    let server = Authority::from_static("server:80");
    // A host that only HTTP/1.1 allows, or none.
    let Ok((request, length)) = request_in_http2(&sent, (Scheme::HTTP, &server)) else { return true };
    assert_eq!((request.method(), length), (&head.method, head.length), "{}", shown());
    let host = head.fields.first(Name::Host).filter(|host| !host.is_empty());
    let authority = request.uri().authority().expect("it has one").as_str();
    assert_eq!(authority.as_bytes(), host.unwrap_or(b"server:80"));
    if head.target.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~/?=&%".contains(&byte)) {
        assert_eq!(request.uri().path_and_query().map(PathAndQuery::as_str), Some(&*head.target));
    }
    for name in ["host", "connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection"] {
        assert!(!request.headers().contains_key(name), "{name} in {request:?}");
    }
    true
}

/// Of an answer's head.
pub fn response(bytes: &[u8]) -> bool {
    let mut head = ResponseHead::default();
    let read = head.parse(bytes, &LIMITS);
    prefixes(bytes, read, |start| ResponseHead::default().parse(start, &LIMITS));
    let Ok(Some(length)) = read else { return false };
    assert!(length <= LIMITS.bytes, "a head of {length} bytes is over the limit");
    fields(&head.fields);
    assert_eq!(head.length(true), Length::Empty);
    true
}

/// A head is read the same however it is cut: nothing is decided before its end but that it is wrong, and that is final.
fn prefixes(
    bytes: &[u8],
    read: Result<Option<usize>, HeadError>,
    parse: impl Fn(&[u8]) -> Result<Option<usize>, HeadError>,
) {
    if let Ok(Some(length)) = read {
        assert!(length <= bytes.len(), "{length} bytes were read of {}", bytes.len());
        assert_eq!(parse(&bytes[..length]), read, "what follows a head changes it");
    }
    let end = read.unwrap_or(None).unwrap_or(bytes.len());
    let mut refused = false;
    for cut in 0..end {
        let part = parse(&bytes[..cut]);
        match (&part, &read) {
            (Ok(None), _) => assert!(!refused, "a part of {cut} bytes is not refused, a shorter one was"),
            (Err(_), Err(_)) => refused = true,
            _ => panic!(
                "{part:?} after {cut} bytes of {:?}, which gives {read:?}",
                bytes.escape_ascii().to_string()
            ),
        }
    }
}

/// What is sent on is read as it was meant.
fn fields(fields: &Fields) {
    let mut text = b"GET / HTTP/1.1\r\n".to_vec();
    fields.put(&mut text);
    text.extend_from_slice(b"\r\n");
    let mut head = RequestHead::default();
    let limits = HeadLimits { bytes: 2 * LIMITS.bytes, ..LIMITS };
    let read = head.parse(&text, &limits);
    assert_eq!(read, Ok(Some(text.len())), "{:?}", text.escape_ascii().to_string());
    assert!(head.fields.iter().eq(fields.iter()), "{:?} {fields:?}", head.fields);
    for field in fields.iter() {
        assert!(!field.name.is_empty() && field.name.iter().all(u8::is_ascii_graphic));
        assert!(!field.value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
}

/// What a decoder made of a body.
#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    data: Vec<u8>,
    consumed: usize,
    done: bool,
    error: Option<ChunkError>,
}

fn decode<'a>(mut decoder: Decoder, pieces: impl Iterator<Item = &'a [u8]>) -> Decoded {
    let mut decoded = Decoded { data: Vec::new(), consumed: 0, done: false, error: None };
    for piece in pieces {
        match decoder.decode(piece, |data| decoded.data.extend_from_slice(data)) {
            Ok(consumed) => {
                assert!(consumed <= piece.len(), "{consumed} bytes were read of {}", piece.len());
                assert!(consumed == piece.len() || decoder.is_done(), "a decoder takes all, or it is done");
                decoded.consumed += consumed;
            }
            Err(error) => {
                decoded.error = Some(error);
                return decoded;
            }
        }
    }
    decoded.done = decoder.is_done();
    decoded
}

/// Of a chunked body, cut into pieces of these sizes, over and over. What is taken of a request means the same in an answer.
pub fn chunks(bytes: &[u8], sizes: &[usize]) -> bool {
    let strict = cut_chunks(bytes, sizes, || Decoder::new(Length::Chunked));
    let lenient = cut_chunks(bytes, sizes, || Decoder::of_answer(Length::Chunked));
    assert!(!strict.done || strict == lenient, "{strict:?} {lenient:?}");
    strict.done
}

fn cut_chunks(bytes: &[u8], sizes: &[usize], decoder: impl Fn() -> Decoder) -> Decoded {
    let mut whole = decode(decoder(), std::iter::once(bytes));
    let mut rest = bytes;
    let mut sizes = sizes.iter().cycle();
    let pieces = std::iter::from_fn(|| {
        let (piece, after) = rest.split_at((*sizes.next()?).clamp(1, rest.len().max(1)).min(rest.len()));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    });
    let cut = decode(decoder(), pieces);
    if whole.error.is_some() {
        // Where in its input an error lies, a decoder does not say.
        whole.consumed = cut.consumed;
    }
    assert_eq!(whole, cut, "{:?}", bytes.escape_ascii().to_string());
    assert!(whole.data.len() <= whole.consumed.max(bytes.len()));
    whole
}

/// Chunks that we write are read as what they were made of.
pub fn written(parts: &[Vec<u8>]) {
    let mut text = Vec::new();
    for part in parts {
        put_chunk(&mut text, part);
    }
    put_last_chunk(&mut text, None);
    let decoded = decode(Decoder::new(Length::Chunked), std::iter::once(text.as_slice()));
    assert_eq!(decoded, Decoded { data: parts.concat(), consumed: text.len(), done: true, error: None });
}
