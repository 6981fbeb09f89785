//! The handshake between two ends of a pipe: who gets in and who does not.

use super::*;
use tokio::io::{DuplexStream, duplex};

fn key(secret: &str) -> ClusterKey {
    ClusterKey::new(&Secret::from(secret.as_bytes()))
}

fn hello() -> Hello {
    Hello { from: "web-a".into(), to: "app-a".into(), protocol: Protocol::Http1 }
}

async fn shake(dialler: &str, acceptor: &str, hello: Hello) -> (Result<(), String>, Result<Peer, String>) {
    let (mut near, mut far) = duplex(1024);
    let accepting = async {
        let done = accept(&mut far, &key(acceptor), &"app-a".into()).await;
        drop(far);
        done
    };
    let key = key(dialler);
    let (connected, accepted) = tokio::join!(connect(&mut near, &key, &hello), accepting);
    (connected.map_err(|e| e.to_string()), accepted.map_err(|e| e.to_string()))
}

#[tokio::test]
async fn the_same_key_gets_in() {
    let (connected, accepted) = shake("0123456789abcdef", "0123456789abcdef", hello()).await;
    assert_eq!(connected, Ok(()));
    assert_eq!(accepted, Ok(Peer { id: "web-a".into(), protocol: Protocol::Http1 }));
}

#[tokio::test]
async fn another_key_is_found_out_by_the_dialler_first() {
    let (mut near, far) = duplex(1024);
    let accepting = tokio::spawn(async move {
        let mut far = far;
        accept(&mut far, &key("another key, 16+"), &"app-a".into()).await
    });
    let refused = connect(&mut near, &key("0123456789abcdef"), &hello()).await;
    assert!(matches!(refused, Err(HandshakeError::WrongKey)), "{refused:?}");
    drop(near);
    let closed = accepting.await.unwrap();
    assert!(matches!(closed, Err(HandshakeError::Closed)), "{closed:?}");
}

#[tokio::test]
async fn another_server_is_not_answered() {
    let (connected, accepted) = shake("k", "k", Hello { to: "app-b".into(), ..hello() }).await;
    assert!(connected.unwrap_err().contains("closed the connection"));
    assert!(accepted.unwrap_err().contains("wants server app-b, this is app-a"));
}

/// Records what a dialler sends, then plays it to a fresh acceptor.
#[tokio::test]
async fn a_replayed_handshake_is_refused() {
    let (mut near, mut far) = duplex(1024);
    let secret = key("0123456789abcdef");
    let hello = encode(&hello()).unwrap();
    near.write_all(&hello).await.unwrap();
    let accepting = async { accept(&mut far, &secret, &"app-a".into()).await };
    let dialling = async {
        let mut answer = [0; NONCE + PROOF];
        near.read_exact(&mut answer).await.unwrap();
        let nonce: [u8; NONCE] = answer[..NONCE].try_into().unwrap();
        let proof = secret.proof(Side::Client, &hello, &nonce).finalize().into_bytes();
        near.write_all(&proof).await.unwrap();
        proof
    };
    let (accepted, proof) = tokio::join!(accepting, dialling);
    accepted.unwrap();

    let (mut near, mut far) = duplex(1024);
    near.write_all(&hello).await.unwrap();
    near.write_all(&proof).await.unwrap();
    let replayed = accept(&mut far, &secret, &"app-a".into()).await;
    assert!(matches!(replayed, Err(HandshakeError::WrongKey)), "{replayed:?}");
}

async fn accept_bytes(bytes: &[u8]) -> String {
    let (mut near, mut far): (DuplexStream, DuplexStream) = duplex(1024);
    near.write_all(bytes).await.unwrap();
    drop(near);
    accept(&mut far, &key("k"), &"app-a".into()).await.unwrap_err().to_string()
}

#[tokio::test]
async fn strangers_are_named() {
    assert!(
        accept_bytes(b"GET / HTTP/1.1\r\n\r\n")
            .await
            .contains("not a Copal server: the first bytes were \"GET / H\"")
    );
    assert!(accept_bytes(b"COPAL\x07\x01").await.contains("handshake version 7, expected 1"));
    assert!(accept_bytes(b"COPAL\x01\x09").await.contains("unknown protocol 9"));
    assert!(accept_bytes(b"COPAL\x01\x01\x00\x00").await.contains("name"));
    assert!(accept_bytes(b"COP").await.contains("closed"));
}

#[test]
fn a_code_is_for_one_key_one_purpose_and_its_parts() {
    let key = |secret: &str| ClusterKey::new(&Secret::from(secret.as_bytes()));
    let code = key("a secret").code("cookies", &[b"ab", b"c"]);
    assert_eq!(code, key("a secret").code("cookies", &[b"ab", b"c"]));
    for other in [
        key("b secret").code("cookies", &[b"ab", b"c"]),
        key("a secret").code("tickets", &[b"ab", b"c"]),
        key("a secret").code("cookies", &[b"a", b"bc"]),
        key("a secret").code("cookies", &[b"abc"]),
    ] {
        assert_ne!(code, other);
    }
}
