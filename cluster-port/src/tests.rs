//! Cluster ports on loopback sockets: encrypted and plain, and whoever sits in between.

mod certificates;
mod relays;

use super::*;
use common::config::{ClusterEncryption, Secret};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Like a file's with `cluster-encryption: true`, which binds loopback addresses too.
const ALWAYS: ClusterEncryption = ClusterEncryption::Always;

fn credentials(encryption: ClusterEncryption) -> Credentials {
    Credentials::new(ClusterKey::new(&Secret::from(&b"Jt0Y3zq1Vw8nXo5cRkU7"[..])), encryption)
}

fn roster() -> Roster {
    ["app-a", "app-b", "web-a"].into_iter().map(|id| (id.into(), Rights::ALL)).collect()
}

/// The cluster port of app-a.
async fn port(credentials: Credentials) -> (Acceptor, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let port = Port { me: "app-a".into(), address: address.clone(), credentials, roster: roster().fixed() };
    (Acceptor::start(listener, port), address)
}

async fn dial_as(from: &str, address: &str, credentials: &Credentials) -> io::Result<Stream> {
    dial(address, credentials, &from.into(), &"app-a".into(), Protocol::Grpc, PATIENCE).await
}

/// Waits until so many handshakes were refused, and no more.
async fn refused(acceptor: &Acceptor, count: u64) {
    let waiting = async {
        while acceptor.refused() < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("refusals are counted");
    assert_eq!(acceptor.refused(), count);
}

/// Whether bytes pass both ways, more than any buffer holds.
async fn talk(near: Stream, far: Stream) {
    const SIZE: usize = 4 << 20;
    let side = async |mut stream: Stream, own: u8, other: u8| {
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
        let writing = async {
            writer.write_all(&vec![own; SIZE]).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let reading = async {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).await.unwrap();
            assert!(all.len() == SIZE && all.iter().all(|byte| *byte == other), "{} bytes", all.len());
        };
        tokio::join!(writing, reading);
    };
    tokio::join!(side(near, 1, 2), side(far, 2, 1));
}

#[tokio::test]
async fn servers_of_one_file_meet_encrypted_or_plain() {
    for (encryption, encrypted) in [
        (ALWAYS, true),
        (ClusterEncryption::Never, false),
        (ClusterEncryption::BeyondLoopback, false),
        (ClusterEncryption::Optional, true),
    ] {
        let (mut acceptor, address) = port(credentials(encryption)).await;
        // Each process has a key of its own for TLS.
        let near = dial_as("web-a", &address, &credentials(encryption)).await.unwrap();
        let Authenticated { stream: far, peer } = acceptor.next().await.unwrap();
        assert_eq!((peer.id.as_str(), peer.protocol), ("web-a", Protocol::Grpc));
        assert_eq!((near.is_encrypted(), far.is_encrypted()), (encrypted, encrypted), "{encryption:?}");
        talk(near, far).await;
    }
}

/// A gRPC channel polls a connection no more when the call is given up that wanted it.
#[tokio::test]
async fn a_handshake_in_a_task_is_done_though_nobody_polls_it() {
    let (mut acceptor, address) = port(credentials(ALWAYS)).await;
    let (web, app) = ("web-a".into(), "app-a".into());
    let dialling = dial_in_task(address, credentials(ALWAYS), web, app, Protocol::Grpc, PATIENCE);
    let mut dialling = std::pin::pin!(dialling);
    let first = std::future::poll_fn(|context| std::task::Poll::Ready(dialling.as_mut().poll(context))).await;
    assert!(first.is_pending());
    let far = tokio::time::timeout(PATIENCE, acceptor.next()).await.expect("a handshake").unwrap().stream;
    talk(dialling.await.unwrap(), far).await;
    assert_eq!(acceptor.refused(), 0);
}

#[tokio::test]
async fn a_plain_dialler_is_refused_where_connections_are_encrypted_and_the_other_way_round() {
    for (ours, theirs) in [(ALWAYS, ClusterEncryption::Never), (ClusterEncryption::Never, ALWAYS)] {
        let (acceptor, address) = port(credentials(ours)).await;
        let cause = dial_as("web-a", &address, &credentials(theirs)).await.unwrap_err();
        assert_eq!(cause.kind(), io::ErrorKind::ConnectionAborted, "{cause}");
        assert!(cause.to_string().contains("cluster-encryption"), "{cause}");
        refused(&acceptor, 1).await;
    }
}

/// The way of a running cluster from `false` to `true` and back: in each step two neighbours of it meet, whoever dials.
#[tokio::test]
async fn a_cluster_can_change_step_by_step() {
    use ClusterEncryption::{Never, Optional};
    for (ours, theirs, encrypted) in [
        (Never, Optional, false),
        (Optional, Never, false),
        (Optional, ALWAYS, true),
        (ALWAYS, Optional, true),
    ] {
        let (mut acceptor, address) = port(credentials(ours)).await;
        let near = dial_as("web-a", &address, &credentials(theirs)).await.unwrap();
        let far = acceptor.next().await.unwrap().stream;
        assert_eq!((near.is_encrypted(), far.is_encrypted()), (encrypted, encrypted), "{ours:?} {theirs:?}");
    }
}

#[tokio::test]
async fn another_key_does_not_get_in() {
    for encryption in [ALWAYS, ClusterEncryption::Never, ClusterEncryption::Optional] {
        let (acceptor, address) = port(credentials(encryption)).await;
        let other = Credentials::new(ClusterKey::new(&Secret::default()), encryption);
        assert!(dial_as("web-a", &address, &other).await.is_err());
        // Nobody falls back to a bare socket for a wrong proof.
        refused(&acceptor, 1).await;
    }
}

#[tokio::test]
async fn strangers_are_closed_and_told_nothing() {
    let (acceptor, address) = port(credentials(ALWAYS)).await;
    // A browser, a handshake of the first version, noise, the beginning of a TLS record, and silence.
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"COPAL\x01\x01", &[0; 4096], &[22, 3, 1, 1, 0], b""] {
        let mut stranger = TcpStream::connect(&address).await.unwrap();
        let _ = stranger.write_all(bytes).await;
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stranger.read_to_end(&mut answer)).await;
        let _ = ended.expect("the connection is closed");
        assert!(answer.len() <= 7, "an alert at most: {answer:?}");
    }
    refused(&acceptor, 5).await;
}

#[tokio::test]
async fn who_looks_whether_the_port_is_open_is_none_that_was_refused() {
    for encryption in [ALWAYS, ClusterEncryption::Never] {
        let (acceptor, address) = port(credentials(encryption)).await;
        for _ in 0..3 {
            let mut looks = TcpStream::connect(&address).await.unwrap();
            looks.shutdown().await.unwrap();
            let ended = tokio::time::timeout(PATIENCE, looks.read_u8()).await;
            assert!(ended.expect("the connection is closed").is_err());
        }
        let mut stranger = TcpStream::connect(&address).await.unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        refused(&acceptor, 1).await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_quiet_until_the_other_side_speaks_or_goes() {
    for encryption in [ALWAYS, ClusterEncryption::Never] {
        let (mut acceptor, address) = port(credentials(encryption)).await;
        let mut near = dial_as("web-a", &address, &credentials(encryption)).await.unwrap();
        let mut far = acceptor.next().await.unwrap().stream;
        assert!(near.is_quiet());
        far.write_all(b"ok").await.unwrap();
        far.flush().await.unwrap();
        near.read_exact(&mut [0; 2]).await.unwrap();
        assert!(near.is_quiet(), "what was said has been heard");
        far.write_all(b"and more").await.unwrap();
        far.flush().await.unwrap();
        near.read_exact(&mut [0]).await.unwrap();
        assert!(!near.is_quiet(), "there is more");
        near.read_exact(&mut [0; 7]).await.unwrap();
        drop(far);
        while near.is_quiet() {
            tokio::task::yield_now().await;
        }
    }
}
