//! HTTP/2's windows: a stream that stands still holds its own, and as little else as possible.

use super::{
    backend::{echo, gated},
    cluster::Cluster,
    http2::{ask, client, get},
    rules::hosts,
    wire::{self, DATA, END_STREAM, HEADERS, PREFACE, SETTINGS, WINDOW_UPDATE, frame, read_frame},
};
use bytes::Bytes;
use h2::SendStream;
use http::Request;
use std::{fs, future::poll_fn, path::Path, time::Duration};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

const PATIENCE: Duration = Duration::from_secs(20);

/// What the web tier lets a client send ahead of one body.
const STREAM_WINDOW: usize = 256 * 1024;

/// Sends as much of a body as the stream's window takes.
async fn fill(send: &mut SendStream<Bytes>) {
    let mut left = STREAM_WINDOW;
    while left > 0 {
        send.reserve_capacity(left);
        let room = poll_fn(|cx| send.poll_capacity(cx)).await.unwrap().unwrap().min(left);
        send.send_data(Bytes::from(vec![b'x'; room]), false).unwrap();
        left -= room;
    }
}

#[tokio::test]
async fn bodies_that_nobody_takes_are_in_no_other_body_s_way() {
    const COUNT: usize = 6;
    let (busy, _gate, mut was_asked) = gated();
    let cluster = Cluster::start_with([busy, echo("b")], |config| {
        config.clusters[1].servers[0].http[0].h2c = true;
        let app = &mut config.clusters[0].servers[0];
        (app.connection_max, app.queue_timeout) = (COUNT, PATIENCE * 10);
    })
    .await;
    let mut client = client(&cluster).await;
    let at = |method: &str, home: &str| {
        let request = Request::builder().method(method).uri("http://shop.example/");
        request.header("cookie", format!("JSESSIONID={home}X")).body(()).unwrap()
    };
    let mut asked = Vec::new();
    for _ in 0..COUNT {
        asked.push(client.send_request(at("GET", "aa"), true).unwrap().0);
        was_asked.recv().await.unwrap();
    }
    let mut uploads = Vec::new();
    for _ in 0..COUNT {
        let (answer, mut send) = client.send_request(at("POST", "aa"), false).unwrap();
        timeout(PATIENCE, fill(&mut send)).await.expect("its stream's window is its own");
        uploads.push((answer, send));
    }
    let (head, text, _) = ask(&mut client, at("POST", "ba"), &["hello"]).await.unwrap();
    assert!(head.status() == 200 && text.starts_with("b\n") && text.ends_with("\nhello"), "{text}");
}

/// A client's connection on which no stream has a window, before the files of a folder.
async fn connect(cluster: &Cluster) -> TcpStream {
    let mut stream = TcpStream::connect(cluster.address()).await.unwrap();
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    stream.write_all(&[PREFACE, &settings].concat()).await.unwrap();
    stream
}

/// Asks for files on as many streams, and reads the heads of the answers.
async fn ask_for(stream: &mut TcpStream, paths: &[String]) {
    let requests = (0..).zip(paths).flat_map(|(number, path)| wire::get(2 * number + 1, path));
    stream.write_all(&requests.collect::<Vec<_>>()).await.unwrap();
    let mut heads = 0;
    while heads < paths.len() {
        let frame = read_frame(stream).await.expect("the connection goes on");
        assert_ne!(frame.kind, DATA, "there is no window");
        if frame.kind == HEADERS {
            assert_eq!(frame.status(), 200);
            heads += 1;
        }
    }
}

/// How many descriptors this process has of files below a folder.
fn open_below(folder: &Path) -> usize {
    let all = fs::read_dir("/proc/self/fd").unwrap();
    all.filter_map(|it| fs::read_link(it.ok()?.path()).ok()).filter(|it| it.starts_with(folder)).count()
}

#[tokio::test]
async fn downloads_that_stand_still_hold_few_descriptors_and_go_on_whole() {
    /// More than a process keeps open for its downloads.
    const FILES: usize = 300;
    const SIZE: usize = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    for number in 0..FILES {
        let text: Vec<_> = (0..SIZE).map(|place| (number + place) as u8).collect();
        fs::write(root.join(format!("{number}.bin")), text).unwrap();
    }
    let cluster = Cluster::start_with([echo("a")], |config| {
        config.clusters[1].hosts = hosts(&root, "{dispatch: {regexp: '\\.bin$'}}");
        config.clusters[1].servers[0].http[0].h2c = true;
    })
    .await;
    let mut same = connect(&cluster).await;
    ask_for(&mut same, &vec!["/0.bin".to_owned(); 100]).await;
    assert_eq!(open_below(&root), 1, "one for all downloads of a file");
    let mut streams = Vec::new();
    for first in (0..FILES).step_by(100) {
        let paths: Vec<_> = (first..first + 100).map(|number| format!("/{number}.bin")).collect();
        streams.push(connect(&cluster).await);
        ask_for(streams.last_mut().unwrap(), &paths).await;
    }
    assert!(open_below(&root) <= 256, "{} of {FILES}", open_below(&root));
    for (place, stream) in streams.iter_mut().enumerate() {
        let streams = (0..100).map(|number| 2 * number + 1).chain([0]);
        let wide = streams.flat_map(|number| frame(WINDOW_UPDATE, 0, number, &0x10_0000_u32.to_be_bytes()));
        stream.write_all(&wide.collect::<Vec<_>>()).await.unwrap();
        let (mut bodies, mut ended) = (vec![Vec::new(); 100], 0);
        while ended < 100 {
            let came = read_frame(stream).await.expect("the connection goes on");
            if came.kind != DATA {
                continue;
            }
            bodies[came.stream as usize / 2].extend_from_slice(&came.payload);
            ended += usize::from(came.flags & END_STREAM);
            if !came.payload.is_empty() {
                // As much may be sent again.
                let count = u32::try_from(came.payload.len()).unwrap().to_be_bytes();
                stream.write_all(&frame(WINDOW_UPDATE, 0, 0, &count)).await.unwrap();
            }
        }
        for (number, body) in (place * 100..).zip(bodies) {
            assert!(body.len() == SIZE && body[SIZE - 1] == (number + SIZE - 1) as u8, "{number}");
        }
    }
    drop((same, streams));
    while open_below(&root) > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_is_told_to_go_on() {
    let backend = super::backend::raw(|head, mut stream| async move {
        assert!(head.contains("\r\nexpect: 100-continue\r\n"), "{head}");
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let mut body = [0; 5];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut body).await.unwrap();
        let answer =
            format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{}", String::from_utf8_lossy(&body));
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    let cluster = super::http2::plain([backend]).await;
    goes_on(&cluster).await;
}

#[tokio::test]
async fn so_is_one_before_a_server_of_http_2() {
    let backend: super::backend::OnConnection = std::sync::Arc::new(|stream| {
        Box::pin(async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                tokio::spawn(async move {
                    assert_eq!(request.headers()["expect"], "100-continue");
                    let go_on = http::Response::builder().status(100).body(()).unwrap();
                    respond.send_informational(go_on).unwrap();
                    let body = request.into_body().data().await.unwrap().unwrap();
                    let mut send = respond.send_response(http::Response::new(()), false).unwrap();
                    send.send_data(body, true).unwrap();
                });
            }
        })
    });
    let (_backend, cluster) = super::h2c::backend(backend).await;
    goes_on(&cluster).await;
}

/// Sends its body when it is told to, and not before.
async fn goes_on(cluster: &Cluster) {
    let mut client = client(cluster).await;
    let request = get("/").method("POST").header("expect", "100-continue").header("content-length", 5);
    let (mut answer, mut send) = client.send_request(request.body(()).unwrap(), false).unwrap();
    let going_on = timeout(PATIENCE, poll_fn(|cx| answer.poll_informational(cx))).await;
    let head = going_on.expect("an interim answer in time").unwrap().unwrap();
    assert_eq!((head.status().as_u16(), head.headers().contains_key("date")), (100, false));
    send.send_data(Bytes::from("hello"), true).unwrap();
    let (head, mut body) = timeout(PATIENCE, answer).await.unwrap().unwrap().into_parts();
    assert_eq!((head.status.as_u16(), body.data().await.unwrap().unwrap()), (200, Bytes::from("hello")));
}
