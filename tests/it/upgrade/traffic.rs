//! Requests by HTTP/1.1 and HTTP/2, on connections that last and on new ones, while one process after the other takes over.

use super::{apart, hand_over, until};
use crate::{
    client::connect,
    cluster::{Cluster, PATIENCE},
    tell::tell,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, header::HOST};
use hyper_util::rt::TokioIo;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

/// Requests at least, unless `COPAL_IT_REQUESTS` says how many.
const REQUESTS: u64 = 2000;

/// Upgrades at least.
const UPGRADES: u64 = 3;

/// What was asked, and what did not go well.
#[derive(Debug, Default)]
struct Seen {
    stop: AtomicBool,
    requests: AtomicU64,
    connections: AtomicU64,
    /// Streams that the server has not begun, by its GOAWAY: asked again on the next connection.
    given_back: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Seen {
    fn goes_on(&self) -> bool {
        !self.stop.load(Relaxed)
    }

    fn add(&self, how: &str, outcome: &Result<u16, String>) {
        self.requests.fetch_add(1, Relaxed);
        if *outcome != Ok(200) {
            self.failures.lock().unwrap().push(format!("{how}: {outcome:?}"));
        }
    }
}

fn request(web: &str) -> Request<Full<Bytes>> {
    Request::get(format!("http://{web}/bytes?n=3000")).header(HOST, web).body(Full::default()).unwrap()
}

/// The status of an answer that is whole.
async fn whole(sent: impl Future<Output = hyper::Result<Response<Incoming>>>) -> Result<u16, String> {
    let answered = async {
        let answer = sent.await?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await?.to_bytes();
        Ok::<_, hyper::Error>(if body.len() == 3000 { status } else { 0 })
    };
    timeout(PATIENCE, answered).await.map_err(|_| "hangs".to_owned())?.map_err(|cause| format!("{cause:?}"))
}

/// On one connection for as long as the server keeps it; it may end it with an answer that says so.
async fn on_lasting_connections(web: String, seen: Arc<Seen>) {
    let mut connection = connect(&web).await;
    while seen.goes_on() {
        if connection.ready().await.is_err() {
            connection = connect(&web).await;
            seen.connections.fetch_add(1, Relaxed);
        }
        seen.add("keep-alive", &whole(connection.send_request(request(&web))).await);
    }
}

/// Each on its own.
async fn on_new_connections(web: String, seen: Arc<Seen>) {
    while seen.goes_on() {
        let Ok(stream) = TcpStream::connect(&web).await else {
            seen.add("connect", &Err("refused".into()));
            continue;
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driving = tokio::spawn(connection);
        seen.add("new connection", &whole(sender.send_request(request(&web))).await);
        drop(sender);
        let _ended = driving.await;
    }
}

/// Several at once on one connection, until its server says that it takes no more (GOAWAY): then it is another one's turn. What was sent
/// before has its answer.
async fn by_http2(web: String, seen: Arc<Seen>) {
    while seen.goes_on() {
        let stream = TcpStream::connect(&web).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        let driving = tokio::spawn(connection);
        seen.connections.fetch_add(1, Relaxed);
        while seen.goes_on() {
            let Ok(ready) = sender.clone().ready().await else { break };
            sender = ready;
            let mut streams = JoinSet::new();
            for _ in 0..4 {
                // An error here is of a request that was not sent.
                let Ok((answer, _)) = sender.send_request(request(&web).map(drop), true) else { continue };
                let seen = seen.clone();
                streams.spawn(async move {
                    match whole_stream(answer).await {
                        Err(cause) if is_given_back(&cause) => _ = seen.given_back.fetch_add(1, Relaxed),
                        outcome => seen.add("HTTP/2", &outcome.map_err(|cause| format!("{cause:?}"))),
                    }
                });
            }
            if streams.is_empty() {
                break;
            }
            streams.join_all().await;
        }
        drop(sender);
        let _ended = driving.await;
    }
}

/// The server has not begun with the stream, so that any request can be asked again (RFC 9113 §6.8, §8.7), as browsers do: it was on its way
/// when the client had already acknowledged that the connection ends.
fn is_given_back(cause: &h2::Error) -> bool {
    cause.is_go_away() && cause.is_remote() && cause.reason() == Some(h2::Reason::NO_ERROR)
}

/// The status of an answer that is whole.
async fn whole_stream(answer: h2::client::ResponseFuture) -> Result<u16, h2::Error> {
    let answered = async {
        let (head, mut body) = answer.await?.into_parts();
        let mut length = 0;
        while let Some(data) = body.data().await {
            let data = data?;
            length += data.len();
            body.flow_control().release_capacity(data.len())?;
        }
        Ok(if length == 3000 { head.status.as_u16() } else { 0 })
    };
    timeout(PATIENCE, answered).await.expect("an answer, or an error")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_one_process_after_the_other_takes_over() {
    let cluster = Cluster::start_with(1, |it| {
        apart(it);
        let ip = it.addresses[0];
        it.listener = Some(format!("{{address: {ip}, port: 8443, h2c: true}}"));
    })
    .await;
    let (web, seen) = (cluster.web(), Arc::new(Seen::default()));
    let h2c = web.replace(":8080", ":8443");
    let mut traffic = JoinSet::new();
    for _ in 0..3 {
        traffic.spawn(on_lasting_connections(web.clone(), seen.clone()));
        traffic.spawn(on_new_connections(web.clone(), seen.clone()));
        traffic.spawn(by_http2(h2c.clone(), seen.clone()));
    }
    let wanted = std::env::var("COPAL_IT_REQUESTS").ok().map_or(REQUESTS, |it| it.parse().unwrap());
    let mut upgrades = 0;
    while upgrades < UPGRADES || seen.requests.load(Relaxed) < wanted {
        let (requests, connections) = (seen.requests.load(Relaxed), seen.connections.load(Relaxed));
        hand_over(&cluster).await;
        upgrades += 1;
        until("users go on", async || {
            seen.requests.load(Relaxed) > requests + 300 && seen.connections.load(Relaxed) > connections + 3
        })
        .await;
    }
    seen.stop.store(true, Relaxed);
    timeout(PATIENCE, traffic.join_all()).await.expect("the last answers come");
    let failures = seen.failures.lock().unwrap().clone();
    let requests = seen.requests.load(Relaxed);
    assert!(
        failures.is_empty(),
        "{} of {requests} failed in {upgrades} upgrades: {failures:#?}",
        failures.len()
    );
    let given_back = seen.given_back.load(Relaxed);
    tell(&format!(
        "{requests} requests and {upgrades} upgrades: none failed, {given_back} were asked again after GOAWAY"
    ));
}

/// A server that agrees to become something else and then gives every byte back.
async fn echoing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        let yes = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(yes).await.unwrap();
        let mut byte = [0];
        while stream.read(&mut byte).await.is_ok_and(|count| count > 0) {
            stream.write_all(&byte).await.unwrap();
        }
    });
    address
}

async fn read_head(stream: &mut TcpStream) -> String {
    let reading = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    };
    timeout(PATIENCE, reading).await.unwrap()
}

const DOWNLOAD: usize = 24 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_ends_whole_and_a_websocket_lives_until_shutdown_wait_max() {
    let mut cluster = Cluster::prepare(1, |it| {
        apart(it);
        it.server = vec!["shutdown-wait-max: 10s".into()];
    });
    let rule = format!(
        "dispatch:\n          - http-proxy: {{regexp: '^/ws', backends: [{{address: 'http://{}'}}]}}",
        echoing().await
    );
    let text = std::fs::read_to_string(cluster.file()).unwrap();
    std::fs::write(cluster.file(), text.replace("dispatch:", &rule)).unwrap();
    cluster.start_all().await;
    let web = cluster.web();

    let mut socket = TcpStream::connect(&web).await.unwrap();
    let head =
        format!("GET /ws HTTP/1.1\r\nHost: {web}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    assert!(read_head(&mut socket).await.starts_with("HTTP/1.1 101"));
    let mut download = TcpStream::connect(&web).await.unwrap();
    let head = format!("GET /bytes?n={DOWNLOAD} HTTP/1.0\r\nHost: {web}\r\n\r\n");
    download.write_all(head.as_bytes()).await.unwrap();
    assert!(read_head(&mut download).await.starts_with("HTTP/1.1 200"));
    // Idle: its client may be about to send.
    let mut idle = TcpStream::connect(&web).await.unwrap();
    idle.write_all(format!("GET /healthz HTTP/1.1\r\nHost: {web}\r\n\r\n").as_bytes()).await.unwrap();
    assert!(!read_head(&mut idle).await.to_lowercase().contains("connection: close"));

    hand_over(&cluster).await;
    let mut byte = [0];
    socket.write_all(b"x").await.unwrap();
    timeout(PATIENCE, socket.read_exact(&mut byte)).await.expect("the old process has it").unwrap();
    assert_eq!(&byte, b"x");
    let mut rest = Vec::new();
    timeout(PATIENCE, download.read_to_end(&mut rest)).await.expect("it goes on").unwrap();
    assert_eq!(rest.len(), DOWNLOAD, "the whole of it");
    idle.write_all(format!("GET /healthz HTTP/1.1\r\nHost: {web}\r\n\r\n").as_bytes()).await.unwrap();
    let mut said = Vec::new();
    timeout(PATIENCE, idle.read_to_end(&mut said)).await.expect("it is answered, then closed").unwrap();
    let said = String::from_utf8_lossy(&said).to_lowercase();
    assert!(said.contains("http/1.1 200") && said.contains("connection: close"), "{said}");
    // Nothing ends it but the wait.
    assert!(cluster.ended("web-a").await.success());
    let end = timeout(PATIENCE, socket.read(&mut byte)).await.expect("it is closed");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    assert_eq!(cluster.user().count().await.0, 1);
}
