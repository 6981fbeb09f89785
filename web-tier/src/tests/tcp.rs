//! `tcp-proxy`: connections that are passed on as they are, as servers fail, as clients and servers end, and by the names that clients
//! ask for.

mod adversaries;
mod logs;
mod names;
mod reload;

use super::{cluster::Cluster, foreign::until_async};
use common::config::{
    Backend, BackendAddress, BackendProtocol, Config, HttpProxy, ProxyProtocolVersion, Strategy,
    TcpListener as Listener, TcpRoute,
};
use proto::status::v1 as status;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

/// Nothing takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Backends at these ports, each in its turn.
fn servers(ports: &[u16]) -> HttpProxy {
    let backend = |port: &u16| Backend {
        at: BackendAddress::Host { host: "127.0.0.1".to_owned(), port: *port },
        protocol: BackendProtocol::Tcp,
        tls: false,
        backup: false,
        weight: 100,
    };
    HttpProxy {
        backends: ports.iter().map(backend).collect(),
        strategy: Strategy::RoundRobin,
        socket_timeout: PATIENCE,
        ..HttpProxy::default()
    }
}

/// A listener that passes all on to `default`.
fn listener(default: Option<HttpProxy>) -> Listener {
    Listener {
        address: "127.0.0.1".to_owned(),
        port: 0,
        proxy_protocol: false,
        allow: Vec::new(),
        deny: Vec::new(),
        rate_limits: Vec::new(),
        connection_limits: Vec::new(),
        client_hello_timeout: PATIENCE,
        routes: Vec::new(),
        default,
    }
}

fn route(name: &str, port: u16) -> TcpRoute {
    TcpRoute { server_names: vec![name.to_owned()], alpn: Vec::new(), servers: servers(&[port]) }
}

fn put(config: &mut Config, listener: Listener) {
    config.clusters[1].servers[0].tcp = vec![listener];
}

/// A web tier with this listener beside the one of HTTP.
async fn before(listener: Listener) -> Cluster {
    Cluster::start_with([], |config| put(config, listener)).await
}

fn address(cluster: &Cluster) -> SocketAddr {
    cluster.web.addresses()[1]
}

async fn connect(cluster: &Cluster) -> TcpStream {
    TcpStream::connect(address(cluster)).await.unwrap()
}

/// A server whose connections the test gets.
struct Server {
    port: u16,
    accepted: mpsc::UnboundedReceiver<TcpStream>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, accepted) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if sender.send(stream).is_err() {
                    return;
                }
            }
        });
        Self { port, accepted }
    }

    async fn next(&mut self) -> TcpStream {
        timeout(PATIENCE, self.accepted.recv()).await.expect("a connection in time").unwrap()
    }
}

/// A server that says its name and then repeats what it hears.
async fn echo(name: &'static str) -> u16 {
    let mut server = Server::start().await;
    let port = server.port;
    tokio::spawn(async move {
        while let Some(mut stream) = server.accepted.recv().await {
            tokio::spawn(async move {
                let _ = stream.write_all(name.as_bytes()).await;
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    port
}

/// A port where nobody listens, and nobody else will as long as the socket is there.
fn dead() -> (u16, tokio::net::TcpSocket) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (socket.local_addr().unwrap().port(), socket)
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    timeout(PATIENCE, stream.write_all(bytes)).await.expect("sent in time").unwrap();
}

async fn hear(stream: &mut TcpStream, bytes: &[u8]) {
    let mut heard = vec![0; bytes.len()];
    timeout(PATIENCE, stream.read_exact(&mut heard)).await.expect("heard in time").unwrap();
    assert_eq!(String::from_utf8_lossy(&heard), String::from_utf8_lossy(bytes));
}

/// What comes until the end, and whether that was one without a reset.
async fn rest(stream: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut heard = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("an end in time");
    (heard, ended.is_ok())
}

async fn counts(cluster: &Cluster) -> status::TcpListener {
    cluster.web.view().status().await.tcp.remove(0)
}

fn refused(counts: &status::TcpListener, why: &str) -> u64 {
    counts.refused.iter().find(|it| it.why == why).unwrap().count
}

/// Waits until so many connections were refused for this reason.
async fn until_refused(cluster: &Cluster, why: &str, count: u64) {
    until_async(async || refused(&counts(cluster).await, why) == count).await;
}

#[tokio::test]
async fn bytes_pass_both_ways_and_each_side_ends_for_itself() {
    let mut server = Server::start().await;
    let cluster = before(listener(Some(servers(&[server.port])))).await;
    let mut client = connect(&cluster).await;
    let mut at_server = server.next().await;
    send(&mut at_server, b"220 hello").await;
    hear(&mut client, b"220 hello").await;
    send(&mut client, b"HELO").await;
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut at_server).await, (b"HELO".to_vec(), true));
    // The client is still there to listen.
    send(&mut at_server, b"221 bye").await;
    hear(&mut client, b"221 bye").await;
    drop(at_server);
    assert_eq!(rest(&mut client).await, (Vec::new(), true));
    until_async(async || counts(&cluster).await.connections_open == 0).await;
    let counts = counts(&cluster).await;
    assert_eq!((counts.connections, counts.received_bytes, counts.sent_bytes), (1, 4, 16));
    assert_eq!(counts.name, "127.0.0.1:0");
}

#[tokio::test]
async fn much_passes_unchanged_in_both_directions_at_once() {
    let port = echo("").await;
    let cluster = before(listener(Some(servers(&[port])))).await;
    let (mut from, mut to) = connect(&cluster).await.into_split();
    let bytes: Vec<u8> =
        (0..8_000_000_u32).map(|it| it.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let sent = bytes.clone();
    let sending = tokio::spawn(async move {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
        to
    });
    let mut heard = Vec::new();
    timeout(PATIENCE, from.read_to_end(&mut heard)).await.unwrap().unwrap();
    assert!(heard == bytes, "{} of {} bytes", heard.len(), bytes.len());
    sending.await.unwrap();
    let counts = counts(&cluster).await;
    assert_eq!((counts.received_bytes, counts.sent_bytes), (8_000_000, 8_000_000));
}

#[tokio::test]
async fn another_server_is_taken_if_one_can_not_be_reached_and_it_is_left_alone_then() {
    let ((gone, _socket), port) = (dead(), echo("b").await);
    let cluster = before(listener(Some(servers(&[gone, port])))).await;
    for _ in 0..6 {
        hear(&mut connect(&cluster).await, b"b").await;
    }
    let counts = counts(&cluster).await;
    assert_eq!((counts.connections, counts.connects_failed, refused(&counts, "no-server")), (6, 1, 0));
    let status = cluster.web.view().status().await;
    let upstream = status.upstreams.iter().find(|it| it.servers.len() == 2).unwrap();
    let seen =
        |at: usize| (upstream.servers[at].workers[0].answers, upstream.servers[at].workers[0].troubles);
    assert_eq!((seen(0), seen(1)), ((0, 1), (6, 0)));
}

#[tokio::test]
async fn without_a_server_a_connection_ends_and_it_is_said_why() {
    let (gone, _socket) = dead();
    let cluster = before(listener(Some(servers(&[gone])))).await;
    assert_eq!(rest(&mut connect(&cluster).await).await.0, b"");
    until_refused(&cluster, "no-server", 1).await;
}

#[tokio::test]
async fn a_backup_waits_until_the_others_are_gone_and_a_hash_keeps_to_one() {
    let (a, b, backup) = (echo("a").await, echo("b").await, echo("c").await);
    let mut config = servers(&[a, b, backup]);
    config.backends[2].backup = true;
    let cluster = before(listener(Some(config))).await;
    for name in [b"a", b"b", b"a", b"b"] {
        hear(&mut connect(&cluster).await, name).await;
    }
    let (gone, _socket) = dead();
    let mut config = servers(&[gone, backup]);
    config.backends[1].backup = true;
    let cluster = before(listener(Some(config))).await;
    hear(&mut connect(&cluster).await, b"c").await;
    let mut config = servers(&[a, b]);
    config.hash_by = Some(common::config::RequestKey::RemoteAddr);
    let cluster = before(listener(Some(config))).await;
    let mut first = [0];
    connect(&cluster).await.read_exact(&mut first).await.unwrap();
    for _ in 0..5 {
        hear(&mut connect(&cluster).await, &first).await;
    }
}

#[tokio::test]
async fn a_health_check_that_can_not_connect_takes_a_server_out() {
    let ((gone, _socket), port) = (dead(), echo("b").await);
    let mut config = servers(&[gone, port]);
    config.health_check = Some(common::config::HealthCheck {
        question: common::config::HealthQuestion::Connect,
        interval: Duration::from_millis(100),
        fall: 1,
        ..common::config::HealthCheck::default()
    });
    let cluster = before(listener(Some(config))).await;
    super::foreign::until(|| cluster.web.health().iter().any(|it| !it.up)).await;
    let health = cluster.web.health();
    assert!(
        health[1].up
            && health[0].last.as_ref().unwrap().result.as_ref().unwrap_err().contains("no connection")
    );
}

#[tokio::test]
async fn one_connection_at_a_time_has_its_turn_where_a_server_may_have_no_more() {
    let mut server = Server::start().await;
    let mut config = servers(&[server.port]);
    config.connection_max = 1;
    config.queue_timeout = PATIENCE;
    let cluster = before(listener(Some(config.clone()))).await;
    let first = connect(&cluster).await;
    let at_server = server.next().await;
    let mut second = connect(&cluster).await;
    until_async(async || counts(&cluster).await.connections_open == 2).await;
    assert!(server.accepted.try_recv().is_err());
    drop((first, at_server));
    let mut at_server = server.next().await;
    send(&mut at_server, b"now").await;
    hear(&mut second, b"now").await;
    // And who may not wait is told at once.
    config.queue_timeout = Duration::ZERO;
    let cluster = before(listener(Some(config))).await;
    let _first = connect(&cluster).await;
    let _at_server = server.next().await;
    assert_eq!(rest(&mut connect(&cluster).await).await.0, b"");
    until_refused(&cluster, "no-server", 1).await;
}

#[tokio::test]
async fn servers_hear_whose_connection_it_is_if_they_want_to() {
    let mut server = Server::start().await;
    for (version, begins) in [
        (ProxyProtocolVersion::V1, &b"PROXY TCP4 127.0.0.1 127.0.0.1 "[..]),
        (ProxyProtocolVersion::V2, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01"),
    ] {
        let cluster =
            before(listener(Some(HttpProxy { proxy_protocol: Some(version), ..servers(&[server.port]) })))
                .await;
        let mut client = connect(&cluster).await;
        let (from, to) = (client.local_addr().unwrap().port(), address(&cluster).port());
        send(&mut client, b"hello").await;
        let mut at_server = server.next().await;
        hear(&mut at_server, begins).await;
        let ports = match version {
            ProxyProtocolVersion::V1 => format!("{from} {to}\r\n").into_bytes(),
            ProxyProtocolVersion::V2 => [from.to_be_bytes(), to.to_be_bytes()].concat(),
        };
        hear(&mut at_server, &[&ports[..], b"hello"].concat()).await;
    }
}

#[tokio::test]
async fn a_server_may_be_behind_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.sock");
    let listening = tokio::net::UnixListener::bind(&path).unwrap();
    let mut config = servers(&[1]);
    config.backends[0].at = BackendAddress::Socket(path);
    let cluster = before(listener(Some(config))).await;
    let mut client = connect(&cluster).await;
    let (mut server, _) = listening.accept().await.unwrap();
    server.write_all(b"hello").await.unwrap();
    hear(&mut client, b"hello").await;
    drop(server);
    assert_eq!(rest(&mut client).await, (Vec::new(), true));
}
