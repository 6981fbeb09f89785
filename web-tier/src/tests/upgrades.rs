//! Changes of protocols, interim answers, and bodies that a server has to ask for.

use super::{
    backend::{echo, raw},
    cluster::Cluster,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
const YES: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[tokio::test]
async fn after_101_bytes_pass_both_ways_and_each_side_can_end() {
    let backend = raw(|head, mut stream| async move {
        assert!(head.to_ascii_lowercase().contains("connection: upgrade\r\nupgrade: websocket"), "{head}");
        assert!(head.contains("Sec-WebSocket-Key: k"), "{head}");
        // Its first words come with the head.
        stream.write_all(&[YES, b"hello "].concat()).await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        heard.reverse();
        stream.write_all(&heard).await.unwrap();
    });
    let cluster = Cluster::start([backend]).await;
    let mut client = cluster.client().await;
    // Sent before anyone agreed: held back until 101, and not lost.
    client.send(&format!("{ASK}abc")).await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.has("upgrade: websocket"), answer.has("connection: Upgrade")),
        (101, true, true)
    );
    client.send("def").await;
    client.0.shutdown().await.unwrap();
    assert_eq!(client.rest().await, "hello fedcba");
}

#[tokio::test]
async fn without_101_there_is_no_tunnel() {
    let cluster = Cluster::start([echo("a")]).await;
    let mut client = cluster.client().await;
    client.send(&format!("{ASK}GET /next HTTP/1.1\r\nHost: h\r\n\r\n")).await;
    let (first, second) = (client.answer().await, client.answer().await);
    assert!(first.body.contains("GET /ws") && !first.body.contains("/next"), "{}", first.body);
    assert!(second.body.contains("GET /next"), "what followed was a request: {}", second.body);
}

#[tokio::test]
async fn a_tunnel_ends_when_the_hub_says_that_the_server_is_gone() {
    let backend = raw(|_, mut stream| async move {
        stream.write_all(YES).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let cluster = Cluster::start([backend]).await;
    let mut client = cluster.client().await;
    client.send(ASK).await;
    assert_eq!(client.answer().await.status, 101);
    cluster.member(0, proto::hub::v1::MemberState::Down, 1);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn interim_answers_pass() {
    let backend = raw(|_, mut stream| async move {
        let words = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(words.as_bytes()).await.unwrap();
        let _ = stream.read_u8().await;
    });
    let cluster = Cluster::start([backend]).await;
    let mut client = cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let hints = client.answer().await;
    assert!(hints.status == 103 && hints.has("link: </a.css>"), "{}", hints.head);
    assert_eq!(client.answer().await.body, "ok");
    client.send("GET / HTTP/1.0\r\nHost: h\r\n\r\n").await;
}

#[tokio::test]
async fn an_http_1_0_client_sees_no_interim_answer() {
    let backend = raw(|_, mut stream| async move {
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\nto the end").await.unwrap();
    });
    let cluster = Cluster::start([backend]).await;
    let mut client = cluster.client().await;
    client.send("GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n").await;
    let text = client.rest().await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\nto the end"), "{text}");
    assert!(text.contains("connection: close") && !text.contains("chunked"), "{text}");
}

#[tokio::test]
async fn a_flood_of_interim_answers_is_a_502() {
    let backend = raw(|_, mut stream| async move {
        let _ = stream.write_all("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000).as_bytes()).await;
        let _ = stream.read_u8().await;
    });
    let cluster = Cluster::start([backend]).await;
    let mut client = cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut statuses = Vec::new();
    while statuses.last() != Some(&502) {
        statuses.push(client.answer().await.status);
        assert!(statuses.len() <= 17, "{statuses:?}");
    }
}

#[tokio::test]
async fn a_client_that_expects_100_continue_hears_it_from_the_server() {
    let backend = raw(|head, mut stream| async move {
        assert!(head.contains("Expect: 100-continue"), "{head}");
        if head.starts_with("POST /no") {
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        } else {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            let mut body = [0; 4];
            stream.read_exact(&mut body).await.unwrap();
            assert_eq!(&body, b"body");
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                .await
                .unwrap();
        }
        let _ = stream.read_u8().await;
    });
    let cluster = Cluster::start([backend]).await;
    let mut client = cluster.client().await;
    let post = |path| {
        format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    };
    client.send(&post("/yes")).await;
    assert_eq!(client.answer().await.status, 100);
    client.send("body").await;
    assert_eq!(client.answer().await.status, 200);
    client.send(&post("/no")).await;
    assert_eq!(client.answer().await.status, 403);
    assert_eq!(client.rest().await, "", "the body was not read: the connection closes");
}

#[tokio::test]
async fn a_101_to_a_request_whose_upgrade_was_not_passed_on_is_a_502() {
    for asked in [
        "Connection: Upgrade\r\nUpgrade: h2c",
        "Connection: Upgrade",
        "Connection: Upgrade\r\nUpgrade: a\r\nUpgrade: b",
    ] {
        let backend = raw(|head, mut stream| async move {
            assert!(!head.to_ascii_lowercase().contains("upgrade"), "{head}");
            stream.write_all(&[YES, b"evil"].concat()).await.unwrap();
            let _ = stream.read_u8().await;
        });
        let cluster = Cluster::start([backend]).await;
        let mut client = cluster.client().await;
        client.send(&format!("GET / HTTP/1.1\r\nHost: h\r\n{asked}\r\n\r\n")).await;
        assert_eq!(client.answer().await.status, 502, "{asked}");
    }
}
