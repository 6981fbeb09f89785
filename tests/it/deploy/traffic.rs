//! Deployments, rollbacks, restarts and a server that is killed, under load: no request fails, no count goes back, and what is open
//! stays open.

use super::{Deploying, python};
use crate::{
    client::{User, connect},
    cluster::{PATIENCE, copal},
    tell::tell,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request,
    header::{COOKIE, HOST},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

/// Requests at least, unless `COPAL_IT_REQUESTS` says how many.
const REQUESTS: u64 = 2000;

/// The slow download, in bytes: far more than lies on the way.
const DOWNLOAD: u64 = 64 << 20;

/// Counts in its session, and asks the other app; a count that is sent again when its server dies may count twice.
async fn visits(mut user: User, stop: Arc<AtomicBool>, requests: Arc<AtomicU64>) {
    let mut last = 0;
    while !stop.load(Ordering::Relaxed) {
        let (count, server) = user.get("/count").await.count();
        assert!(count == last + 1 || count == last + 2, "{count} after {last} on {server}");
        last = count;
        let answer = user.get("/shop/").await;
        assert!(answer.status == 200 && answer.body.contains(" on app-"), "{answer:?}");
        requests.fetch_add(2, Ordering::Relaxed);
    }
}

/// A WebSocket to the app, at home on `app-a`.
pub(super) async fn open_socket(deploying: &Deploying) -> TcpStream {
    let mut stream = TcpStream::connect(deploying.cluster.web()).await.unwrap();
    let head = format!(
        "GET /shop/echo HTTP/1.1\r\nHost: {}\r\nCookie: JSESSIONID=aaUserNumber000000000099\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        deploying.cluster.web()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 101") && answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{answer}"
    );
    stream
}

/// What is said comes back.
pub(super) async fn echoes(socket: &mut TcpStream, words: &str) {
    socket.write_all(words.as_bytes()).await.unwrap();
    let mut back = vec![0; words.len()];
    timeout(PATIENCE, socket.read_exact(&mut back)).await.expect("the socket is open").unwrap();
    assert_eq!(back, words.as_bytes());
}

/// Reads a little now and then until told to hurry; the number of bytes.
async fn download(web: String, hurry: Arc<AtomicBool>) -> u64 {
    let request = Request::get(format!("/shop/bytes?{DOWNLOAD}")).header(HOST, &web);
    let request =
        request.header(COOKIE, "JSESSIONID=aaUserNumber000000000098").body(Full::<Bytes>::default());
    let mut body = connect(&web).await.send_request(request.unwrap()).await.unwrap().into_body();
    let mut received = 0;
    while let Some(frame) = timeout(PATIENCE, body.frame()).await.expect("it goes on") {
        received += frame.unwrap().data_ref().map_or(0, |data| data.len() as u64);
        if !hurry.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    received
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_whatever_is_deployed_and_whoever_is_killed() {
    let Some(python) = python() else { return };
    let mut deploying =
        Deploying::start_with(3, |it| it.host.push("web-app-default: {confine: off}".into())).await;
    let counter = |deploying: &Deploying, version: &str| {
        let yaml = format!(
            "command: [{}, demo-app]\nhealth: {{path: /healthz, interval: 1s, start-timeout: 30s}}\n",
            copal().display()
        );
        deploying.files(&format!("counter-{version}"), &[("app.yaml", &yaml), ("version", version)])
    };
    deploying.deploy(&counter(&deploying, "0"), "--name ROOT").await;
    deploying.deploy(&deploying.app(python, "0", ""), "").await;
    let mut socket = open_socket(&deploying).await;
    echoes(&mut socket, "begun").await;
    let (stop, hurry, requests) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let downloading = tokio::spawn(download(deploying.cluster.web(), hurry.clone()));
    let mut visitors = JoinSet::new();
    for name in 0..6 {
        let user = deploying.cluster.user_of(u8::try_from(name % 3).unwrap(), name);
        visitors.spawn(visits(user, stop.clone(), requests.clone()));
    }
    let wanted = std::env::var("COPAL_IT_REQUESTS").ok().and_then(|it| it.parse().ok()).unwrap_or(REQUESTS);
    let mut round = 0;
    while round < 2 || requests.load(Ordering::Relaxed) < wanted {
        round += 1;
        let version = round.to_string();
        deploying.deploy(&counter(&deploying, &version), "--name ROOT").await;
        deploying.deploy(&deploying.app(python, &version, ""), "--rolling").await;
        for verb in ["rollback shop", "restart ROOT", "restart shop", "rollback ROOT"] {
            let said = deploying.tool(verb).await;
            assert_eq!(said.code, Some(0), "{verb}: {said:?}");
            echoes(&mut socket, verb).await;
        }
        if round == 1 {
            deploying.cluster.kill("app-c").await;
            deploying.deploy(&deploying.app(python, "without-c", ""), "").await;
            deploying.cluster.start_one("app-c").await;
        }
        while let Some(ended) = visitors.try_join_next() {
            ended.expect("a visitor is content");
        }
    }
    stop.store(true, Ordering::Relaxed);
    visitors.join_all().await;
    hurry.store(true, Ordering::Relaxed);
    assert_eq!(timeout(PATIENCE, downloading).await.expect("it ends").unwrap(), DOWNLOAD);
    echoes(&mut socket, "to the end").await;
    tell(&format!(
        "{} requests, {round} rounds of deployments, none failed",
        requests.load(Ordering::Relaxed)
    ));
    deploying.repositories_are_clean();
}
