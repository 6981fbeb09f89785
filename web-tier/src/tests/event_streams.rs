//! Answers that come piece by piece: each is with the client before the server has made the next one.

use super::{
    backend::{OnConnection, raw},
    client::Client,
    cluster::Cluster,
    http2,
};
use std::{future::poll_fn, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Mutex, mpsc},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);

const EVENTS: [&str; 4] = ["data: 0\n\n", "data: 1\n\n", ":\n\n", "id: 7\ndata: the last\n\n"];

/// A backend that sends `head`, and each event only when it is asked for by the test; in chunks or as they are.
fn produces(head: &'static str, chunked: bool) -> (mpsc::UnboundedSender<()>, OnConnection) {
    let (next, wanted) = mpsc::unbounded_channel();
    let wanted = Arc::new(Mutex::new(wanted));
    let backend = raw(move |_, mut stream| {
        let wanted = wanted.clone();
        async move {
            stream.write_all(head.as_bytes()).await.unwrap();
            for event in EVENTS {
                wanted.lock().await.recv().await.unwrap();
                let bytes =
                    if chunked { format!("{:x}\r\n{event}\r\n", event.len()) } else { event.to_owned() };
                stream.write_all(bytes.as_bytes()).await.unwrap();
            }
            if chunked {
                stream.write_all(b"0\r\n\r\n").await.unwrap();
            }
        }
    });
    (next, backend)
}

const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const UNTIL_CLOSE: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

/// Reads until the connection has brought `end`.
async fn read_to(client: &mut Client, end: &str) -> String {
    let mut seen = Vec::new();
    let reading = async {
        while !seen.ends_with(end.as_bytes()) {
            seen.push(client.0.read_u8().await.unwrap());
        }
    };
    timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("{end:?} does not come"));
    String::from_utf8(seen).unwrap()
}

#[tokio::test]
async fn an_event_is_with_a_client_of_http_1_before_the_next_one_is_made() {
    for (head, chunked) in [(CHUNKED, true), (UNTIL_CLOSE, false)] {
        let (next, backend) = produces(head, chunked);
        let cluster = Cluster::start([backend]).await;
        let mut client = cluster.client().await;
        client.send("GET /events HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n").await;
        let head = read_to(&mut client, "\r\n\r\n").await.to_ascii_lowercase();
        assert!(head.contains("content-type: text/event-stream\r\n"), "{head}");
        assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
        for event in EVENTS {
            next.send(()).unwrap();
            let chunk = read_to(&mut client, &format!("{event}\r\n")).await;
            assert!(chunk.ends_with(&format!("\r\n{event}\r\n")), "one event, one chunk: {chunk:?}");
        }
        assert_eq!(read_to(&mut client, "0\r\n\r\n").await, "0\r\n\r\n");
    }
}

#[tokio::test]
async fn an_event_is_with_a_client_of_http_2_before_the_next_one_is_made() {
    for (head, chunked) in [(CHUNKED, true), (UNTIL_CLOSE, false)] {
        let (next, backend) = produces(head, chunked);
        let cluster = http2::plain([backend]).await;
        let mut client = http2::client(&cluster).await;
        let request = http2::get("/events").body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let (head, mut body) = timeout(PATIENCE, response).await.unwrap().unwrap().into_parts();
        assert_eq!(head.headers["content-type"], "text/event-stream");
        for event in EVENTS {
            next.send(()).unwrap();
            let mut seen = Vec::new();
            while seen.len() < event.len() {
                let data = timeout(PATIENCE, body.data()).await.expect("it comes").unwrap().unwrap();
                seen.extend_from_slice(&data);
                body.flow_control().release_capacity(data.len()).unwrap();
            }
            assert_eq!(String::from_utf8(seen).unwrap(), event);
        }
        assert!(timeout(PATIENCE, body.data()).await.unwrap().is_none_or(|last| last.unwrap().is_empty()));
        assert!(body.is_end_stream());
    }
}

#[tokio::test]
async fn interim_answers_pass_over_http_2() {
    let (finish, may_finish) = mpsc::unbounded_channel::<()>();
    let may_finish = Arc::new(Mutex::new(may_finish));
    let backend = raw(move |_, mut stream| {
        let may_finish = may_finish.clone();
        async move {
            stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").await.unwrap();
            may_finish.lock().await.recv().await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        }
    });
    let cluster = http2::plain([backend]).await;
    let mut client = http2::client(&cluster).await;
    let (mut response, _) = client.send_request(http2::get("/").body(()).unwrap(), true).unwrap();
    let hints = timeout(PATIENCE, poll_fn(|cx| response.poll_informational(cx)));
    let hints = hints.await.expect("before the answer is made").unwrap().unwrap();
    assert_eq!((hints.status().as_u16(), &hints.headers()["link"]), (103, &"</a.css>".parse().unwrap()));
    finish.send(()).unwrap();
    let (head, mut body) = timeout(PATIENCE, response).await.unwrap().unwrap().into_parts();
    assert_eq!(head.status, 200);
    assert_eq!(timeout(PATIENCE, body.data()).await.unwrap().unwrap().unwrap(), "ok");
}
