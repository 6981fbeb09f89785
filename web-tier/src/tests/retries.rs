//! What is tried again, and what never is.

use super::{
    backend::{echo, http, raw, says},
    cluster::Cluster,
};
use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

/// Home is app-a.
const AT_A: &str = "Cookie: JSESSIONID=aaX\r\n";

const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";
const NOT_PROCESSED: &str =
    "HTTP/1.1 503 Service Unavailable\r\ncopal-not-processed: 1\r\ncontent-length: 4\r\n\r\nbusy";

fn counted_echo(name: &'static str) -> (super::backend::OnConnection, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let backend = http(move |request| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Response::new(Full::from(format!("{name} {}", String::from_utf8_lossy(&body))))
        }
    });
    (backend, count)
}

#[tokio::test]
async fn a_post_that_never_left_goes_to_another_server_with_its_body() {
    let mut cluster = Cluster::start([echo("a"), echo("b")]).await;
    cluster.kill(0).await;
    let answer = cluster.ask("POST /", &format!("{AT_A}Content-Length: 5\r\n\r\nhello")).await;
    assert_eq!((answer.status, answer.body.lines().next()), (200, Some("b")));
    assert!(answer.body.ends_with("hello"), "{}", answer.body);
}

#[tokio::test]
async fn a_post_that_was_sent_is_never_sent_again() {
    let (other, seen) = counted_echo("b");
    let dies = raw(|_, mut stream| async move {
        let mut body = [0; 5];
        let _ = stream.read_exact(&mut body).await;
    });
    let cluster = Cluster::start([dies, other]).await;
    let answer = cluster.ask("POST /", &format!("{AT_A}Content-Length: 5\r\n\r\nhello")).await;
    assert_eq!((answer.status, seen.load(Ordering::SeqCst)), (502, 0));
    // Without a body it is no safer.
    let answer = cluster.ask("POST /", &format!("{AT_A}Content-Length: 0\r\n")).await;
    assert!(answer.status == 502 || answer.body.starts_with('b'), "{}", answer.status);
}

#[tokio::test]
async fn a_get_whose_server_dies_is_sent_once_more() {
    let (other, seen) = counted_echo("b");
    let cluster = Cluster::start([says(""), other]).await;
    let answer = cluster.ask("GET /", AT_A).await;
    assert_eq!((answer.status, answer.body.as_str(), seen.load(Ordering::SeqCst)), (200, "b ", 1));
}

#[tokio::test]
async fn a_get_whose_server_dies_behind_the_answers_head_is_sent_once_more() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n",
    ] {
        let (other, seen) = counted_echo("b");
        let cluster = Cluster::start([says(head), other]).await;
        let mut client = cluster.client().await;
        client.send(&format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{AT_A}\r\n")).await;
        let text = client.rest().await;
        assert!(text.ends_with("\r\n\r\nb ") && text.matches("200 OK").count() == 1, "{head:?}: {text:?}");
        assert_eq!(seen.load(Ordering::SeqCst), 1);
        let totals = cluster.web.totals();
        assert_eq!((totals.retries, totals.upstream_failures), (1, 1));
        // Not what may have done something.
        let (other, seen) = counted_echo("b");
        let cluster = Cluster::start([says(head), other]).await;
        client = cluster.client().await;
        client.send(&format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n{AT_A}\r\n")).await;
        let text = client.rest().await;
        assert!(text.contains("200 OK") && text.ends_with("\r\n\r\n"), "the head, and no more: {text:?}");
        assert_eq!(seen.load(Ordering::SeqCst), 0);
    }
    let cluster =
        Cluster::start([(); 3].map(|()| says("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"))).await;
    let mut client = cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(client.rest().await.ends_with("\r\n\r\n"), "the second one's answer passes through");
    assert_eq!(cluster.web.totals().retries, 1);
}

#[tokio::test]
async fn an_answer_that_is_no_more_than_its_head_or_a_stream_is_not_asked_for_again() {
    for (method, answer) in [
        (
            "GET",
            "HTTP/1.1 200 OK\r\ncontent-type: Text/Event-Stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\ncontent-type: application/grpc+proto\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
        ("GET", "HTTP/1.1 200 OK\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"),
    ] {
        let cluster = Cluster::start([says(answer), echo("b")]).await;
        let mut client = cluster.client().await;
        client.send(&format!("{method} / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{AT_A}\r\n")).await;
        let text = client.rest().await;
        assert!(text.starts_with("HTTP/1.1 20") && text.ends_with("\r\n"), "{answer:?}: {text:?}");
        assert_eq!(cluster.web.totals().retries, 0, "{answer:?}");
    }
}

#[tokio::test]
async fn a_head_does_not_wait_for_a_body_that_takes_its_time() {
    let (finish, may_finish) = mpsc::unbounded_channel::<()>();
    let may_finish = Arc::new(tokio::sync::Mutex::new(may_finish));
    let backend = raw(move |_, mut stream| {
        let may_finish = may_finish.clone();
        async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await.unwrap();
            may_finish.lock().await.recv().await.unwrap();
            stream.write_all(b"ok").await.unwrap();
        }
    });
    let cluster = Cluster::start([backend]).await;
    let mut client = cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.0.read_u8().await.unwrap());
    }
    finish.send(()).unwrap();
    assert_eq!((client.0.read_u8().await.unwrap(), client.0.read_u8().await.unwrap()), (b'o', b'k'));
}

#[tokio::test]
async fn a_body_that_comes_behind_its_head_is_whole() {
    let sizes = [1, 255, 1023, 1024, 16_384, 100_000];
    let backend = raw(|head, mut stream| async move {
        let size: usize = head.split(['/', ' ']).find_map(|word| word.parse().ok()).unwrap();
        let body: String = ('a'..='z').cycle().take(size).collect();
        let chunked = head.contains("x-chunked");
        let (length, body) = match chunked {
            true => ("transfer-encoding: chunked".to_owned(), format!("{size:x}\r\n{body}\r\n0\r\n\r\n")),
            false => (format!("content-length: {size}"), body),
        };
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n").as_bytes()).await;
        tokio::task::yield_now().await;
        let _ = stream.write_all(body.as_bytes()).await;
    });
    let cluster = Cluster::start([backend]).await;
    for size in sizes {
        let body: String = ('a'..='z').cycle().take(size).collect();
        assert_eq!(cluster.ask(&format!("GET /{size}"), "").await.body, body);
        let mut client = cluster.client().await;
        // Without chunks, as the client does not know them.
        client.send(&format!("GET /{size} HTTP/1.0\r\nHost: h\r\nX-Chunked: 1\r\n\r\n")).await;
        assert_eq!(client.rest().await.split_once("\r\n\r\n").unwrap().1, body);
    }
    assert_eq!(cluster.web.totals().retries, 0);
}

#[tokio::test]
async fn a_get_that_kills_every_server_stops_after_the_second() {
    let cluster = Cluster::start([says(""), says(""), says("")]).await;
    let answer = cluster.ask("GET /", AT_A).await;
    assert_eq!(answer.status, 502);
    let asked: usize =
        cluster.backends.iter().flatten().map(|backend| backend.connections.load(Ordering::SeqCst)).sum();
    assert_eq!(asked, 2);
}

#[tokio::test]
async fn a_request_that_no_app_saw_goes_to_another_server() {
    let (other, seen) = counted_echo("b");
    let cluster = Cluster::start([says(NOT_PROCESSED), other]).await;
    let answer = cluster.ask("DELETE /x", AT_A).await;
    assert_eq!((answer.status, seen.load(Ordering::SeqCst)), (200, 1));
}

#[tokio::test]
async fn a_server_whose_machine_is_short_of_something_is_not_blamed() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let short = http(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        let answer = Response::builder().status(503).header("copal-not-processed", "short");
        async { answer.body(Full::default()).unwrap() }
    });
    let cluster = Cluster::start([short, echo("b")]).await;
    for count in 1..=5 {
        assert_eq!(cluster.ask("DELETE /x", AT_A).await.status, 200, "elsewhere");
        assert_eq!(asked.load(Ordering::SeqCst), count, "its users come back to it at once");
    }
}

#[tokio::test]
async fn an_app_that_is_stopped_is_told_as_it_is_and_no_server_is_blamed() {
    let stopped = http(|request| async move {
        let is_stopped = request.uri().path() == "/stopped";
        let answer = Response::builder().status(if is_stopped { 503 } else { 200 });
        let answer = answer.header("copal-not-processed", "stopped").header("retry-after", "60");
        answer.body(Full::from("a")).unwrap()
    });
    let (other, seen) = counted_echo("b");
    let cluster = Cluster::start([stopped, other]).await;
    for _ in 0..5 {
        let answer = cluster.ask("GET /stopped", AT_A).await;
        assert!(answer.status == 503 && answer.has("retry-after: 60"), "{}", answer.head);
        assert!(!answer.has("copal-not-processed: stopped"), "{}", answer.head);
        assert_eq!(cluster.ask("GET /", AT_A).await.body, "a", "it goes on with its other apps");
    }
    assert_eq!((seen.load(Ordering::SeqCst), cluster.web.totals().retries), (0, 0));
}

#[tokio::test]
async fn a_503_is_tried_elsewhere_once_if_that_is_safe() {
    let (other, seen) = counted_echo("b");
    let cluster = Cluster::start([says(UNAVAILABLE), other]).await;
    assert_eq!(cluster.ask("DELETE /x", AT_A).await.status, 503);
    assert_eq!(seen.load(Ordering::SeqCst), 0);
    assert_eq!(cluster.ask("GET /x", AT_A).await.status, 200);
    let cluster = Cluster::start([says(UNAVAILABLE), says(UNAVAILABLE), echo("c")]).await;
    let answer = cluster.ask("GET /", AT_A).await;
    if answer.status == 503 {
        assert_eq!(answer.body, "busy", "the second one's answer passes through");
        assert_eq!(cluster.web.totals().retries, 1);
    } else {
        assert!(answer.body.starts_with('c'));
    }
}

#[tokio::test]
async fn the_socket_of_an_answer_that_nobody_wants_is_used_again() {
    let busy = http(|_| async {
        let answer = Response::builder().status(503).header("copal-not-processed", "1");
        answer.body(Full::from("busy".repeat(1000))).unwrap()
    });
    let cluster = Cluster::start([busy, echo("b")]).await;
    for _ in 0..10 {
        assert_eq!(cluster.ask("GET /", AT_A).await.status, 200);
    }
    let connections = cluster.backends[0].as_ref().unwrap().connections.load(Ordering::SeqCst);
    assert_eq!(connections, 1);
}

#[tokio::test]
async fn when_no_server_can_be_reached_the_client_may_come_back() {
    let mut cluster = Cluster::start([echo("a"), echo("b")]).await;
    cluster.kill(0).await;
    cluster.kill(1).await;
    let answer = cluster.ask("GET /", "").await;
    assert_eq!(answer.status, 503);
    assert!(answer.has("retry-after: 1"), "{}", answer.head);
    assert!(!answer.body.contains("127.0.0.1") && !answer.body.contains("app-"), "{}", answer.body);
}

#[tokio::test]
async fn a_socket_that_went_stale_is_replaced_without_a_word() {
    // Answers once on a connection, then closes it without saying so.
    let once = says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let cluster = Cluster::start([once]).await;
    let mut client = cluster.client().await;
    for _ in 0..20 {
        let answer = client.ask("POST /", "Content-Length: 0\r\n").await;
        assert!(answer.status == 200 || answer.status == 502, "{}", answer.status);
    }
    assert!(cluster.web.totals().answers[2] >= 10, "{:?}", cluster.web.totals());
}

/// Answers the first request of a connection, reads the second and closes without a word.
fn closes_at_the_second() -> super::backend::OnConnection {
    raw(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        let _ = stream.read(&mut [0; 4096]).await;
    })
}

#[tokio::test]
async fn a_get_on_a_socket_that_went_stale_is_sent_again_on_a_fresh_one() {
    let cluster = Cluster::start([closes_at_the_second()]).await;
    let mut client = cluster.client().await;
    for line in ["GET /", "GET /", "OPTIONS /", "GET /"] {
        assert_eq!(client.ask(line, "").await.status, 200);
    }
    let totals = cluster.web.totals();
    assert_eq!((totals.retries, totals.upstream_failures), (3, 0), "a stale socket is no failure");
    let connections = cluster.backends[0].as_ref().unwrap().connections.load(Ordering::SeqCst);
    assert_eq!(connections, 4);
}

#[tokio::test]
async fn a_post_on_a_socket_that_went_stale_is_not_sent_again() {
    let cluster = Cluster::start([closes_at_the_second()]).await;
    let mut client = cluster.client().await;
    assert_eq!(client.ask("GET /", "").await.status, 200);
    assert_eq!(client.ask("POST /", "Content-Length: 0\r\n").await.status, 502);
    let connections = cluster.backends[0].as_ref().unwrap().connections.load(Ordering::SeqCst);
    assert_eq!((connections, cluster.web.totals().retries), (1, 0));
}

#[tokio::test]
async fn a_get_that_closes_every_socket_is_sent_twice_at_most() {
    let cluster = Cluster::start([raw(|head, mut stream| async move {
        if head.starts_with("GET /ok ") {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            let _ = stream.read(&mut [0; 4096]).await;
        }
    })])
    .await;
    let mut client = cluster.client().await;
    assert_eq!(client.ask("GET /ok", "").await.status, 200);
    assert_eq!(client.ask("GET /bad", "").await.status, 502);
    let connections = cluster.backends[0].as_ref().unwrap().connections.load(Ordering::SeqCst);
    assert_eq!((connections, cluster.web.totals().retries), (2, 1));
}

#[tokio::test]
async fn a_request_is_the_same_when_it_is_sent_again() {
    let (head, mut first) = mpsc::unbounded_channel();
    let dies = raw(move |text, _| {
        head.send(text).unwrap();
        async {}
    });
    let cluster = Cluster::start([dies, echo("b")]).await;
    let headers =
        format!("{AT_A}Connection: x-hop\r\nX-Hop: 1\r\nX-Real-IP: 6.6.6.6\r\nX-A: 1\r\nX-A: 2\r\n");
    let answer = cluster.ask("GET /a?b", &headers).await;
    let first = first.recv().await.unwrap();
    let lines = |text: &str| {
        let mut lines: Vec<_> =
            text.lines().skip(1).filter(|it| !it.is_empty()).map(str::to_ascii_lowercase).collect();
        lines.sort();
        lines
    };
    let again = answer.body.strip_prefix("b\n").expect("the second server's answer");
    assert!(again.starts_with("GET /a?b\n"), "{again}");
    assert_eq!(lines(&first), lines(again));
    assert!(lines(again).iter().any(|line| line.starts_with("x-request-id: ")), "{again}");
}

#[tokio::test]
async fn when_a_server_dies_with_its_sockets_a_get_still_finds_another() {
    let mut cluster = Cluster::start([echo("a"), echo("b")]).await;
    let mut client = cluster.client().await;
    assert!(client.ask("GET /", AT_A).await.body.starts_with('a'));
    cluster.kill(0).await;
    let answer = client.ask("GET /", AT_A).await;
    assert_eq!((answer.status, answer.body.lines().next()), (200, Some("b")));
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_502() {
    let cluster = Cluster::start([says("SSH-2.0-x\r\n\r\n")]).await;
    assert_eq!(cluster.ask("GET /", "").await.status, 502);
    let cluster = Cluster::start([says(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    )])
    .await;
    assert_eq!(cluster.ask("GET /", "").await.status, 502);
}

#[tokio::test]
async fn bytes_are_collected() {
    let (backend, _) = counted_echo("a");
    let cluster = Cluster::start([backend]).await;
    let answer = cluster.ask("POST /", "Content-Length: 3\r\n\r\nabc").await;
    assert_eq!(Bytes::from(answer.body), "a abc");
}

#[tokio::test]
async fn an_answer_from_the_memory_of_a_server_that_is_cut_off_is_not_given() {
    let alone = "HTTP/1.1 200 OK\r\ncopal-hub-age: 5000\r\ncontent-length: 3\r\n\r\nold";
    let cluster = Cluster::start([says(alone), says(alone)]).await;
    let (never, old) = (cluster.ask("GET /", "").await, "old");
    assert_eq!(
        (never.status, never.body.as_str()),
        (200, old),
        "the hub was never heard: nobody knows better"
    );
    cluster.heard.note(Instant::now());
    for line in ["GET /", "POST /"] {
        let refused = cluster.ask(line, "").await;
        assert_eq!(refused.status, 503, "{line}");
        assert!(!refused.body.contains(old) && !refused.head.contains("copal-hub-age"), "{line}");
    }
    let cluster = Cluster::start([says(alone), echo("b")]).await;
    cluster.heard.note(Instant::now());
    for _ in 0..4 {
        assert!(cluster.ask("GET /", "").await.body.starts_with("b\n"));
    }
}
