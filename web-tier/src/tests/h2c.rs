//! `http-proxy` to servers that speak HTTP/2 from the first byte: as they are, as they fail, and as their connections are shared.

use super::{
    backend::{Backend, OnConnection, echo, echo2, gated, http2 as answers, says},
    client::Answer,
    cluster::Cluster,
    foreign::{proxy, put},
    http2::{ask, client as http2_client, get},
    wire::{
        DATA, END_STREAM, GOAWAY, NO_ERROR, REFUSED_STREAM, RST_STREAM, WINDOW_UPDATE, block, frame, headers,
    },
    wire_server::{scripts, serves, wire},
};
use bytes::Bytes;
use common::config::{BackendProtocol, HttpProxy, Strategy};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame as BodyFrame;
use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    sync::{Semaphore, mpsc},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);
const INTERNAL_ERROR: u32 = 2;

/// Backends at these ports, each in its turn.
pub(super) fn h2c(ports: &[u16]) -> HttpProxy {
    let mut proxy = proxy(ports);
    proxy.backends.iter_mut().for_each(|backend| backend.protocol = BackendProtocol::Http2);
    proxy
}

/// A web tier before `proxy`, which takes HTTP/1 and HTTP/2.
pub(super) async fn before(proxy: HttpProxy) -> Cluster {
    Cluster::start_with([], |config| {
        config.clusters[1].servers[0].http[0].h2c = true;
        put(config, proxy);
    })
    .await
}

pub(super) async fn backend(on_connection: OnConnection) -> (Backend, Cluster) {
    let backend = Backend::plain(0, on_connection).await;
    let cluster = before(h2c(&[backend.port])).await;
    (backend, cluster)
}

fn lines(answer: &Answer) -> Vec<&str> {
    assert_eq!(answer.status, 200, "{}", answer.head);
    answer.body.lines().collect()
}

#[tokio::test]
async fn requests_of_http_1_are_said_in_http_2() {
    let (backend, cluster) = backend(echo2("two")).await;
    let mut client = cluster.client().await;
    let answer = client.ask("GET /a?b=c", "Cookie: a=1\r\nTE: trailers\r\nConnection: te\r\n").await;
    let seen = lines(&answer);
    assert_eq!(seen[..2], ["two", "GET http://shop.example/a?b=c"]);
    for line in ["cookie: a=1", "te: trailers", "x-forwarded-for: 127.0.0.1", "via: 1.1 copal"] {
        assert!(seen.contains(&line), "{line} in {seen:?}");
    }
    for name in ["host:", "connection:", "transfer-encoding:"] {
        assert!(!seen.iter().any(|line| line.starts_with(name)), "{name} in {seen:?}");
    }
    assert!(answer.has("via: 1.1 copal") && answer.head.contains("date: "), "{}", answer.head);
    let answer = client.ask("POST /", "Content-Length: 5\r\n\r\nhello").await;
    assert!(
        answer.body.ends_with("\nhello") && answer.body.contains("\ncontent-length: 5\n"),
        "{}",
        answer.body
    );
    let chunks = "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n";
    let answer = client.ask("PUT /", chunks).await;
    assert!(answer.body.ends_with("\nhello") && !answer.body.contains("\ncontent-length"), "{}", answer.body);
    // What no URI has is escaped before it goes anywhere.
    let answer = client.ask("GET /a<b>\"`?c=^|", "").await;
    assert_eq!(lines(&answer)[1], "GET http://shop.example/a%3Cb%3E%22%60?c=^|");
    client.send("HEAD / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.0.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&head));
    client.send("GET /old HTTP/1.0\r\n\r\n").await;
    let text = client.rest().await;
    let authority = format!("\nGET http://127.0.0.1:{}/old\n", backend.port);
    assert!(text.contains(&authority), "{authority:?} in {text}");
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn requests_of_http_2_go_on_in_http_2_and_share_a_connection() {
    let (backend, cluster) = backend(echo2("two")).await;
    let client = http2_client(&cluster).await;
    let asked = (0..100).map(|number| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut client = client.ready().await.unwrap();
            let post = Request::post(format!("http://shop.example/{number}")).body(()).unwrap();
            let (head, seen, _) = ask(&mut client, post, &["he", "llo"]).await.unwrap();
            assert!(seen.starts_with(&format!("two\nPOST http://shop.example/{number}\n")), "{seen}");
            assert!(seen.ends_with("\nhello") && head.headers()["via"] == "1.1 copal", "{seen}");
        })
    });
    for answer in asked.collect::<Vec<_>>() {
        answer.await.unwrap();
    }
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn trailers_pass_both_ways_and_an_answer_of_headers_alone_ends_there() {
    let seen = Arc::new(Mutex::new(None));
    let came = seen.clone();
    let server = answers(move |request: Request<_>| {
        let came = came.clone();
        async move {
            let body: http_body_util::Collected<Bytes> = BodyExt::collect(request.into_body()).await.unwrap();
            *came.lock().unwrap() = body.trailers().and_then(|it| it.get("x-sum")).cloned();
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            trailers.insert("content-type", "text/evil".parse().unwrap());
            let frames = [BodyFrame::data(Bytes::from("text")), BodyFrame::trailers(trailers)];
            let frames = frames.into_iter().map(Ok::<_, Infallible>);
            Response::new(StreamBody::new(futures_util::stream::iter(frames)))
        }
    });
    let (_backend, cluster) = backend(server).await;
    let mut client = cluster.client().await;
    let chunks = "Transfer-Encoding: chunked\r\nTE: trailers\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n";
    client.send(&format!("POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{chunks}\r\n")).await;
    let text = client.rest().await;
    assert!(text.ends_with("\r\n\r\n4\r\ntext\r\n0\r\ngrpc-status: 0\r\n\r\n"), "{text}");
    assert_eq!(seen.lock().unwrap().take().unwrap(), "7");

    let mut client = http2_client(&cluster).await;
    let (head, text, trailers) = ask(&mut client, get("/").body(()).unwrap(), &[]).await.unwrap();
    assert_eq!(
        (head.status().as_u16(), text.as_str(), &trailers["grpc-status"]),
        (200, "text", &"0".parse().unwrap())
    );
    assert!(!trailers.contains_key("content-type"), "{trailers:?}");

    let (_backend, cluster) = backend(wire(b"", |mut wire| async move {
        for _ in 0..2 {
            let stream = wire.request().await;
            wire.send(&headers(stream, true, &block(&[(":status", "200"), ("grpc-status", "5")]))).await;
        }
        wire.next().await;
    }))
    .await;
    let mut client = http2_client(&cluster).await;
    let (head, text, trailers) = ask(&mut client, get("/").body(()).unwrap(), &[]).await.unwrap();
    assert!(head.headers()["grpc-status"] == "5" && text.is_empty() && trailers.is_empty(), "{head:?}");
    assert!(!head.headers().contains_key("content-length"), "{head:?}");
    // In HTTP/1 its end is said otherwise.
    let answer = cluster.ask("GET /", "").await;
    assert!(answer.status == 200 && answer.has("content-length: 0"), "{}", answer.head);
}

#[tokio::test]
async fn interim_answers_pass_and_a_flood_of_them_is_a_502() {
    let (_backend, cluster) = backend(wire(b"", |mut wire| async move {
        let hints = block(&[(":status", "103"), ("link", "</a.css>")]);
        let stream = wire.request().await;
        wire.send(&headers(stream, false, &hints)).await;
        wire.ok(stream).await;
        let stream = wire.request().await;
        for _ in 0..17 {
            wire.send(&headers(stream, false, &hints)).await;
        }
        wire.next().await;
    }))
    .await;
    let mut client = cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let hints = client.answer().await;
    assert!(hints.status == 103 && hints.has("link: </a.css>"), "{}", hints.head);
    assert_eq!(client.answer().await.body, "ok");
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    for _ in 0..16 {
        assert_eq!(client.answer().await.status, 103);
    }
    assert_eq!(client.answer().await.status, 502);
}

#[tokio::test]
async fn what_the_server_refuses_goes_to_another_one_whatever_its_method() {
    let refuses = wire(b"", |mut wire| async move {
        while let Some(came) = wire.next().await {
            if came.flags & END_STREAM != 0 {
                wire.send(&frame(RST_STREAM, 0, came.stream, &REFUSED_STREAM.to_be_bytes())).await;
            }
        }
    });
    let (full, free) = (Backend::plain(0, refuses).await, Backend::plain(0, serves()).await);
    let cluster = before(h2c(&[full.port, free.port])).await;
    for _ in 0..4 {
        let answer = cluster.ask("POST /", "Content-Length: 2\r\n\r\nhi").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{}", answer.head);
    }
    assert_eq!(full.connections.load(Ordering::SeqCst), 1, "the connection is as good as it was");
    let alone = before(h2c(&[full.port])).await;
    let answer = alone.ask("POST /", "Content-Length: 2\r\n\r\nhi").await;
    assert!(answer.status == 503 && answer.has("retry-after: 1"), "{}", answer.head);
}

#[tokio::test]
async fn a_request_that_crosses_the_servers_goodbye_is_sent_again_on_a_new_connection() {
    let ends = wire(b"", |mut wire| async move {
        let stream = wire.request().await;
        wire.ok(stream).await;
        let late = wire.request().await;
        assert!(late > stream);
        let goodbye = [stream.to_be_bytes(), NO_ERROR.to_be_bytes()].concat();
        wire.send(&frame(GOAWAY, 0, 0, &goodbye)).await;
        wire.next().await;
    });
    let (backend, cluster) = backend(scripts([ends, serves()])).await;
    for _ in 0..3 {
        let answer = cluster.ask("POST /", "Content-Length: 2\r\n\r\nhi").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{}", answer.head);
    }
    assert_eq!(backend.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_connection_that_breaks_costs_safe_requests_nothing_and_others_a_502() {
    let breaks = || {
        wire(b"", |mut wire| async move {
            let stream = wire.request().await;
            wire.ok(stream).await;
            wire.request().await;
        })
    };
    let (backend, cluster) = backend(scripts([breaks(), breaks(), serves()])).await;
    for (line, status) in [("GET /", 200), ("GET /", 200), ("POST /", 502), ("GET /", 200)] {
        // A fail window closes after a moment, as it is the only backend.
        let asking = async {
            loop {
                let answer = cluster.ask(line, "").await;
                if answer.status != 503 {
                    return answer.status;
                }
            }
        };
        assert_eq!(timeout(PATIENCE, asking).await.unwrap(), status, "{line}");
    }
    assert_eq!(backend.connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn one_request_that_is_reset_is_no_fault_of_the_connection() {
    let (backend, cluster) = backend(wire(b"", |mut wire| async move {
        let first = wire.request().await;
        wire.send(&frame(RST_STREAM, 0, first, &INTERNAL_ERROR.to_be_bytes())).await;
        let half = wire.request().await;
        let head = headers(half, false, &block(&[(":status", "200"), ("content-length", "9")]));
        let reset = frame(RST_STREAM, 0, half, &INTERNAL_ERROR.to_be_bytes());
        wire.send(&[head, frame(DATA, 0, half, b"half"), reset].concat()).await;
        let whole = wire.request().await;
        wire.ok(whole).await;
        // It does not want to hear more of this one than it has heard.
        let came = wire.next().await.unwrap();
        let head = headers(came.stream, false, &block(&[(":status", "413")]));
        let enough = frame(RST_STREAM, 0, came.stream, &NO_ERROR.to_be_bytes());
        wire.send(&[head, frame(DATA, END_STREAM, came.stream, b"enough"), enough].concat()).await;
        wire.next().await;
    }))
    .await;
    assert_eq!(cluster.ask("POST /", "Content-Length: 2\r\n\r\nhi").await.status, 502);
    let mut client = cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let text = client.rest().await;
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\n") && text.len() < text.find("\r\n\r\n").unwrap() + 4 + 9,
        "{text}"
    );
    assert_eq!(cluster.ask("GET /", "").await.body, "ok");
    let mut client = cluster.client().await;
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nbegun").await;
    let text = client.rest().await;
    assert!(text.starts_with("HTTP/1.1 413 ") && text.contains("enough"), "{text}");
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_allows_one_request_at_a_time_gets_more_connections() {
    // SETTINGS_MAX_CONCURRENT_STREAMS: 1.
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let (backend, cluster) = backend(wire(&[0, 3, 0, 0, 0, 1], move |mut wire| {
        let asked = asked.clone();
        async move {
            while let Some(came) = wire.next().await {
                if came.flags & END_STREAM == 0 {
                    continue;
                }
                let (answer, wait) = tokio::sync::oneshot::channel::<()>();
                asked.send(answer).unwrap();
                let _ = wait.await;
                wire.ok(came.stream).await;
            }
        }
    }))
    .await;
    let mut clients = [cluster.client().await, cluster.client().await, cluster.client().await];
    for _ in 0..2 {
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        }
        let waiting = [
            was_asked.recv().await.unwrap(),
            was_asked.recv().await.unwrap(),
            was_asked.recv().await.unwrap(),
        ];
        waiting.into_iter().for_each(|it| it.send(()).unwrap());
        for client in &mut clients {
            assert_eq!(client.answer().await.body, "ok");
        }
    }
    assert_eq!(backend.connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn connection_max_bounds_the_requests_and_the_others_queue() {
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let server = wire(b"", move |mut wire| {
        let asked = asked.clone();
        async move {
            while let Some(came) = wire.next().await {
                if came.flags & END_STREAM != 0 {
                    asked.send(()).unwrap();
                    // The first one is never answered.
                    if came.stream > 1 {
                        wire.ok(came.stream).await;
                    }
                }
            }
        }
    });
    let backend = Backend::plain(0, server).await;
    let cluster = before(HttpProxy { connection_max: 1, ..h2c(&[backend.port]) }).await;
    let (mut first, mut second) = (cluster.client().await, cluster.client().await);
    first.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    was_asked.recv().await.unwrap();
    second.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    // The queue has one place: who comes now is told so, which the one in the queue is not.
    let refused = async { while cluster.ask("GET /", "").await.status != 503 {} };
    timeout(PATIENCE, refused).await.unwrap();
    assert!(was_asked.try_recv().is_err());
    // The first gives up: its stream is reset, and the next one has its place.
    first.reset();
    assert_eq!(second.answer().await.body, "ok");
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_of_http_1_alone_is_found_out_before_it_is_asked() {
    for server in [echo("one"), says("HTTP/1.1 400 Bad Request\r\n\r\n"), says("")] {
        let (_backend, cluster) = backend(server).await;
        let answer = cluster.ask("POST /", "Content-Length: 2\r\n\r\nhi").await;
        assert_eq!(answer.status, 503, "{}", answer.head);
    }
    let (silent, _gate, _asked) = gated();
    let silent = Backend::plain(0, silent).await;
    let good = Backend::plain(0, serves()).await;
    let proxy = HttpProxy { connect_timeout: Duration::from_millis(50), ..h2c(&[silent.port, good.port]) };
    let cluster = before(proxy).await;
    for _ in 0..3 {
        assert_eq!(cluster.ask("POST /", "Content-Length: 2\r\n\r\nhi").await.body, "ok");
    }
}

#[tokio::test]
async fn an_idle_connection_ends_and_one_that_waits_for_an_answer_does_not() {
    let (ended, mut has_ended) = mpsc::unbounded_channel();
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let (gate, count) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let opened = gate.clone();
    let server = wire(b"", move |mut wire| {
        let (ended, asked, gate, count) = (ended.clone(), asked.clone(), opened.clone(), count.clone());
        async move {
            let stream = wire.request().await;
            let number = count.fetch_add(1, Ordering::SeqCst);
            if number == 0 {
                asked.send(()).unwrap();
                gate.acquire().await.unwrap().forget();
            }
            wire.ok(stream).await;
            while wire.next().await.is_some() {}
            ended.send(number).unwrap();
        }
    });
    let (one, two) = (Backend::plain(0, server.clone()).await, Backend::plain(0, server).await);
    let proxy = HttpProxy { idle_time: Duration::from_millis(100), ..h2c(&[one.port, two.port]) };
    let cluster = before(proxy).await;
    let mut waiting = cluster.client().await;
    waiting.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    was_asked.recv().await.unwrap();
    // The other server's connection serves, is idle, and ends, while the first one still waits.
    assert_eq!(cluster.ask("GET /", "").await.body, "ok");
    assert_eq!(timeout(PATIENCE, has_ended.recv()).await.unwrap(), Some(1));
    gate.add_permits(1);
    assert_eq!(waiting.answer().await.body, "ok");
    assert_eq!(timeout(PATIENCE, has_ended.recv()).await.unwrap(), Some(0));
}

#[tokio::test]
async fn an_upgrade_is_not_asked_for_and_a_websocket_over_http_2_is_told_so() {
    let (_backend, cluster) = backend(echo2("two")).await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n";
    let answer = cluster.ask("GET /ws", upgrade).await;
    assert!(!lines(&answer).iter().any(|line| line.starts_with("upgrade")), "{}", answer.body);
    let mut client = http2_client(&cluster).await;
    while !client.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    let request = Request::connect("http://shop.example/ws").header("sec-websocket-version", "13");
    let request = request.extension(h2::ext::Protocol::from_static("websocket")).body(()).unwrap();
    let (head, _, _) = ask(&mut client, request, &["abc"]).await.unwrap();
    assert_eq!(head.status(), 502, "200 would mean that it is open");
}

#[tokio::test]
async fn a_client_that_takes_nothing_stands_in_nobodys_way() {
    const SIZE: usize = 8 * 1024 * 1024;
    let server = answers(|request: Request<hyper::body::Incoming>| async move {
        let size = if request.uri().path() == "/large" { SIZE } else { 2 };
        Response::new(Full::from(vec![b'x'; size]))
    });
    let (backend, cluster) = backend(server).await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut client = cluster.client().await;
        client.send("GET /large HTTP/1.1\r\nHost: h\r\n\r\n").await;
        client.0.readable().await.unwrap();
        slow.push(client);
    }
    for _ in 0..10 {
        assert_eq!(cluster.ask("GET /", "").await.body, "xx");
    }
    for mut client in slow {
        assert_eq!(client.answer().await.body.len(), SIZE);
    }
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_body_waits_for_the_servers_windows() {
    let (_backend, cluster) = backend(wire(b"", |mut wire| async move {
        let (mut received, mut stream) = (0, 0);
        while received < 300_000 {
            let came = wire.next().await.unwrap();
            stream = came.stream;
            if came.kind == DATA {
                received += came.payload.len();
                // At its end, a window of 65,535 bytes is opened again.
                if received % 65_535 == 0 {
                    let more = 65_535_u32.to_be_bytes();
                    let opened = [0, stream].map(|it| frame(WINDOW_UPDATE, 0, it, &more)).concat();
                    wire.send(&opened).await;
                }
            }
        }
        assert_eq!(received, 300_000);
        wire.ok(stream).await;
        wire.next().await;
    }))
    .await;
    let mut client = cluster.client().await;
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\n").await;
    client.send(&"x".repeat(300_000)).await;
    assert_eq!(client.answer().await.body, "ok");
}

#[tokio::test]
async fn both_protocols_may_stand_in_one_rule() {
    let (one, two) = (Backend::plain(0, echo("one")).await, Backend::plain(0, echo2("two")).await);
    let mut proxy = proxy(&[one.port, two.port]);
    proxy.backends[1].protocol = BackendProtocol::Http2;
    assert_eq!(proxy.strategy, Strategy::RoundRobin);
    let cluster = before(proxy).await;
    let mut names = Vec::new();
    for _ in 0..4 {
        names.push(lines(&cluster.ask("GET /", "").await)[0].to_owned());
    }
    names.sort();
    assert_eq!(names, ["one", "one", "two", "two"]);
}
