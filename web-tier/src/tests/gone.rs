//! The hub says that a server is gone while requests wait for it: frozen, cut off, or replaced by a new process.

use super::{
    backend::{OnConnection, echo, raw},
    cluster::Cluster,
};
use proto::hub::v1::{Member, MemberState};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::{Semaphore, mpsc},
};

/// Home is app-a.
const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\nCookie: JSESSIONID=aaX\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: h\r\nCookie: JSESSIONID=aaX\r\nContent-Length: 0\r\n\r\n";

/// Sends `words` and then is silent; tells when it was asked.
fn frozen(words: &'static str) -> (OnConnection, mpsc::UnboundedReceiver<()>) {
    let (asked, was_asked) = mpsc::unbounded_channel();
    let backend = raw(move |_, mut stream| {
        let asked = asked.clone();
        async move {
            let _ = stream.write_all(words.as_bytes()).await;
            asked.send(()).unwrap();
            let _ = stream.read_u8().await;
        }
    });
    (backend, was_asked)
}

#[tokio::test]
async fn a_get_that_waits_for_a_server_that_is_down_goes_to_another() {
    let (backend, mut was_asked) = frozen("");
    let cluster = Cluster::start([backend, echo("b")]).await;
    let (mut client, mut second) = (cluster.client().await, cluster.client().await);
    client.send(GET).await;
    second.send(GET).await;
    was_asked.recv().await.unwrap();
    was_asked.recv().await.unwrap();
    cluster.member(0, MemberState::Down, 1);
    for client in [&mut client, &mut second] {
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.body.lines().next()), (200, Some("b")));
    }
    assert_eq!(client.ask("GET /", "Cookie: JSESSIONID=aaX\r\n").await.status, 200, "the connection goes on");
    let totals = cluster.web.totals();
    assert_eq!((totals.retries, totals.upstream_failures), (2, 2));
}

#[tokio::test]
async fn a_post_that_waits_for_a_server_that_is_down_is_a_502() {
    let (backend, mut was_asked) = frozen("");
    let cluster = Cluster::start([backend, echo("b")]).await;
    let mut client = cluster.client().await;
    client.send(POST).await;
    was_asked.recv().await.unwrap();
    cluster.member(0, MemberState::Down, 1);
    assert_eq!(client.answer().await.status, 502);
    assert_eq!(client.ask("GET /", "").await.status, 200, "the connection goes on");
}

#[tokio::test]
async fn the_socket_to_a_server_that_is_down_is_closed() {
    let (closed, mut was_closed) = mpsc::unbounded_channel();
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let backend = raw(move |_, mut stream| {
        let (asked, closed) = (asked.clone(), closed.clone());
        async move {
            asked.send(()).unwrap();
            let end = stream.read_u8().await;
            closed.send(end.is_err()).unwrap();
        }
    });
    let cluster = Cluster::start([backend]).await;
    let mut client = cluster.client().await;
    client.send(GET).await;
    was_asked.recv().await.unwrap();
    cluster.member(0, MemberState::Down, 1);
    assert_eq!(client.answer().await.status, 502, "there is no other server");
    assert_eq!(was_closed.recv().await, Some(true));
    assert_eq!(client.ask("GET /", "").await.status, 503);
}

#[tokio::test]
async fn an_upload_under_way_to_a_server_that_is_down_is_a_502() {
    let (backend, mut was_asked) = frozen("");
    let cluster = Cluster::start([backend, echo("b")]).await;
    let mut client = cluster.client().await;
    client.send(&POST.replace("Length: 0", "Length: 1000000")).await;
    client.send("some").await;
    was_asked.recv().await.unwrap();
    cluster.member(0, MemberState::Down, 1);
    assert_eq!(client.answer().await.status, 502);
}

#[tokio::test]
async fn an_answer_of_a_server_that_is_down_is_seen_to_break_off() {
    for words in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhalf",
    ] {
        let (backend, mut was_asked) = frozen(words);
        let cluster = Cluster::start([backend, echo("b")]).await;
        let mut client = cluster.client().await;
        client.send(GET).await;
        was_asked.recv().await.unwrap();
        let mut start = Vec::new();
        while !start.ends_with(b"half") {
            start.push(client.0.read_u8().await.unwrap());
        }
        cluster.member(0, MemberState::Down, 1);
        let rest = client.rest().await;
        assert!(matches!(rest.as_str(), "" | "\r\n"), "{words:?}: {rest:?}");
    }
}

#[tokio::test]
async fn a_request_to_a_process_that_was_replaced_is_asked_of_the_new_one() {
    let waited = Arc::new(AtomicUsize::new(0));
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let backend = raw(move |head, mut stream| {
        let (waits, asked) = (head.starts_with("GET / "), asked.clone());
        let first = waits && waited.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                asked.send(()).unwrap();
                let _ = stream.read_u8().await;
            }
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\nnew";
            let _ = stream.write_all(answer).await;
        }
    });
    let cluster = Cluster::start([backend, echo("b")]).await;
    let picture = |started_ms| {
        let member = |id: &str, state: MemberState| {
            let mut member = Member { id: id.to_owned(), started_ms, ..Member::default() };
            member.set_state(state);
            member
        };
        Arc::new(vec![member("app-a", MemberState::Active), member("app-b", MemberState::Standby)])
    };
    cluster.members.send_replace(picture(1));
    // The picture has been seen once app-b gets nothing any more.
    let mut client = cluster.client().await;
    while client.ask("GET /b", "Cookie: JSESSIONID=baX\r\n").await.body.starts_with('b') {}
    client.send(GET).await;
    was_asked.recv().await.unwrap();
    cluster.members.send_replace(picture(2));
    assert_eq!(client.answer().await.body, "new");
}

#[tokio::test]
async fn a_server_that_stops_gracefully_answers_what_it_has() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let backend = raw(move |_, mut stream| {
        let (gate, asked) = (gate.clone(), asked.clone());
        async move {
            asked.send(()).unwrap();
            gate.acquire().await.unwrap().forget();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    });
    let cluster = Cluster::start([backend, echo("b")]).await;
    let mut client = cluster.client().await;
    client.send(POST).await;
    was_asked.recv().await.unwrap();
    cluster.member(0, MemberState::Standby, 1);
    // Once a new request goes elsewhere, the word has been heard.
    let mut others = cluster.client().await;
    assert!(others.ask("GET /", "Cookie: JSESSIONID=baX\r\n").await.body.starts_with('b'));
    opened.add_permits(1);
    assert_eq!(client.answer().await.body, "ok");
}

#[tokio::test]
async fn a_request_that_waits_for_a_connect_to_a_server_that_is_down_goes_to_another() {
    let mut cluster = Cluster::start_with([echo("a"), echo("b")], |config| {
        config.clusters[0].servers[0].connect_timeout = Duration::from_secs(600);
    })
    .await;
    let port = cluster.kill(0).await;
    // It accepts, and never says a word of the handshake.
    let frozen = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let mut client = cluster.client().await;
    client.send(POST).await;
    let _accepted = frozen.accept().await.unwrap();
    cluster.member(0, MemberState::Down, 1);
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.lines().next()), (200, Some("b")), "it never left");
}
