//! Faults on either side of a server that speaks HTTP/2: bad answers are a 502 and no more, and what a client or a rule does wrong is not
//! the server's.

use super::{
    backend::Backend,
    cluster::Cluster,
    foreign::put,
    h2c::{backend, h2c},
    http2::{ask, client as http2_client, get},
    wire::{CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PUSH_PROMISE, block, frame, headers},
    wire_server::{scripts, serves, wire},
};
use bytes::Bytes;
use common::config::{Action, Condition, HeaderEdit, HeaderEditKind, Piece, Rule};
use http::Request;
use std::time::Duration;
use tokio::{io::AsyncWriteExt, time::timeout};

const PATIENCE: Duration = Duration::from_secs(20);

/// What a server says to a request on the stream 1.
fn bad_answers() -> Vec<(&'static str, Vec<u8>)> {
    let answer = |more: &[(&str, &str)]| {
        let fields = [&[(":status", "200")], more].concat();
        headers(1, false, &block(&fields))
    };
    let many: Vec<_> = (0..300).map(|_| ("x", "1")).collect();
    let large = "a".repeat(70_000);
    vec![
        ("a change of protocols", headers(1, false, &block(&[(":status", "101")]))),
        ("no status", headers(1, true, &block(&[("x", "1")]))),
        ("a status that is none", headers(1, true, &block(&[(":status", "2000")]))),
        ("a field of a connection", answer(&[("connection", "close")])),
        ("two lengths", answer(&[("content-length", "5"), ("content-length", "6")])),
        ("a length that is none", answer(&[("content-length", "+5")])),
        ("a name in capitals", answer(&[("X-Y", "1")])),
        ("a value with CR and LF", answer(&[("x", "a\r\nb: c")])),
        ("too many fields", answer(&many)),
        ("a field that is too large", {
            let whole = block(&[(":status", "200"), ("x", &large)]);
            let (start, rest) = whole.split_at(16_000);
            let pieces = rest.chunks(16_000).enumerate().map(|(place, piece)| {
                let last = (place + 1) * 16_000 >= rest.len();
                frame(CONTINUATION, if last { END_HEADERS } else { 0 }, 1, piece)
            });
            [frame(HEADERS, 0, 1, start), pieces.collect::<Vec<_>>().concat()].concat()
        }),
        ("data before a head", frame(DATA, END_STREAM, 1, b"data")),
        ("a frame that is too large", frame(DATA, 0, 1, &[0; 20_000])),
        (
            "a push",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &block(&[(":status", "200")])].concat()),
        ),
        ("HTTP/1.1", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()),
    ]
}

#[tokio::test]
async fn a_bad_answer_is_a_502_and_no_more() {
    for (title, bad) in bad_answers() {
        let says = wire(b"", move |mut wire| {
            let bad = bad.clone();
            async move {
                assert_eq!(wire.request().await, 1);
                let _ = wire.0.write_all(&bad).await;
                while let Some(came) = wire.next().await {
                    if came.kind == HEADERS {
                        wire.ok(came.stream).await;
                    }
                }
            }
        });
        let (_backend, cluster) = backend(scripts([says, serves()])).await;
        let answer = cluster.ask("POST /", "Content-Length: 2\r\n\r\nhi").await;
        assert_eq!(answer.status, 502, "{title}: {}", answer.head);
        let next = async {
            loop {
                let answer = cluster.ask("GET /", "").await;
                if answer.status != 503 {
                    return answer;
                }
            }
        };
        let answer = timeout(PATIENCE, next).await.expect("its fail window ends");
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{title}");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_short_is_never_whole_and_one_that_is_too_long_is_cut() {
    for (length, body) in [("9", "short"), ("3", "longer")] {
        let (_backend, cluster) = backend(wire(b"", move |mut wire| async move {
            for _ in 0..2 {
                let stream = wire.request().await;
                let head = headers(stream, false, &block(&[(":status", "200"), ("content-length", length)]));
                wire.send(&[head, frame(DATA, END_STREAM, stream, body.as_bytes())].concat()).await;
            }
            wire.next().await;
        }))
        .await;
        let mut client = cluster.client().await;
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /next HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let text = client.rest().await;
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "the connection ends with it: {text}");
        assert!(!text.ends_with(body) || length == "9", "{text}");
        let mut client = http2_client(&cluster).await;
        assert!(ask(&mut client, get("/").body(()).unwrap(), &[]).await.is_err());
    }
}

#[tokio::test]
async fn what_a_client_does_wrong_is_not_the_servers_fault() {
    let server = Backend::plain(0, serves()).await;
    let cluster = Cluster::start_with([], |config| {
        config.clusters[1].servers[0].http[0].h2c = true;
        put(config, h2c(&[server.port]));
        let edit = HeaderEdit {
            kind: HeaderEditKind::SetOnRequest,
            name: "keep-alive".to_owned(),
            value: vec![Piece::Text("timeout=5".to_owned())],
        };
        let condition = Condition::Method(vec!["PUT".to_owned()]);
        let rule = Rule {
            regexp: None,
            condition: Some(condition),
            cache: false,
            compression: false,
            action: Action::Header(edit),
        };
        config.clusters[1].hosts[0].dispatch.insert(0, rule);
    })
    .await;
    // More trailers, and longer ones, than a body may have.
    for (count, length) in [(65, 1), (3, 3000)] {
        let client = http2_client(&cluster).await;
        let mut client = client.ready().await.unwrap();
        let post = Request::post("http://shop.example/").body(()).unwrap();
        let (answer, mut body) = client.send_request(post, false).unwrap();
        body.send_data(Bytes::from_static(b"hi"), false).unwrap();
        let mut trailers = http::HeaderMap::new();
        for _ in 0..count {
            trailers.append("x", "y".repeat(length).parse().unwrap());
        }
        body.send_trailers(trailers).unwrap();
        assert_eq!(timeout(PATIENCE, answer).await.unwrap().unwrap().status(), 400);
    }
    // A rule's header that HTTP/2 does not have.
    assert_eq!(cluster.ask("PUT /", "Content-Length: 2\r\n\r\nhi").await.status, 400);
    let answer = cluster.ask("POST /", "Content-Length: 2\r\n\r\nhi").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "it has no fail window");
    assert_eq!(cluster.web.totals().upstream_failures, 0);
}
