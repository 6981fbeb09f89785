//! Strangers on the cluster port.

use crate::cluster::{Cluster, Configuration, PATIENCE};
use common::{
    cluster_port::{ClusterKey, Hello, Protocol, connect, dial},
    config::Secret,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Sends `bytes` and expects the connection closed without an answer.
async fn turned_away(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The other side may close before all is written: that is an answer too.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection is closed");
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
}

fn hello() -> Hello {
    Hello { from: "web-a".into(), to: "app-a".into(), protocol: Protocol::Http1 }
}

#[tokio::test]
async fn strangers_are_turned_away() {
    let cluster = Cluster::start(1).await;
    let address = cluster.configuration.cluster_port(0);
    // A browser, a gRPC client, noise.
    turned_away(&address, b"GET /count HTTP/1.1\r\nHost: a\r\n\r\n").await;
    turned_away(&address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    turned_away(&address, &[0; 4096]).await;
    // Silence: closed after the handshake's time.
    turned_away(&address, b"").await;
    turned_away(&address, b"COPAL").await;

    // No key, another key.
    for secret in [&b""[..], b"another key of 16+ bytes"] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let shaken = connect(&mut stream, &ClusterKey::new(&Secret::from(secret)), &hello()).await;
        assert!(shaken.is_err(), "{shaken:?}");
    }
    // The right key, the wrong server.
    let wrong = Hello { to: "app-b".into(), ..hello() };
    let mut stream = TcpStream::connect(&address).await.unwrap();
    assert!(connect(&mut stream, &Configuration::key(), &wrong).await.is_err());
}

/// Passes bytes through and keeps what the dialler sent.
async fn recorded(address: &str, key: &ClusterKey) -> Vec<u8> {
    let (mut near, far) = tokio::io::duplex(4096);
    let mut server = TcpStream::connect(address).await.unwrap();
    let recording = tokio::spawn(async move {
        let (mut from_dialler, mut to_dialler) = tokio::io::split(far);
        let (mut from_server, mut to_server) = server.split();
        let mut record = Vec::new();
        let mut chunk = [0; 1024];
        let answers = tokio::io::copy(&mut from_server, &mut to_dialler);
        tokio::pin!(answers);
        loop {
            tokio::select! {
                read = from_dialler.read(&mut chunk) => match read {
                    Ok(0) | Err(_) => return record,
                    Ok(n) => {
                        record.extend_from_slice(&chunk[..n]);
                        to_server.write_all(&chunk[..n]).await.unwrap();
                    }
                },
                _ = &mut answers => return record,
            }
        }
    });
    connect(&mut near, key, &hello()).await.unwrap();
    drop(near);
    recording.await.unwrap()
}

#[tokio::test]
async fn a_replayed_handshake_is_turned_away() {
    let cluster = Cluster::start(1).await;
    let address = cluster.configuration.cluster_port(0);
    let mut replay = recorded(&address, &Configuration::key()).await;
    replay.extend_from_slice(b"GET /count HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let _ = stream.write_all(&replay).await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("closed");
    // The server's half of the handshake comes, and nothing of HTTP.
    assert!(answer.len() <= 64, "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_thousand_idle_strangers_keep_nobody_out() {
    // These strangers live in this process.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let cluster = Cluster::start(1).await;
    let address = cluster.configuration.cluster_port(0);
    let mut strangers = Vec::new();
    for _ in 0..3000 {
        strangers.push(TcpStream::connect(&address).await.unwrap());
    }
    let mut user = cluster.user();
    assert_eq!(user.count().await.0, 1);
    let key = Configuration::key();
    dial(&address, &key, &"web-a".into(), &"app-a".into(), Protocol::Http1, PATIENCE).await.unwrap();
    for mut stranger in strangers {
        let mut byte = [0];
        let read = timeout(PATIENCE, stranger.read(&mut byte)).await.expect("strangers are closed");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
}
