//! Strangers on the cluster port, and servers that want more than their role.

use crate::cluster::{Cluster, PATIENCE};
use cluster_port::{ClusterKey, Credentials, Protocol, Stream, dial};
use common::config::{ClusterEncryption, Secret};
use proto::hub::v1::{
    HubHello, LoadSession, MemberHeartbeat, RaftVoteRequest, SessionKey, SetMemberAdmin,
    members_client::MembersClient, raft_client::RaftClient, sessions_client::SessionsClient,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tonic::Code;

/// Sends `bytes` and expects the connection closed without an answer.
async fn turned_away(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The other side may close before all is written: that is an answer too.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection is closed");
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn strangers_are_turned_away() {
    tokio::join!(turns_strangers_away(None), turns_strangers_away(Some("true")));
}

async fn turns_strangers_away(encryption: Option<&'static str>) {
    let cluster = Cluster::start_with(1, |it| it.encryption = encryption).await;
    let address = cluster.configuration.cluster_port(0);
    // A browser, a gRPC client, noise.
    turned_away(&address, b"GET /count HTTP/1.1\r\nHost: a\r\n\r\n").await;
    turned_away(&address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    turned_away(&address, &[0; 4096]).await;
    // Silence: closed after the handshake's time.
    tokio::join!(turned_away(&address, b""), turned_away(&address, b"COPAL"));

    // No key, another key.
    for secret in [&b""[..], b"another key of 16+ bytes"] {
        let key = ClusterKey::new(&Secret::from(secret));
        let other = Credentials::new(key, ClusterEncryption::Optional);
        let shaken = dialled(&address, &other, "web-a", "app-a", Protocol::Http1).await;
        assert!(shaken.is_err(), "{shaken:?}");
    }
    // The right key, the wrong server.
    let own = cluster.configuration.credentials();
    assert!(dialled(&address, &own, "web-a", "app-b", Protocol::Http1).await.is_err());
}

async fn dialled(
    address: &str,
    credentials: &Credentials,
    from: &str,
    to: &str,
    protocol: Protocol,
) -> std::io::Result<Stream> {
    dial(address, credentials, &from.into(), &to.into(), protocol, PATIENCE).await
}

/// What a server may do is in its roles in the file, whoever has the key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_does_what_its_role_says_and_nothing_else() {
    let cluster = Cluster::start_with(2, |it| it.encryption = Some("true")).await;
    let (address, own) = (cluster.configuration.cluster_port(0), cluster.configuration.credentials());
    // A server that the file does not know; one without listeners that forwards requests.
    assert!(dialled(&address, &own, "web-z", "app-a", Protocol::Grpc).await.is_err());
    assert!(dialled(&address, &own, "app-b", "app-a", Protocol::Http1).await.is_err());

    let channel = |from: &str| triad_client::channel(&from.into(), &own, &"app-a".into(), &address);
    let key = Some(SessionKey { app: "app-tier||".into(), id: "aaNobody".into() });
    // The file's first three servers are the hub, and so web-a is of it: it may vote, but has no sessions.
    let load = |from: &str| {
        let (mut client, key) = (SessionsClient::new(channel(from)), key.clone());
        async move { client.load(LoadSession { key }).await.map(drop).map_err(|status| status.code()) }
    };
    assert_eq!(load("web-a").await, Err(Code::PermissionDenied));
    assert_ne!(load("app-b").await, Err(Code::PermissionDenied));
    // Nobody has the administration here.
    let set = SetMemberAdmin { id: "app-b".into(), admin: 2, author: None };
    for from in ["app-b", "web-a"] {
        let refused = MembersClient::new(channel(from)).set_admin(set.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{from}");
    }
    // Each speaks of itself.
    let beat = MemberHeartbeat { id: "app-b".into(), ..MemberHeartbeat::default() };
    let refused = MembersClient::new(channel("web-a")).heartbeat(beat).await.unwrap_err();
    assert!(matches!(refused.code(), Code::PermissionDenied | Code::FailedPrecondition), "{refused}");
}

/// Who is not of the hub says nothing in Raft.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_hub_servers_vote() {
    let cluster = Cluster::start(3).await;
    let (address, own) = (cluster.configuration.cluster_port(0), cluster.configuration.credentials());
    let channel = |from: &str| triad_client::channel(&from.into(), &own, &"app-a".into(), &address);
    let hello = HubHello::default();
    let refused = RaftClient::new(channel("web-a")).hello(hello).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let vote = RaftVoteRequest::default();
    let refused = RaftClient::new(channel("web-a")).vote(vote).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    RaftClient::new(channel("app-b")).hello(hello).await.unwrap();
}

/// Dials through a relay that keeps what the dialler sent.
async fn recorded(address: &str, credentials: &Credentials) -> Vec<u8> {
    let between = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = between.local_addr().unwrap().to_string();
    let target = address.to_owned();
    let recording = tokio::spawn(async move {
        let (dialler, _) = between.accept().await.unwrap();
        let server = TcpStream::connect(target).await.unwrap();
        let ((mut from_dialler, mut to_dialler), (mut from_server, mut to_server)) =
            (dialler.into_split(), server.into_split());
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_dialler).await });
        let (mut record, mut chunk) = (Vec::new(), [0; 1024]);
        while let Ok(count @ 1..) = from_dialler.read(&mut chunk).await {
            record.extend_from_slice(&chunk[..count]);
            to_server.write_all(&chunk[..count]).await.unwrap();
        }
        record
    });
    dialled(&relay, credentials, "web-a", "app-a", Protocol::Http1).await.unwrap();
    timeout(PATIENCE, recording).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_replayed_handshake_is_turned_away() {
    for (encryption, said) in [(None, 32), (Some("true"), 4096)] {
        let cluster = Cluster::start_with(1, |it| it.encryption = encryption).await;
        let address = cluster.configuration.cluster_port(0);
        let mut replay = recorded(&address, &cluster.configuration.credentials()).await;
        replay.extend_from_slice(b"GET /count HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let _ = stream.write_all(&replay).await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("closed");
        // A challenge, or the server's part of TLS, comes, and nothing of HTTP.
        let text = String::from_utf8_lossy(&answer);
        assert!(answer.len() <= said && !text.contains("HTTP/1.1"), "{text}");
    }
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
    let own = cluster.configuration.credentials();
    dialled(&address, &own, "web-a", "app-a", Protocol::Http1).await.unwrap();
    for mut stranger in strangers {
        let mut byte = [0];
        let read = timeout(PATIENCE, stranger.read(&mut byte)).await.expect("strangers are closed");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
}
