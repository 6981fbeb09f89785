//! Bodies: complete, or visibly broken.

use super::{
    backend::{echo, raw, says},
    cluster::Cluster,
};
use std::sync::atomic::Ordering;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

async fn whole(answer: &'static str, request: &str) -> String {
    let cluster = Cluster::start([says(answer)]).await;
    let mut client = cluster.client().await;
    client.send(request).await;
    client.rest().await
}

#[tokio::test]
async fn a_body_that_breaks_off_is_seen_to_break_off() {
    let text = whole("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort", GET).await;
    assert!(text.contains("content-length: 10\r\n") && text.ends_with("short"), "{text}");
    let text = whole("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n", GET).await;
    assert!(text.contains("transfer-encoding: chunked"), "{text}");
    assert!(text.contains("short") && !text.contains("\r\n0\r\n"), "{text}");
}

#[tokio::test]
async fn chunks_and_their_end_pass() {
    let text =
        whole("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n", GET).await;
    assert!(text.contains("5\r\nwhole\r\n") && text.ends_with("0\r\n\r\n"), "{text}");
}

#[tokio::test]
async fn padded_chunks_pass_without_their_padding() {
    for size in ["2   ", "2 ;a=b", "2\t;a", "2;"] {
        let answer =
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{size}\r\nok\r\n0  \r\n\r\n");
        let text = whole(answer.leak(), GET).await;
        assert!(text.ends_with("\r\n\r\n2\r\nok\r\n0\r\n\r\n"), "{size:?}: {text}");
    }
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_is_chunked_for_the_client() {
    let text = whole("HTTP/1.1 200 OK\r\n\r\nuntil the end", GET).await;
    assert!(text.contains("until the end") && text.ends_with("0\r\n\r\n"), "{text}");
    let text = whole("HTTP/1.1 200 OK\r\n\r\nuntil the end", "GET / HTTP/1.0\r\n\r\n").await;
    assert!(!text.contains("chunked") && text.ends_with("\r\n\r\nuntil the end"), "{text}");
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    for (answer, request) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n", GET.replace("GET", "HEAD")),
        ("HTTP/1.1 204 No Content\r\n\r\n", GET.to_owned()),
        ("HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n", GET.to_owned()),
    ] {
        let text = whole(answer, &request).await;
        assert!(text.ends_with("\r\n\r\n") && text.matches("\r\n\r\n").count() == 1, "{text}");
        assert_eq!(text.contains("content-length: 7"), answer.contains("content-length: 7"), "{text}");
    }
}

#[tokio::test]
async fn uploads_stream_with_or_without_a_length() {
    let cluster = Cluster::start([echo("a")]).await;
    let mut client = cluster.client().await;
    let answer = client.ask("PUT /", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n").await;
    assert!(
        answer.body.contains("transfer-encoding: chunked") && answer.body.ends_with("abcde"),
        "{}",
        answer.body
    );
    client.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 100);
    client.send("ok").await;
    assert!(client.answer().await.body.ends_with("ok"));
}

#[tokio::test]
async fn a_get_with_a_body_costs_the_servers_connection_and_not_the_clients() {
    let cluster = Cluster::start([echo("a")]).await;
    let connections = || cluster.backends[0].as_ref().unwrap().connections.load(Ordering::SeqCst);
    let mut client = cluster.client().await;
    // There are servers that would take the body for the next request.
    let chunked = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n";
    for (count, framed) in (1..).zip(["Content-Length: 3\r\n\r\nabc", chunked]) {
        let answer = client.ask("GET /", framed).await;
        assert!(answer.body.ends_with("abc") && !answer.has("connection: close"), "{answer:?}");
        assert_eq!(connections(), count);
    }
    for _ in 0..2 {
        assert_eq!(client.ask("GET /", "").await.status, 200);
    }
    assert_eq!(connections(), 3);
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_is_complete() {
    let early = raw(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await;
        let mut sink = Vec::new();
        let _ = stream.read_to_end(&mut sink).await;
    });
    let cluster = Cluster::start([early]).await;
    let mut client = cluster.client().await;
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nsome").await;
    assert_eq!(client.answer().await.status, 403);
}

#[tokio::test]
async fn when_the_client_goes_its_request_to_the_server_ends() {
    let (ended, mut has_ended) = mpsc::unbounded_channel();
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let silent = raw(move |_, mut stream| {
        let (ended, asked) = (ended.clone(), asked.clone());
        async move {
            asked.send(()).unwrap();
            let end = stream.read_u8().await;
            ended.send(end.is_err()).unwrap();
        }
    });
    let cluster = Cluster::start([silent]).await;
    let mut client = cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    was_asked.recv().await.unwrap();
    client.reset();
    assert_eq!(has_ended.recv().await, Some(true));
}

#[tokio::test]
async fn when_the_client_goes_in_the_middle_of_an_answer_the_server_hears() {
    let (ended, mut has_ended) = mpsc::unbounded_channel();
    let endless = raw(move |_, mut stream| {
        let ended = ended.clone();
        async move {
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while sent.is_ok() {
                sent = stream.write_all(&[b'x'; 4096]).await;
            }
            ended.send(()).unwrap();
        }
    });
    let cluster = Cluster::start([endless]).await;
    let mut client = cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    client.0.read_exact(&mut [0; 10_000]).await.unwrap();
    drop(client);
    has_ended.recv().await.unwrap();
}

#[tokio::test]
async fn a_megabyte_each_way_arrives_whole() {
    let cluster = Cluster::start([echo("a")]).await;
    let mut client = cluster.client().await;
    let body = "0123456789abcdef".repeat(64 * 1024);
    let answer = client.ask("POST /", &format!("Content-Length: {}\r\n\r\n{body}", body.len())).await;
    assert!(answer.body.ends_with(&body));
    assert_eq!(client.ask("GET /", "").await.status, 200, "the connection goes on");
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let cluster = Cluster::start([echo("a")]).await;
    let mut client = cluster.client().await;
    client.send("POST /%zz HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n").await;
    client.send(&"x".repeat(1_000_000)).await;
    assert!(client.rest().await.starts_with("HTTP/1.1 400 "));
}
