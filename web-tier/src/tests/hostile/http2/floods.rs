//! Frames that cost more to handle than to send, without end.

use super::{
    Case, Row, Want, check, cluster, connect,
    frames::data,
    served,
    wire::{
        ACK, CANCEL, CONTINUATION, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, NO_ERROR,
        PING, PRIORITY, REFUSED_STREAM, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, get, headers,
        read_frame, request, string,
    },
};
use crate::tests::{
    backend::{OnConnection, raw},
    hostile::recorder::Recorder,
};
use std::{
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(super) fn rows() -> Vec<Row> {
    vec![resets(), blocks(), control(), honest()]
}

/// The numbers of `count` streams.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

fn cancel(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

fn update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

fn resets() -> Row {
    let each = |text: &str, with: &dyn Fn(u32) -> Vec<u8>| {
        Case::new(text, streams(2000).flat_map(with).collect(), Want::Calm)
    };
    let post = |stream| headers(stream, false, &block(&request("POST", "/")));
    let cases = vec![
        each("2000 requests, each reset by the client", &|it| [get(it, "/"), cancel(it)].concat()),
        each("2000 requests with WINDOW_UPDATE beyond 2^31", &|it| {
            [post(it), update(it, 0x7fff_ffff)].concat()
        }),
        each("2000 requests with a field of a connection", &|it| {
            let fields = [&request("GET", "/")[..], &[("connection", "close")]].concat();
            headers(it, true, &block(&fields))
        }),
        each("2000 requests with a body unlike its length", &|it| {
            let fields = [&request("POST", "/")[..], &[("content-length", "9")]].concat();
            [headers(it, false, &block(&fields)), data(it, END_STREAM, b"x")].concat()
        }),
        each("2000 requests that depend on themselves", &|it| {
            let own = [&it.to_be_bytes()[..], &[7]].concat();
            [post(it), frame(PRIORITY, 0, it, &own)].concat()
        }),
        each("2000 requests at once without an end", &post),
    ];
    Row { title: "HTTP/2: rapid reset, and made-you-reset", cases }
}

fn blocks() -> Row {
    let begin = frame(HEADERS, END_STREAM, 1, &block(&request("GET", "/")));
    let endless = |piece: &[u8]| {
        let pieces = frame(CONTINUATION, 0, 1, piece).repeat(5000);
        [&begin[..], &pieces].concat()
    };
    // A field of 4 KB that is remembered, and then named by one byte again and again.
    let mut bomb = block(&request("GET", "/"));
    bomb.push(0x40);
    bomb.extend([string("x"), string(&"a".repeat(4000))].concat());
    bomb.extend([0xbe; 10_000]);
    let mut crumbs = block(&request("GET", "/"));
    crumbs.push(0x40);
    crumbs.extend([string("cookie"), string("a")].concat());
    crumbs.extend([0xbe; 15_000]);
    let cases = vec![
        Case::new("5000 empty CONTINUATIONs", endless(b""), Want::Calm),
        Case::new("5000 CONTINUATIONs of one field", endless(&block(&[("x", "1")])), Want::Calm),
        Case::new("a field of 4 KB, 10000 times by its index", headers(1, true, &bomb), Want::Calm),
        Case::new("a crumb of a cookie, 15000 times by its index", headers(1, true, &crumbs), Want::Calm),
    ];
    Row { title: "HTTP/2: header bombs, and CONTINUATION without end", cases }
}

fn control() -> Row {
    let flood = |text: &str, frame: Vec<u8>| Case::new(text, frame.repeat(5000), Want::Calm);
    let post = headers(1, false, &block(&request("POST", "/")));
    let empty = [post, data(1, 0, b"").repeat(5000)].concat();
    let cases = vec![
        flood("5000 PINGs", frame(PING, 0, 0, &[7; 8])),
        flood("5000 PINGs acknowledged that were not sent", frame(PING, ACK, 0, &[7; 8])),
        flood("5000 SETTINGS", frame(SETTINGS, 0, 0, b"")),
        flood("5000 SETTINGS with another window", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0x40, 0])),
        flood("5000 PRIORITYs", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 7])),
        flood("5000 WINDOW_UPDATEs", update(0, 1)),
        flood("5000 frames of a type that nobody knows", frame(0x42, 0, 0, b"")),
        Case::new("5000 empty DATAs", empty, Want::Calm),
    ];
    Row { title: "HTTP/2: SETTINGS, PING and other floods", cases }
}

fn honest() -> Row {
    let busy = [
        get(1, "/"),
        frame(PING, 0, 0, &[7; 8]).repeat(100),
        update(0, 1000).repeat(1000),
        frame(SETTINGS, 0, 0, b"").repeat(20),
        frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 7]).repeat(100),
    ];
    let resets = streams(101).skip(1).flat_map(|it| [get(it, "/sentinel"), cancel(it)].concat());
    let resets = [get(1, "/"), resets.collect()].concat();
    let cases = vec![
        Case::new(
            "100 PINGs and PRIORITYs, 1000 WINDOW_UPDATEs, 20 SETTINGS",
            busy.concat(),
            served(&[], &[]),
        ),
        Case::new("100 requests reset", resets, served(&[], &[])),
    ];
    Row { title: "HTTP/2: what a busy client may do", cases }
}

#[tokio::test]
async fn requests_that_are_reset_end_the_connection() {
    check(resets()).await;
}

#[tokio::test]
async fn header_blocks_do_not_go_on_for_ever() {
    check(blocks()).await;
}

#[tokio::test]
async fn floods_end_the_connection() {
    check(control()).await;
}

#[tokio::test]
async fn a_busy_client_is_served() {
    check(honest()).await;
}

/// A server that says nothing, and counts what it is asked.
fn silent() -> (OnConnection, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let server = raw(move |head, mut stream| {
        let asks = head.contains("sentinel");
        count.fetch_add(usize::from(!asks), Ordering::SeqCst);
        async move {
            if asks {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            }
            let _ = stream.read_u8().await;
        }
    });
    (server, asked)
}

/// A request that is reset, as it has a field of a connection.
fn malformed(stream: u32) -> Vec<u8> {
    headers(stream, true, &block(&[&request("GET", "/")[..], &[("connection", "close")]].concat()))
}

/// A client that is a proxy, and passes on what its own clients do: of 64 requests 16 are malformed, and 8 reset at once.
#[tokio::test]
async fn a_client_is_served_however_many_of_its_requests_are_reset_in_a_long_life() {
    const ROUNDS: u32 = 150;
    let (_recorder, server) = Recorder::start();
    let cluster = cluster(server, |_| {}).await;
    let (mut stream, mut next, mut connections) = (connect(&cluster, &[]).await, 0, 1);
    let (mut answered, mut reset) = (0, 0);
    for round in 0..ROUNDS {
        let asked = |number: u32| match number % 8 {
            0 | 1 => malformed(2 * number + 1),
            2 => [get(2 * number + 1, "/"), cancel(2 * number + 1)].concat(),
            _ => get(2 * number + 1, "/"),
        };
        stream.write_all(&(next..next + 64).flat_map(asked).collect::<Vec<_>>()).await.unwrap();
        next += 64;
        let mut leaves = false;
        while (answered, reset) != (40 * (round + 1), 16 * (round + 1)) {
            let frame = read_frame(&mut stream).await.expect("the connection goes on");
            match (frame.kind, frame.stream / 2 % 8) {
                (GOAWAY, _) => {
                    assert_eq!(frame.code(), NO_ERROR, "in round {round}");
                    leaves = true;
                }
                (HEADERS, 3..) => answered += 1,
                (RST_STREAM, 0 | 1) => reset += 1,
                (RST_STREAM, _) => panic!("stream {} is reset in round {round}", frame.stream),
                _ => {}
            }
        }
        if leaves {
            (stream, next, connections) = (connect(&cluster, &[]).await, 0, connections + 1);
        }
    }
    assert!((2..=8).contains(&connections), "{connections} connections for {reset} resets");
}

#[tokio::test]
async fn after_keepalive_max_requests_a_client_is_sent_elsewhere_and_what_it_has_asked_is_answered() {
    let (_recorder, server) = Recorder::start();
    let cluster = cluster(server, |config| {
        config.clusters[1].servers[0].request_limits.keepalive = NonZeroU64::new(3);
    })
    .await;
    let mut stream = connect(&cluster, &[]).await;
    stream.write_all(&streams(5).flat_map(|it| get(it, "/")).collect::<Vec<_>>()).await.unwrap();
    let (mut answered, mut codes) = (0, Vec::new());
    while answered < 5 || codes.is_empty() {
        let frame = read_frame(&mut stream).await.expect("the connection goes on");
        match frame.kind {
            HEADERS => answered += 1,
            GOAWAY => codes.push(frame.code()),
            _ => {}
        }
    }
    assert_eq!(codes, [NO_ERROR]);
}

#[tokio::test]
async fn what_is_under_way_is_bounded_with_what_was_reset_and_is_still_to_notice() {
    const MOST: u32 = 128;
    let (server, asked) = silent();
    let cluster = cluster(server, |_| {}).await;
    let mut stream = connect(&cluster, &[]).await;
    let numbers = |from: u32, count: u32| (from..from + count).map(|place| 2 * place + 1);
    let gets = |from, count| numbers(from, count).flat_map(|it| get(it, "/")).collect::<Vec<_>>();
    let cancels = |from, count| numbers(from, count).flat_map(cancel).collect::<Vec<_>>();
    stream.write_all(&gets(0, MOST)).await.unwrap();
    while asked.load(Ordering::SeqCst) < MOST as usize {
        tokio::task::yield_now().await;
    }
    // All at once, so that the streams can't notice in between.
    let more = [cancels(0, MOST), gets(MOST, MOST), cancels(MOST, 20), gets(2 * MOST, 20)];
    stream.write_all(&more.concat()).await.unwrap();
    let mut refused = Vec::new();
    while refused.len() < 20 {
        let frame = read_frame(&mut stream).await.expect("the connection goes on");
        assert_ne!(frame.kind, GOAWAY);
        if frame.kind == RST_STREAM {
            assert_eq!(frame.code(), REFUSED_STREAM);
            refused.push(frame.stream);
        }
    }
    assert_eq!(refused, numbers(2 * MOST, 20).collect::<Vec<_>>());
    // There is room again, and what was refused may be asked again.
    stream.write_all(&get(1001, "/sentinel")).await.unwrap();
    while !matches!(read_frame(&mut stream).await, Some(it) if it.kind == HEADERS && it.stream == 1001) {}
}

#[tokio::test]
async fn requests_that_are_reset_after_they_were_looked_at_end_the_connection_too() {
    let (silent, asked) = silent();
    let cluster = cluster(silent, |_| {}).await;
    let (mut from, mut to) = connect(&cluster, &[]).await.into_split();
    let mut code = None;
    'all: for stream in streams(5000) {
        // The PING's answer says that the request before it was seen.
        let sent = [get(stream, "/"), frame(PING, 0, 0, &[7; 8])].concat();
        if to.write_all(&sent).await.is_err() {
            break;
        }
        loop {
            match read_frame(&mut from).await {
                Some(frame) if frame.kind == PING => break,
                Some(frame) if frame.kind == GOAWAY => {
                    code = Some(frame.code());
                    break 'all;
                }
                Some(_) => {}
                None => break 'all,
            }
        }
        if to.write_all(&cancel(stream)).await.is_err() {
            break;
        }
    }
    assert_eq!(code, Some(ENHANCE_YOUR_CALM));
    let asked = asked.load(Ordering::SeqCst);
    assert!(asked < 300, "{asked} requests reached the server");
}

#[tokio::test]
async fn a_block_that_ends_in_many_pieces_is_read() {
    // As many as may be.
    let block = block(&request("GET", "/"));
    let mut sent = frame(HEADERS, END_STREAM, 1, &block[..5]);
    for byte in &block[5..9] {
        sent.extend(frame(CONTINUATION, 0, 1, &[*byte]));
    }
    sent.extend(frame(CONTINUATION, END_HEADERS, 1, &block[9..]));
    check(Row { title: "pieces", cases: vec![Case::new("6 pieces", sent, served(&[], &[]))] }).await;
}
