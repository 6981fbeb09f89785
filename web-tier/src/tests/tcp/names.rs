//! Routes by what clients ask for.

use super::*;
use rcgen::generate_simple_self_signed;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, ServerName},
};
use std::sync::Arc;
use tokio_rustls::{TlsAcceptor, TlsConnector};

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The beginning of a client that asks for this name.
pub(super) fn hello(name: &str) -> Vec<u8> {
    let config =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

fn routed(a: u16, below: u16, default: Option<u16>) -> Listener {
    let mut listener = listener(default.map(|port| servers(&[port])));
    listener.routes = vec![route("a.test", a), route("*.b.test", below)];
    listener
}

#[tokio::test]
async fn the_name_chooses_the_server_and_every_byte_gets_there() {
    let mut at = [Server::start().await, Server::start().await, Server::start().await];
    let cluster = before(routed(at[0].port, at[1].port, Some(at[2].port))).await;
    for (name, place) in [("a.test", 0), ("x.b.test", 1), ("b.test", 2), ("other.test", 2)] {
        let bytes = hello(name);
        let mut client = connect(&cluster).await;
        send(&mut client, &bytes).await;
        send(&mut client, b"and more").await;
        client.shutdown().await.unwrap();
        let mut server = at[place].next().await;
        assert_eq!(rest(&mut server).await, ([&bytes[..], b"and more"].concat(), true), "{name}");
    }
    for other in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16", b""] {
        let mut client = connect(&cluster).await;
        send(&mut client, other).await;
        client.shutdown().await.unwrap();
        if other == b"\x16" {
            assert_eq!(rest(&mut client).await.0, b"");
            continue;
        }
        assert_eq!(rest(&mut at[2].next().await).await, (other.to_vec(), true));
    }
    until_refused(&cluster, "client-hello", 1).await;
}

#[tokio::test]
async fn a_client_hello_in_pieces_of_one_byte_is_the_same() {
    let mut server = Server::start().await;
    let cluster = before(routed(server.port, dead().0, None)).await;
    let bytes = hello("A.Test");
    let mut client = connect(&cluster).await;
    client.set_nodelay(true).unwrap();
    for byte in &bytes {
        send(&mut client, &[*byte]).await;
        tokio::task::yield_now().await;
    }
    let mut at_server = server.next().await;
    hear(&mut at_server, &bytes).await;
    send(&mut at_server, b"answer").await;
    hear(&mut client, b"answer").await;
}

#[tokio::test]
async fn tls_ends_at_the_server_alone() {
    let mut server = Server::start().await;
    let cluster = before(routed(server.port, dead().0, None)).await;
    let own = generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    let config =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    let trusting =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let trusting = trusting.with_root_certificates(roots).with_no_client_auth();
    let stream = connect(&cluster).await;
    let answering = tokio::spawn(async move {
        let mut tls = TlsAcceptor::from(Arc::new(config)).accept(server.next().await).await.unwrap();
        let mut asked = [0; 4];
        tls.read_exact(&mut asked).await.unwrap();
        tls.write_all(&asked).await.unwrap();
        tls.shutdown().await.unwrap();
    });
    let name = ServerName::try_from("a.test").unwrap();
    let mut tls = TlsConnector::from(Arc::new(trusting)).connect(name, stream).await.unwrap();
    tls.write_all(b"ping").await.unwrap();
    let mut heard = Vec::new();
    timeout(PATIENCE, tls.read_to_end(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard, b"ping");
    answering.await.unwrap();
}

#[tokio::test]
async fn a_client_for_whom_there_is_no_route_is_told_so() {
    let cluster = before(routed(dead().0, dead().0, None)).await;
    let mut client = connect(&cluster).await;
    send(&mut client, &hello("other.test")).await;
    // RFC 8446 §6.2: a fatal alert, unrecognized_name.
    assert_eq!(rest(&mut client).await, (vec![21, 3, 1, 0, 2, 2, 112], true));
    let mut client = connect(&cluster).await;
    send(&mut client, b"not TLS").await;
    assert_eq!(rest(&mut client).await.0, b"");
    until_refused(&cluster, "no-route", 2).await;
}

#[tokio::test]
async fn who_waits_for_the_server_to_speak_gets_the_default() {
    let port = echo("220 ready").await;
    let mut config = routed(dead().0, dead().0, Some(port));
    config.client_hello_timeout = Duration::from_millis(30);
    let cluster = before(config).await;
    hear(&mut connect(&cluster).await, b"220 ready").await;
}
