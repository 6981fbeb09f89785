//! Long bodies, trailers, tunnels: what streams both ways.

use super::{
    client::{Client, PATIENCE, answer, get},
    site::{HOST, start},
};
use crate::tests::backend::{http, raw};
use bytes::{Buf, Bytes};
use h3::error::{Code, StreamError};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Notify, mpsc},
    time::timeout,
};

#[tokio::test]
async fn a_long_answer_and_trailers_pass() {
    let long = "0123456789abcdef".repeat(256 * 1024);
    let body = long.clone();
    let large = http(move |_| {
        let body = body.clone();
        async move { Response::new(Full::from(body)) }
    });
    let (cluster, certificate, _files) = start([large], |_| {}).await;
    let mut client = Client::connect(cluster.address(), &certificate).await;
    let text = client.get("/").await.text;
    assert!(text == long, "{} bytes of {}", text.len(), long.len());

    let grpc = raw(|head, mut stream| async move {
        assert!(head.contains("te: trailers\r\n"), "{head}");
        let words = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ngrpc-status: 0\r\nhost: h\r\n\r\n";
        stream.write_all(words.as_bytes()).await.unwrap();
        let _ = stream.read_u8().await;
    });
    let (cluster, certificate, _files) = start([grpc], |_| {}).await;
    let mut client = Client::connect(cluster.address(), &certificate).await;
    let answer = client.ask(get("/").header("te", "trailers").body(()).unwrap(), &[]).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.trailers.len()), ("ok", 1));
    assert_eq!(answer.trailers["grpc-status"], "0");
}

#[tokio::test]
async fn a_long_upload_passes_whole_with_its_trailers() {
    const LARGE: usize = 5 << 20;
    let count = http(|request| async move {
        let body = request.into_body().collect().await.unwrap();
        let sum = body.trailers().map(|it| it["x-sum"].to_str().unwrap().to_owned());
        let bytes = body.to_bytes();
        assert!(bytes.iter().all(|byte| *byte == b'u'));
        Response::new(Full::from(format!("{} {}", bytes.len(), sum.unwrap_or_default())))
    });
    let (cluster, certificate, _files) = start([count], |_| {}).await;
    let mut client = Client::connect(cluster.address(), &certificate).await;
    let request = Request::post(format!("https://{HOST}/")).body(()).unwrap();
    let asking = async {
        let mut stream = client.h3.send_request(request).await.unwrap();
        for _ in 0..LARGE / 65_536 {
            stream.send_data(Bytes::from(vec![b'u'; 65_536])).await.unwrap();
        }
        stream
            .send_trailers([("x-sum".parse().unwrap(), "7".parse().unwrap())].into_iter().collect())
            .await
            .unwrap();
        stream.finish().await.unwrap();
        answer(&mut stream).await.unwrap().text
    };
    assert_eq!(timeout(PATIENCE, asking).await.unwrap(), format!("{LARGE} 7"));
    assert_eq!(cluster.web.totals().received_bytes, LARGE as u64);
}

/// The server reads nothing: the client is held up, and nothing piles up between them.
#[tokio::test]
async fn an_upload_that_the_server_does_not_take_stands_still() {
    let go = Arc::new(Notify::new());
    let opened = go.clone();
    let lazy = raw(move |_, mut stream| {
        let go = opened.clone();
        async move {
            go.notified().await;
            let mut all = vec![0; 32 << 20];
            stream.read_exact(&mut all).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            let _ = stream.read_u8().await;
        }
    });
    let (cluster, certificate, _files) = start([lazy], |_| {}).await;
    let mut client = Client::connect(cluster.address(), &certificate).await;
    let request =
        Request::post(format!("https://{HOST}/")).header("content-length", 32 << 20).body(()).unwrap();
    let mut stream = client.h3.send_request(request).await.unwrap();
    let quic = client.quic.clone();
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let asking = tokio::spawn(async move {
        for _ in 0..512 {
            stream.send_data(Bytes::from(vec![b'u'; 65_536])).await.unwrap();
            counted.fetch_add(65_536, Ordering::SeqCst);
        }
        stream.finish().await.unwrap();
        answer(&mut stream).await.unwrap().text
    });
    // QUIC says when the client may send no more: as much has been sent as fits between the two.
    while quic.stats().frame_tx.stream_data_blocked == 0 {
        tokio::task::yield_now().await;
    }
    let before = sent.load(Ordering::SeqCst);
    assert!(before < 24 << 20, "{before} bytes went into the void");
    go.notify_one();
    assert_eq!(timeout(PATIENCE, asking).await.unwrap().unwrap(), "ok");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_never_complete() {
    let broken = raw(|_, mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
    });
    let (cluster, certificate, _files) = start([broken], |_| {}).await;
    let mut client = Client::connect(cluster.address(), &certificate).await;
    match client.ask(get("/").body(()).unwrap(), &[]).await {
        Err(StreamError::RemoteTerminate { code, .. }) => assert_eq!(code, Code::H3_INTERNAL_ERROR),
        Err(other) => panic!("{other}"),
        Ok(answer) => panic!("{:?} {}", answer.head, answer.text),
    }
}

#[tokio::test]
async fn an_interim_answer_comes_before_the_answer() {
    let early = raw(|_, mut stream| async move {
        let heads =
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nalt-svc: h3=\":1\"\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(heads).await.unwrap();
        let _ = stream.read_u8().await;
    });
    let (cluster, certificate, _files) = start([early], |_| {}).await;
    let mut client = Client::connect(cluster.address(), &certificate).await;
    let mut stream = client.begin(get("/").body(()).unwrap(), &[]).await.unwrap();
    let head = timeout(PATIENCE, stream.recv_response()).await.unwrap().unwrap();
    assert_eq!((head.status().as_u16(), &head.headers()["link"]), (103, &"</a>".parse().unwrap()));
    assert!(!head.headers().contains_key("alt-svc"), "where HTTP/3 is spoken this server alone says");
    let answer = timeout(PATIENCE, answer(&mut stream)).await.unwrap().unwrap();
    assert_eq!((answer.head.status().as_u16(), answer.text.as_str()), (200, "ok"));
}

#[tokio::test]
async fn a_server_hears_when_its_client_gives_up() {
    let (gone, mut is_gone) = mpsc::unbounded_channel();
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let waits = raw(move |_, mut stream| {
        let gone = gone.clone();
        asked.send(()).unwrap();
        async move {
            let _ = stream.read_u8().await;
            gone.send(()).unwrap();
        }
    });
    let (cluster, certificate, _files) = start([waits], |_| {}).await;
    let mut client = Client::connect(cluster.address(), &certificate).await;
    let mut stream = client.begin(get("/").body(()).unwrap(), &[]).await.unwrap();
    was_asked.recv().await.unwrap();
    stream.stop_sending(Code::H3_REQUEST_CANCELLED);
    timeout(PATIENCE, is_gone.recv()).await.expect("its server is told").unwrap();
}

#[tokio::test]
async fn a_websocket_over_http_3_is_an_upgrade_behind() {
    let backend = raw(|head, mut stream| async move {
        assert!(head.starts_with("GET /ws HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("upgrade: websocket\r\n") && head.contains("sec-websocket-key: "), "{head}");
        let yes = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(yes).await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        heard.reverse();
        stream.write_all(&heard).await.unwrap();
    });
    let (cluster, certificate, _files) = start([backend], |_| {}).await;
    let quic = super::raw::Raw::connect(cluster.address(), &certificate).await;
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", HOST),
        (":path", "/ws"),
        ("sec-websocket-version", "13"),
    ];
    let (mut send, mut recv) = quic.open(&fields).await;
    send.write_all(&super::raw::frame(0, b"abc")).await.unwrap();
    send.write_all(&super::raw::frame(0, b"def")).await.unwrap();
    send.finish().unwrap();
    let bytes = timeout(PATIENCE, recv.read_to_end(10_000)).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.ends_with("fedcba") && !text.contains("upgrade"), "{text}");
}

#[tokio::test]
async fn an_answer_passes_as_it_comes() {
    let give = Arc::new(Notify::new());
    let gate = give.clone();
    let events = raw(move |_, mut stream| {
        let gate = gate.clone();
        async move {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
                .await
                .unwrap();
            gate.notified().await;
            stream.write_all(b"data: 2\n\n").await.unwrap();
        }
    });
    let (cluster, certificate, _files) = start([events], |_| {}).await;
    let mut client = Client::connect(cluster.address(), &certificate).await;
    let mut stream = client.begin(get("/").body(()).unwrap(), &[]).await.unwrap();
    let reading = async {
        assert_eq!(stream.recv_response().await.unwrap().status(), 200);
        let first = stream.recv_data().await.unwrap().unwrap();
        assert_eq!(first.chunk(), b"data: 1\n\n");
        give.notify_one();
        let second = stream.recv_data().await.unwrap().unwrap();
        assert_eq!(second.chunk(), b"data: 2\n\n");
        assert!(stream.recv_data().await.unwrap().is_none());
    };
    timeout(PATIENCE, reading).await.unwrap();
}
