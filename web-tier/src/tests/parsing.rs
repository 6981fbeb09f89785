//! What must hold of the parsers of HTTP/1.1 whatever they are given: tried with mutations of messages that are valid. The fuzz
//! targets in `web-tier/fuzz` try the same properties with a fuzzer's inputs.

use crate::properties;
use proptest::{collection::vec, prelude::*, sample::Index};

const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /a/b?c=d HTTP/1.1\r\nHost: example.org:8080\r\nAccept: */*\r\nCookie: a=b; c=d\r\n\r\n",
    "\r\nPOST /form HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
    "PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close, x\r\n\r\n",
    "GET /later HTTP/1.2\r\nHost: h\r\nTE: trailers\r\n\r\n",
    "GET http://h:80/a HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n",
    "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX:\t y \t\r\n\r\n\u{81}\u{5}Hello",
];

const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a=b\r\n\r\n0\r\n\r\n",
    "HTTP/1.0 404 Not Found\r\nServer: x\r\n\r\n",
    "HTTP/1.1 204\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
];

const CHUNKS: &[&str] = &[
    "5\r\nhello\r\n0\r\n\r\n",
    "1;a=b\r\nx\r\nA\r\n0123456789\r\n000\r\n\r\n",
    "0\r\nX-Trailer: 1\r\nY: 2\r\n\r\n",
    "3;q=\"a b\"\r\nabc\r\n0;last\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "FFFFFFFFFFFFFFFF\r\nabc",
    "3 ; q = \"\\\"\"\r\nabc\r\n0  \r\n\r\n",
];

/// Pieces that readers of HTTP have quarrelled about.
const NASTY: &[&str] = &[
    "\r",
    "\n",
    "\r\n",
    "\r\n\r\n",
    "\0",
    " ",
    "\t",
    "\u{b}",
    "\u{7f}",
    "\u{80}",
    "\u{ff}",
    ":",
    ",",
    ";",
    "+",
    "-",
    "0x",
    "%",
    "#",
    "\r\n ",
    "Content-Length: 7\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Host: x\r\n",
    "chunked",
    "HTTP/1.1",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// A change of a message.
#[derive(Debug, Clone)]
enum Mutation {
    Insert(Index, Index),
    Remove(Index, u8),
    Replace(Index, u8),
    Repeat(Index, u8),
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let place = any::<Index>;
    vec(
        prop_oneof![
            (place(), place()).prop_map(|(at, what)| Mutation::Insert(at, what)),
            (place(), 1..20_u8).prop_map(|(at, count)| Mutation::Remove(at, count)),
            (place(), any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
            (place(), 1..80_u8).prop_map(|(at, count)| Mutation::Repeat(at, count)),
        ],
        0..4,
    )
}

fn mutated(message: &str, mutations: &[Mutation]) -> Vec<u8> {
    let mut bytes = super::hostile::wire(message);
    for mutation in mutations {
        let (at, with, end) = match mutation {
            Mutation::Insert(at, what) => {
                let at = at.index(bytes.len() + 1);
                (at, super::hostile::wire(NASTY[what.index(NASTY.len())]), at)
            }
            Mutation::Remove(at, count) => {
                let at = at.index(bytes.len() + 1);
                (at, Vec::new(), (at + usize::from(*count)).min(bytes.len()))
            }
            Mutation::Replace(at, byte) => {
                let at = at.index(bytes.len() + 1);
                (at, vec![*byte], (at + 1).min(bytes.len()))
            }
            Mutation::Repeat(at, count) => {
                let at = at.index(bytes.len() + 1);
                (at, bytes.get(at).map_or(Vec::new(), |byte| vec![*byte; usize::from(*count)]), at)
            }
        };
        bytes.splice(at..end, with);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn requests(which in any::<Index>(), mutations in mutations()) {
        properties::request(&mutated(REQUESTS[which.index(REQUESTS.len())], &mutations));
    }

    #[test]
    fn ways(which in any::<Index>(), mutations in mutations()) {
        properties::way(&mutated(REQUESTS[which.index(REQUESTS.len())], &mutations));
    }

    #[test]
    fn responses(which in any::<Index>(), mutations in mutations()) {
        properties::response(&mutated(RESPONSES[which.index(RESPONSES.len())], &mutations));
    }

    #[test]
    fn chunks(which in any::<Index>(), mutations in mutations(), pieces in vec(1..20_usize, 1..10)) {
        properties::chunks(&mutated(CHUNKS[which.index(CHUNKS.len())], &mutations), &pieces);
    }

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..300), pieces in vec(1..20_usize, 1..10)) {
        properties::request(&bytes);
        properties::response(&bytes);
        properties::chunks(&bytes, &pieces);
    }

    #[test]
    fn chunks_are_read_as_they_were_written(parts in vec(vec(any::<u8>(), 0..50), 0..10)) {
        properties::written(&parts);
    }
}

#[test]
fn the_messages_that_are_changed_are_valid() {
    for message in REQUESTS {
        assert!(properties::request(&super::hostile::wire(message)), "{message:?}");
        assert!(properties::way(&super::hostile::wire(message)), "{message:?}");
    }
    for message in RESPONSES {
        assert!(properties::response(&super::hostile::wire(message)), "{message:?}");
    }
    for message in &CHUNKS[..4] {
        assert!(properties::chunks(message.as_bytes(), &[1]), "{message:?}");
    }
}

/// As long as each limit lets it be, and a byte longer.
#[test]
fn limits_are_the_same_in_one_piece_and_in_many() {
    let limits = properties::LIMITS;
    for length in [limits.target, limits.target + 1] {
        let message = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(length - 1));
        assert_eq!(properties::request(message.as_bytes()), length == limits.target, "{length}");
    }
    let rest = "GET / HTTP/1.1\r\nX: \r\n\r\n".len();
    for length in [limits.bytes, limits.bytes + 1] {
        let message = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(length - rest));
        assert_eq!(properties::request(message.as_bytes()), length == limits.bytes, "{length}");
    }
    for count in [limits.count, limits.count + 1] {
        let message = format!("GET / HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(count));
        assert_eq!(properties::request(message.as_bytes()), count == limits.count, "{count}");
    }
}
