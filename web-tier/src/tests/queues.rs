//! Requests whose server has no socket for them: they never left, so another server may have one.

use super::{
    backend::{Backend, OnConnection, echo, http, raw},
    client::{Answer, Client},
    cluster::Cluster,
    foreign::{cookies, inserted, proxy, put},
};
use common::config::{Config, HttpProxy, Server};
use http::Response;
use http_body_util::Full;
use std::{future::pending, time::Duration};
use tokio::{
    io::AsyncReadExt,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

/// Nothing takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

const SHORT: Duration = Duration::from_millis(300);

/// Home is app-a.
const AT_A: &str = "Cookie: JSESSIONID=aaX\r\n";

/// A server that never answers, and tells of each request.
fn hangs() -> (OnConnection, UnboundedReceiver<()>) {
    let (asked, was_asked) = unbounded_channel();
    let hangs = raw(move |_, mut stream| {
        let asked = asked.clone();
        async move {
            let _ = asked.send(());
            let _ = stream.read_u8().await;
        }
    });
    (hangs, was_asked)
}

fn app(config: &mut Config, index: usize) -> &mut Server {
    &mut config.clusters[0].servers[index]
}

/// Waits until so many requests are under way. A `GET` that is counted has its place in the queue: nothing comes between.
async fn active(cluster: &Cluster, count: u64) {
    let waiting = async {
        while cluster.web.totals().requests_active != count {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("what is waited for comes in time");
}

/// Takes the only socket of a server with `headers` that lead there.
async fn occupy(cluster: &Cluster, headers: &str, was_asked: &mut UnboundedReceiver<()>) -> Client {
    let client = send(cluster, headers).await;
    timeout(PATIENCE, was_asked.recv()).await.expect("asked in time").unwrap();
    client
}

async fn send(cluster: &Cluster, headers: &str) -> Client {
    let mut client = cluster.client().await;
    client.send(&format!("GET / HTTP/1.1\r\nHost: h\r\n{headers}\r\n")).await;
    client
}

fn by(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body.lines().next().unwrap_or_default())
}

#[tokio::test]
async fn whom_a_full_queue_turns_away_another_server_takes() {
    let (hanging, mut was_asked) = hangs();
    let cluster = Cluster::start_with([hanging, echo("b")], |config| {
        (app(config, 0).connection_max, app(config, 0).queue_timeout) = (1, PATIENCE * 10);
    })
    .await;
    let _served = occupy(&cluster, AT_A, &mut was_asked).await;
    let _queued = send(&cluster, AT_A).await;
    active(&cluster, 2).await;
    let answer = cluster.ask("POST /", &format!("{AT_A}Content-Length: 5\r\n\r\nhello")).await;
    assert_eq!(by(&answer), (200, "b"), "its session is on the hub");
    assert!(answer.body.ends_with("hello"), "{}", answer.body);
    // These belong nowhere, and it is app-a's turn again and again: more often than the budget for retries would allow.
    let mut client = cluster.client().await;
    for _ in 0..50 {
        assert_eq!(by(&client.ask("DELETE /", "").await), (200, "b"));
    }
    let totals = cluster.web.totals();
    assert_eq!((totals.queue_refusals, totals.upstream_failures), (0, 0));
    assert!(totals.retries > 30, "{}", totals.retries);
}

#[tokio::test]
async fn when_all_queues_are_full_it_is_a_503() {
    let ((one, mut one_asked), (two, mut two_asked)) = (hangs(), hangs());
    let cluster = Cluster::start_with([one, two], |config| {
        for index in 0..2 {
            (app(config, index).connection_max, app(config, index).queue_timeout) = (1, PATIENCE * 10);
        }
    })
    .await;
    let _served = occupy(&cluster, AT_A, &mut one_asked).await;
    let at_b = "Cookie: JSESSIONID=baX\r\n";
    let _served_too = occupy(&cluster, at_b, &mut two_asked).await;
    let (_queued, _queued_too) = (send(&cluster, AT_A).await, send(&cluster, at_b).await);
    active(&cluster, 4).await;
    for headers in ["", AT_A] {
        let answer = cluster.ask("GET /", headers).await;
        assert_eq!(answer.status, 503);
        assert!(answer.has("retry-after: 1"), "{}", answer.head);
        assert!(answer.body.contains("all connections"), "{}", answer.body);
    }
    assert_eq!(cluster.web.totals().queue_refusals, 2);
}

#[tokio::test]
async fn who_has_queued_in_vain_goes_where_a_socket_is_free_and_queues_no_more() {
    let ((one, mut one_asked), (two, mut two_asked)) = (hangs(), hangs());
    let cluster = Cluster::start_with([one, two, echo("c")], |config| {
        (app(config, 0).connection_max, app(config, 0).queue_timeout) = (1, SHORT);
        (app(config, 1).connection_max, app(config, 1).queue_timeout) = (1, PATIENCE * 10);
    })
    .await;
    let _served = occupy(&cluster, AT_A, &mut one_asked).await;
    let _served_too = occupy(&cluster, "Cookie: JSESSIONID=baX\r\n", &mut two_asked).await;
    // In their turn or by their backup some come to app-b: it has room in its queue, and they do not wait there.
    for id in 0..4 {
        let headers = format!("Cookie: JSESSIONID=aaX{id}\r\nContent-Length: 2\r\n\r\nhi");
        let answer = cluster.ask("POST /", &headers).await;
        assert_eq!(by(&answer), (200, "c"));
        assert!(answer.body.ends_with("hi"), "{}", answer.body);
    }
    assert_eq!(cluster.web.totals().queue_refusals, 0);
}

#[tokio::test]
async fn a_foreign_backends_session_waits_for_it_and_goes_nowhere_else() {
    let (asked, mut was_asked) = unbounded_channel();
    let one = http(move |request| {
        let asked = asked.clone();
        async move {
            if request.uri() == "/slow" {
                let _ = asked.send(());
                pending::<()>().await;
            }
            Response::new(Full::from("one"))
        }
    });
    let (one, two) = (Backend::plain(0, one).await, Backend::plain(0, echo("two")).await);
    let cookie = inserted("SRV");
    let rule = proxy(&[one.port, two.port]);
    let rule = HttpProxy { cookie, connection_max: 1, queue_timeout: SHORT, ..rule };
    let cluster = Cluster::start_with([], |config| put(config, rule)).await;
    let first = cluster.ask("GET /", "").await;
    assert_eq!(by(&first), (200, "one"));
    let cookie = cookies(&first);
    let mut slow = cluster.client().await;
    slow.send(&format!("GET /slow HTTP/1.1\r\nHost: h\r\n{cookie}\r\n")).await;
    timeout(PATIENCE, was_asked.recv()).await.expect("asked in time").unwrap();
    let answer = cluster.ask("GET /", &cookie).await;
    assert_eq!(answer.status, 503);
    assert!(answer.has("retry-after: 1") && !answer.head.contains("set-cookie"), "{}", answer.head);
    assert_eq!(cluster.web.totals().queue_refusals, 1);
    for _ in 0..2 {
        assert_eq!(by(&cluster.ask("GET /", "").await), (200, "two"), "who belongs nowhere goes there");
    }
}
