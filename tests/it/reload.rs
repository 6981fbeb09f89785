//! A real server's file is read again while users are there: by SIGHUP, and because it has changed.

use crate::cluster::{Cluster, PATIENCE};
use rustix::process::Signal;
use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Sends SIGHUP and asks until the answer to `path` has this status.
async fn hang_up_until(cluster: &mut Cluster, user: &mut crate::client::User, path: &str, status: u16) {
    cluster.process("web-a").signal(Signal::HUP);
    let deadline = Instant::now() + PATIENCE;
    while user.get(path).await.status.as_u16() != status {
        assert!(Instant::now() < deadline, "{path} never answered {status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_change_under_a_user_who_goes_on_counting_and_a_bad_file_changes_nothing() {
    let mut cluster = Cluster::start(1).await;
    let mut user = cluster.user();
    assert_eq!(user.count().await.0, 1);
    let file = cluster.folder().join("copal.yaml");
    let before = fs::read_to_string(&file).unwrap();
    assert!(before.contains("dispatch:"), "{before}");
    let rule = "dispatch:\n          - forbidden: {regexp: '^/closed'}";
    let place = before.rfind("dispatch:").unwrap();
    let (head, tail) = before.split_at(place);
    fs::write(&file, format!("{head}{rule}{}", tail.strip_prefix("dispatch:").unwrap())).unwrap();
    hang_up_until(&mut cluster, &mut user, "/closed", 403).await;
    assert_eq!(user.count().await.0, 2);

    fs::write(&file, "clusters: [{id: 5, servers: maybe}]").unwrap();
    cluster.process("web-a").signal(Signal::HUP);
    fs::write(&file, &before).unwrap();
    hang_up_until(&mut cluster, &mut user, "/closed", 404).await;
    assert_eq!(user.count().await.0, 3);
    assert_eq!(cluster.stop("web-a").await.code(), Some(0));
}

/// What the web tier's own log says.
fn log(cluster: &Cluster) -> String {
    fs::read_to_string(cluster.folder().join("web-a.log")).unwrap()
}

/// Waits for what another process does.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
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

const DOWNLOAD: usize = 64 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_and_a_download_stay_open_while_their_listener_goes_and_another_comes() {
    let mut cluster = Cluster::start(1).await;
    let (file, backend) = (cluster.file(), echoing().await);
    let before = fs::read_to_string(&file).unwrap();
    let web = cluster.web();
    let ip = web.split(':').next().unwrap();
    let with = |port: u16| {
        let rule = format!(
            "dispatch:\n          - http-proxy: {{regexp: '^/ws', backends: [{{address: 'http://{backend}'}}]}}"
        );
        let text = before.replace("port: 8080}]", &format!("port: 8080}}, {{address: {ip}, port: {port}}}]"));
        fs::write(&file, text.replace("dispatch:", &rule)).unwrap();
    };
    let serves = |port: u16| {
        let address = format!("{ip}:{port}");
        async move || TcpStream::connect(&address).await.is_ok()
    };
    with(8081);
    cluster.process("web-a").signal(Signal::HUP);
    until("8081 serves", serves(8081)).await;
    let open = async |head: &str| {
        let mut stream = TcpStream::connect(format!("{ip}:8081")).await.unwrap();
        stream.write_all(format!("{head}\r\nHost: a\r\n").as_bytes()).await.unwrap();
        stream
    };
    let mut socket = open("GET /ws HTTP/1.1").await;
    socket.write_all(b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await.unwrap();
    assert!(read_head(&mut socket).await.starts_with("HTTP/1.1 101 "));
    let mut download = open(&format!("GET /bytes?n={DOWNLOAD} HTTP/1.1")).await;
    download.write_all(b"Connection: close\r\n\r\n").await.unwrap();
    assert!(read_head(&mut download).await.starts_with("HTTP/1.1 200 "));

    with(8082);
    cluster.process("web-a").signal(Signal::HUP);
    until("8082 serves", serves(8082)).await;
    let gone = serves(8081);
    until("8081 is gone", async || !gone().await).await;
    let said = format!("reloaded: listeners added http://{ip}:8082; listeners removed http://{ip}:8081");
    until("it is told", async || log(&cluster).contains(&said)).await;
    for byte in b"still here" {
        socket.write_u8(*byte).await.unwrap();
        assert_eq!(timeout(PATIENCE, socket.read_u8()).await.unwrap().unwrap(), *byte);
    }
    let mut rest = Vec::new();
    timeout(PATIENCE, download.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest.len(), DOWNLOAD);
    let mut user = crate::client::User::new(format!("{ip}:8082"));
    assert_eq!(user.count().await.0, 1);
    assert_eq!(cluster.stop("web-a").await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_is_read_again_without_a_signal_and_its_imports_too() {
    let mut cluster = Cluster::prepare(1, |_| {});
    let (file, limits) = (cluster.file(), cluster.folder().join("limits.yaml"));
    let before = fs::read_to_string(&file).unwrap();
    let before = format!("dependency-check-interval: 100ms\nimport: limits.yaml\n{before}");
    fs::write(&file, &before).unwrap();
    fs::write(&limits, "{}").unwrap();
    cluster.start_all().await;
    let mut user = cluster.user();
    assert_eq!(user.count().await.0, 1);
    let long = format!("/{}", "a".repeat(100));
    let mut answers = async |path: &str, status: u16| {
        let what = format!("{path} answers {status}");
        until(&what, async || user.get(path).await.status.as_u16() == status).await;
    };
    answers(&long, 404).await;
    fs::write(&limits, "server-default: {uri-max: 64}").unwrap();
    answers(&long, 414).await;

    // As an editor does it: another file takes the place.
    let rule = "dispatch:\n          - forbidden: {regexp: '^/closed'}";
    let (head, tail) = before.rsplit_once("dispatch:").unwrap();
    let replace = |text: &str| {
        let other = cluster.folder().join("copal.yaml.new");
        fs::write(&other, text).unwrap();
        fs::rename(other, &file).unwrap();
    };
    replace(&format!("{head}{rule}{tail}"));
    answers("/closed", 403).await;

    // The main file is good, and what it imports is not: one word about it, however often it is looked at.
    fs::write(&limits, "server-default: {uri-max: many}").unwrap();
    until("it is told", async || log(&cluster).contains("not reloaded, the old configuration stays")).await;
    answers("/closed", 403).await;
    fs::write(&limits, "{}").unwrap();
    answers(&long, 404).await;
    // It is told once it is in force, which a client may see before.
    until("it is told", async || log(&cluster).matches("reloaded: limits and time-outs").count() == 2).await;
    let said = log(&cluster);
    assert_eq!(said.matches("not reloaded").count(), 1, "{said}");
    assert!(said.contains("limits.yaml:1:27") && said.contains("found `many`"), "{said}");
    assert_eq!(said.matches("reloaded: rules").count(), 1, "{said}");
    assert_eq!(cluster.stop("web-a").await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_had_is_told_and_so_is_what_needs_a_restart() {
    let mut cluster = Cluster::start(1).await;
    let before = fs::read_to_string(cluster.file()).unwrap();
    let web = cluster.web();
    let ip = web.split(':').next().unwrap();
    let holder = TcpListener::bind(format!("{ip}:8083")).await.unwrap();
    let more = before.replace("port: 8080}]", &format!("port: 8080}}, {{address: {ip}, port: 8083}}]"));
    let hang_up = async |text: &str, said: &str| {
        fs::write(cluster.file(), text).unwrap();
        cluster.process("web-a").signal(Signal::HUP);
        until(said, async || log(&cluster).contains(said)).await;
    };
    let taken =
        format!("the old configuration stays: listener {ip}:8083: the address is in use by another process");
    hang_up(&more, &taken).await;
    drop(holder);
    hang_up(&more, &format!("reloaded: listeners added http://{ip}:8083")).await;
    hang_up(&more, "reloaded: nothing has changed").await;
    hang_up(&more.replace("workers: 2", "workers: 3"), "needs a restart of this server: workers").await;
    assert_eq!(cluster.user().count().await.0, 1);
    fs::write(cluster.file(), "clusters: []").unwrap();
    cluster.process("app-a").signal(Signal::HUP);
    let app_log = cluster.folder().join("app-a.log");
    until("an app server says it too", async || {
        fs::read_to_string(&app_log)
            .unwrap()
            .contains("not reloaded, the old configuration stays: the file is not valid")
    })
    .await;
    assert_eq!(cluster.stop("web-a").await.code(), Some(0));
}
