//! Clients of HTTP/2 that take nothing, or send nothing: each is bounded, and ends.

use super::{
    cluster, connect,
    frames::data,
    wire::{
        CANCEL, DATA, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, NO_ERROR, RST_STREAM, SETTINGS,
        WINDOW_UPDATE, block, frame, get, headers, read_frame, request,
    },
};
use crate::tests::{
    backend::{OnConnection, raw},
    cluster::Cluster,
    hostile::{recorder::Recorder, sentinel},
    slow::affordable,
};
use common::config::{Config, Server};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};

/// What a client is given in these tests, and what nothing takes.
const SHORT: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(20);

fn web(config: &mut Config) -> &mut Server {
    &mut config.clusters[1].servers[0]
}

/// A server that answers without end, and says when it can't any more, with the bytes that it could send.
fn endless() -> (OnConnection, mpsc::UnboundedReceiver<usize>) {
    let (ended, has_ended) = mpsc::unbounded_channel();
    let server = raw(move |_, mut stream| {
        let ended = ended.clone();
        async move {
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            let mut bytes = 0;
            while sent.is_ok() {
                sent = stream.write_all(&[b'x'; 65536]).await;
                bytes += 65536;
            }
            let _ = ended.send(bytes);
        }
    });
    (server, has_ended)
}

#[tokio::test]
async fn an_answer_whose_window_stays_shut_is_cut_off_and_its_server_hears_of_it() {
    let (server, mut ended) = endless();
    let cluster = cluster(server, |config| web(config).socket_timeout = SHORT).await;
    // SETTINGS_INITIAL_WINDOW_SIZE of 0.
    let mut stream = connect(&cluster, &[0, 4, 0, 0, 0, 0]).await;
    stream.write_all(&get(1, "/")).await.unwrap();
    let mut statuses = Vec::new();
    let code = loop {
        let frame = read_frame(&mut stream).await.expect("the connection goes on");
        match frame.kind {
            HEADERS => statuses.push(frame.status()),
            RST_STREAM => break frame.code(),
            _ => {}
        }
    };
    assert_eq!((statuses, code), (vec![200], CANCEL));
    // It has not been taken into memory: this much the kernel may hold of it.
    let bytes = timeout(PATIENCE, ended.recv()).await.unwrap().unwrap();
    assert!(bytes < 16 << 20, "{bytes} bytes were read of an answer that nobody took");
}

#[tokio::test]
async fn answers_that_nobody_takes_end_where_a_worker_has_too_many_and_who_has_most_pays() {
    let (server, _ended) = endless();
    // Four at most: a quarter of the connections of clients.
    let cluster = Cluster::start_limited([server], 16, |config| web(config).http[0].h2c = true).await;
    let shut = [0, 4, 0, 0, 0, 0];
    let mut few = connect(&cluster, &shut).await;
    few.write_all(&get(1, "/")).await.unwrap();
    let mut many = connect(&cluster, &shut).await;
    many.write_all(&[1, 3, 5, 7].map(|number| get(number, "/")).concat()).await.unwrap();
    let reset = loop {
        let frame = read_frame(&mut many).await.expect("the connection goes on");
        if frame.kind == RST_STREAM {
            break frame;
        }
    };
    assert_eq!(reset.code(), ENHANCE_YOUR_CALM);
    // All others go on.
    many.write_all(&frame(WINDOW_UPDATE, 0, 8 - reset.stream, &[0, 0, 0, 1])).await.unwrap();
    few.write_all(&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])).await.unwrap();
    for stream in [&mut few, &mut many] {
        while !matches!(read_frame(stream).await, Some(it) if it.kind == DATA && it.payload.len() == 1) {}
    }
    assert_eq!(cluster.web.totals().answers_shed, 1);
}

#[tokio::test]
async fn a_window_that_opens_by_a_byte_at_a_time_does_not_cut_off_what_moves() {
    let (server, _ended) = endless();
    let cluster = cluster(server, |config| {
        web(config).socket_timeout = SHORT * 4;
        web(config).request_limits.rate_min = None;
    })
    .await;
    let mut stream = connect(&cluster, &[0, 4, 0, 0, 0, 0]).await;
    stream.write_all(&get(1, "/")).await.unwrap();
    let mut taken = 0;
    while taken < 50 {
        stream.write_all(&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])).await.unwrap();
        loop {
            let frame = read_frame(&mut stream).await.expect("the connection goes on");
            assert_ne!(frame.kind, RST_STREAM);
            if frame.kind == 0 {
                taken += frame.payload.len();
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_off() {
    let (server, mut ended) = endless();
    let cluster = cluster(server, |config| web(config).socket_timeout = SHORT).await;
    let mut stream = connect(&cluster, &[0, 4, 0x7f, 0xff, 0xff, 0xff]).await;
    let wide = frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
    let requests: Vec<_> = (0..20).flat_map(|number| get(2 * number + 1, "/")).collect();
    stream.write_all(&[wide, requests].concat()).await.unwrap();
    for _ in 0..20 {
        timeout(PATIENCE, ended.recv()).await.expect("each of its requests is ended").unwrap();
    }
    drop(stream);
}

#[tokio::test]
async fn a_body_that_stops_is_a_408_and_never_looks_whole() {
    let (recorder, server) = Recorder::start();
    let cluster = cluster(server, |config| web(config).socket_timeout = SHORT).await;
    for more in [&[][..], &[("content-length", "10")][..]] {
        let mut stream = connect(&cluster, &[]).await;
        let fields = [&request("POST", "/")[..], more].concat();
        stream.write_all(&[headers(1, false, &block(&fields)), data(1, 0, b"half")].concat()).await.unwrap();
        let mut heard = Vec::new();
        while heard.len() < 2 {
            let frame = read_frame(&mut stream).await.expect("the connection goes on");
            match frame.kind {
                HEADERS => heard.push((u32::from(frame.status()), frame.flags & END_STREAM)),
                RST_STREAM => heard.push((frame.code(), 0)),
                _ => {}
            }
        }
        assert_eq!(heard, [(408, END_STREAM), (NO_ERROR, 0)], "the answer, then no more of the body");
        recorder.no_request().unwrap();
        // The connection goes on.
        stream.write_all(&get(3, "/")).await.unwrap();
        while !matches!(read_frame(&mut stream).await, Some(it) if it.kind == HEADERS && it.stream == 3) {}
        recorder.forget();
        sentinel(&cluster).await.unwrap();
        recorder.forget();
    }
}

#[tokio::test]
async fn a_body_that_stops_after_its_answer_has_begun_is_cut_off() {
    let early = raw(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    });
    let cluster = cluster(early, |config| web(config).socket_timeout = SHORT).await;
    let mut stream = connect(&cluster, &[]).await;
    let head = headers(1, false, &block(&request("POST", "/")));
    stream.write_all(&[head, data(1, 0, b"half")].concat()).await.unwrap();
    let mut statuses = Vec::new();
    let code = loop {
        let frame = read_frame(&mut stream).await.expect("the connection goes on");
        match frame.kind {
            HEADERS => statuses.push(frame.status()),
            RST_STREAM => break frame.code(),
            _ => {}
        }
    };
    assert_eq!((statuses, code), (vec![200], CANCEL), "it is never ended as if it were complete");
}

#[tokio::test]
async fn thousands_of_idle_connections_leave_room_for_others() {
    let (_recorder, server) = Recorder::start();
    let cluster = cluster(server, |config| web(config).keepalive_timeout = PATIENCE * 3).await;
    let count = affordable(2000);
    let mut idle = Vec::with_capacity(count);
    for number in 0..count {
        let mut stream = connect(&cluster, &[]).await;
        // Some have asked before, some never do.
        if number % 10 == 0 {
            stream.write_all(&get(1, "/")).await.unwrap();
            while !matches!(read_frame(&mut stream).await, Some(it) if it.kind == HEADERS) {}
        }
        idle.push(stream);
    }
    for _ in 0..20 {
        sentinel(&cluster).await.unwrap();
    }
    while cluster.web.totals().connections_open < count as u64 {
        tokio::task::yield_now().await;
    }
    for stream in idle.iter_mut().step_by(97) {
        stream.write_all(&get(11, "/")).await.unwrap();
        while !matches!(read_frame(stream).await, Some(it) if it.kind == HEADERS && it.stream == 11) {}
    }
    drop(idle);
    while cluster.web.totals().connections_open > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_body_whose_connection_ends_never_looks_whole() {
    let (recorder, server) = Recorder::start();
    let cluster = cluster(server, |_| {}).await;
    for last in [Vec::new(), frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()), frame(RST_STREAM, 0, 1, &[0; 4])]
    {
        let mut stream = connect(&cluster, &[]).await;
        let head = headers(1, false, &block(&request("POST", "/")));
        stream.write_all(&[head, data(1, 0, b"half"), last].concat()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("an end in time");
        sentinel(&cluster).await.unwrap();
        recorder.no_request().unwrap();
    }
}

#[tokio::test]
async fn a_head_that_never_ends_and_a_client_without_requests_are_told_to_go() {
    let (recorder, server) = Recorder::start();
    let cluster = cluster(server, |config| web(config).keepalive_timeout = SHORT).await;
    let begun = frame(HEADERS, 0, 1, &block(&request("GET", "/")));
    for sent in [begun, Vec::new()] {
        let mut stream = connect(&cluster, &[]).await;
        stream.write_all(&sent).await.unwrap();
        let mut codes = Vec::new();
        while let Some(frame) = read_frame(&mut stream).await {
            if frame.kind == GOAWAY {
                codes.push(frame.code());
            }
        }
        assert!(!codes.is_empty() && codes.iter().all(|code| *code == NO_ERROR), "{codes:?}");
        recorder.untouched().unwrap();
    }
}

#[tokio::test]
async fn a_preface_that_never_ends_is_cut_off() {
    let (_recorder, server) = Recorder::start();
    let cluster = cluster(server, |config| web(config).request_header_timeout = SHORT).await;
    for sent in [&b"PRI * HTTP/2.0\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
        let mut client = cluster.client().await;
        client.0.write_all(sent).await.unwrap();
        assert!(client.rest().await.starts_with("HTTP/1.1 408 "));
    }
    // With it and no SETTINGS the keep-alive begins; with SETTINGS that do not end too.
    let mut client = cluster.client().await;
    let part = &frame(SETTINGS, 0, 0, &[0; 6])[..10];
    client.0.write_all(&[super::wire::PREFACE, part].concat()).await.unwrap();
    client.0.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, client.0.read_to_end(&mut rest)).await.expect("an end in time");
}
