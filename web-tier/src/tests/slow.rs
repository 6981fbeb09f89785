//! Slow clients and many connections: each is bounded, and others are served meanwhile.

use super::{
    backend::{OnConnection, echo, raw},
    client::Client,
    cluster::Cluster,
};
use common::config::{Config, Server};
use std::{net::SocketAddr, num::NonZeroU32, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::{interval, timeout},
};

/// What a slow client is given in these tests.
const SHORT: Duration = Duration::from_millis(500);

/// Nothing takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

fn web(config: &mut Config) -> &mut Server {
    &mut config.clusters[1].servers[0]
}

/// Sends `start`, then `byte` on and on, one every few milliseconds, until the connection ends; what was answered is returned.
async fn trickle(to: SocketAddr, start: &str, byte: u8) -> String {
    let (mut from, mut into) = TcpStream::connect(to).await.unwrap().into_split();
    let mut text = Vec::new();
    let sending = async {
        let mut ticks = interval(Duration::from_millis(20));
        let mut sent = into.write_all(start.as_bytes()).await;
        while sent.is_ok() {
            ticks.tick().await;
            sent = into.write_all(&[byte]).await;
        }
        std::future::pending::<()>().await;
    };
    let receiving = async {
        let _ = from.read_to_end(&mut text).await;
    };
    let either = async {
        tokio::select! { () = sending => {} () = receiving => {} }
    };
    timeout(PATIENCE, either).await.expect("a slow client is not waited for");
    String::from_utf8_lossy(&text).into_owned()
}

/// Whether another client is served now.
async fn is_served(to: SocketAddr) -> bool {
    Client::connect(to).await.ask("GET /", "").await.status == 200
}

#[tokio::test]
async fn a_head_that_comes_a_byte_at_a_time_is_a_408() {
    let cluster = Cluster::start_with([echo("a")], |config| web(config).request_header_timeout = SHORT).await;
    let to = cluster.address();
    let mut clients = JoinSet::new();
    for start in
        ["", "GET /", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: h\r\nX-", "GET / HTTP/1.1\r\nX: "]
    {
        clients.spawn(trickle(to, start, b'a'));
    }
    // Empty lines before a request don't count as progress either.
    clients.spawn(trickle(to, "", b'\n'));
    assert!(is_served(to).await);
    for text in clients.join_all().await {
        assert!(text.starts_with("HTTP/1.1 408 ") || text.starts_with("HTTP/1.1 400 "), "{text:?}");
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text:?}");
    }
    assert!(is_served(to).await);
}

#[tokio::test]
async fn a_second_head_that_comes_a_byte_at_a_time_is_a_408() {
    let cluster = Cluster::start_with([echo("a")], |config| web(config).request_header_timeout = SHORT).await;
    let text = trickle(cluster.address(), "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /", b'a').await;
    let second = text.rfind("HTTP/1.1 ").unwrap();
    assert!(second > 0 && text[second..].starts_with("HTTP/1.1 408 "), "{text}");
}

#[tokio::test]
async fn a_body_that_stops_is_a_408() {
    let cluster = Cluster::start_with([echo("a")], |config| web(config).socket_timeout = SHORT).await;
    for head in ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let mut client = cluster.client().await;
        client.send(&format!("POST / HTTP/1.1\r\nHost: h\r\n{head}")).await;
        let text = client.rest().await;
        assert!(text.starts_with("HTTP/1.1 408 "), "{head:?}: {text:?}");
        assert!(text.to_ascii_lowercase().contains("connection: close"), "{head:?}: {text:?}");
    }
    assert!(is_served(cluster.address()).await);
}

#[tokio::test]
async fn a_body_that_comes_a_byte_at_a_time_is_a_408() {
    let cluster = Cluster::start_with([echo("a")], |config| {
        web(config).socket_timeout = SHORT;
        web(config).request_limits.rate_min = NonZeroU32::new(10_000);
    })
    .await;
    let mut clients = JoinSet::new();
    for framing in [
        "Content-Length: 10000\r\n\r\n",
        "Content-Length: 1000000\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nfffff\r\n",
    ] {
        let start: &str = format!("POST / HTTP/1.1\r\nHost: h\r\n{framing}").leak();
        clients.spawn(trickle(cluster.address(), start, b'a'));
    }
    for text in clients.join_all().await {
        assert!(text.starts_with("HTTP/1.1 408 "), "{text:?}");
    }
    assert!(is_served(cluster.address()).await);
}

#[tokio::test]
async fn a_body_that_moves_is_waited_for() {
    let cluster = Cluster::start_with([echo("a")], |config| {
        web(config).socket_timeout = SHORT * 4;
        web(config).request_limits.rate_min = None;
    })
    .await;
    let mut client = cluster.client().await;
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 40\r\n\r\n").await;
    let mut ticks = interval(Duration::from_millis(5));
    for _ in 0..40 {
        ticks.tick().await;
        client.send("x").await;
    }
    assert!(client.answer().await.body.ends_with(&"x".repeat(40)));
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_cut_off_and_its_server_hears_of_it() {
    let (ended, mut has_ended) = mpsc::unbounded_channel();
    let endless: OnConnection = raw(move |head, mut stream| {
        let ended = ended.clone();
        async move {
            if !head.starts_with("GET /endless ") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                return;
            }
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while sent.is_ok() {
                sent = stream.write_all(&[b'x'; 65536]).await;
            }
            ended.send(()).unwrap();
        }
    });
    let cluster = Cluster::start_with([endless], |config| web(config).socket_timeout = SHORT).await;
    let mut stuck = Vec::new();
    for _ in 0..20 {
        let mut client = cluster.client().await;
        client.send("GET /endless HTTP/1.1\r\nHost: h\r\n\r\n").await;
        stuck.push(client);
    }
    assert!(is_served(cluster.address()).await);
    for _ in 0..20 {
        timeout(PATIENCE, has_ended.recv()).await.expect("the server hears in time").unwrap();
    }
    assert!(is_served(cluster.address()).await);
    drop(stuck);
}

#[tokio::test]
async fn a_body_in_chunks_of_a_byte_passes() {
    let cluster = Cluster::start([echo("a")]).await;
    let mut client = cluster.client().await;
    let body = "1\r\nx\r\n".repeat(50_000);
    let answer = client.ask("POST /", &format!("Transfer-Encoding: chunked\r\n\r\n{body}0\r\n")).await;
    assert!(answer.body.ends_with(&format!("\n{}", "x".repeat(50_000))));
    assert_eq!(client.ask("GET /", "").await.status, 200, "the connection goes on");
}

#[tokio::test]
async fn requests_that_do_not_wait_for_answers_are_answered_in_order() {
    const COUNT: usize = 1000;
    let cluster = Cluster::start([echo("a")]).await;
    let (from, mut into) = cluster.client().await.0.into_split();
    let requests: String = (0..COUNT).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
    let sending = tokio::spawn(async move {
        let sent = into.write_all(requests.as_bytes()).await;
        (sent, into)
    });
    let mut reading = from;
    let mut text = Vec::new();
    let mut answered = 0;
    let mut buffer = vec![0; 65536];
    while answered < COUNT {
        let read = timeout(PATIENCE, reading.read(&mut buffer)).await.expect("answers in time").unwrap();
        assert_ne!(read, 0, "it ended after {answered} answers");
        text.extend_from_slice(&buffer[..read]);
        let whole = String::from_utf8_lossy(&text);
        while whole.contains(&format!("GET /{answered}\n")) {
            answered += 1;
        }
    }
    let whole = String::from_utf8(text).unwrap();
    let places: Vec<_> = (0..COUNT).map(|n| whole.find(&format!("GET /{n}\n")).unwrap()).collect();
    assert!(places.is_sorted());
    sending.await.unwrap().0.unwrap();
}

/// As many connections as this process may open, up to `wanted`: both ends of each are in it.
pub(super) fn affordable(wanted: usize) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    let limit = match rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    // The other tests of this process need theirs.
    (limit / 4).min(wanted)
}

#[tokio::test]
async fn thousands_of_idle_connections_leave_room_for_others() {
    let cluster = Cluster::start_with([echo("a")], |config| {
        web(config).request_header_timeout = PATIENCE;
        web(config).keepalive_timeout = PATIENCE;
    })
    .await;
    let to = cluster.address();
    let count = affordable(2000);
    let mut idle = Vec::with_capacity(count);
    for number in 0..count {
        let mut client = Client::connect(to).await;
        // Some have asked before, some never say a word.
        if number % 10 == 0 {
            assert_eq!(client.ask("GET /", "").await.status, 200);
        }
        idle.push(client);
    }
    for _ in 0..20 {
        assert!(is_served(to).await);
    }
    while cluster.web.totals().connections_open < count as u64 {
        tokio::task::yield_now().await;
    }
    for client in idle.iter_mut().step_by(97) {
        assert_eq!(client.ask("GET /", "").await.status, 200, "they can still ask");
    }
    drop(idle);
    while cluster.web.totals().connections_open > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_thousand_slow_heads_leave_room_for_others_and_are_closed() {
    let cluster =
        Cluster::start_with([echo("a")], |config| web(config).request_header_timeout = SHORT * 4).await;
    let to = cluster.address();
    let mut slow = Vec::new();
    for _ in 0..affordable(1000) {
        let mut client = Client::connect(to).await;
        client.send("GET / HTTP/1.1\r\nHost: h\r\nX: ").await;
        slow.push(client);
    }
    for _ in 0..20 {
        assert!(is_served(to).await);
    }
    for client in &mut slow {
        assert!(client.rest().await.starts_with("HTTP/1.1 408 "));
    }
}
