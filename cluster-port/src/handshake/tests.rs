//! The handshake between two ends of a pipe: who gets in and who does not.

use super::*;
use common::config::Secret;
use tokio::io::{DuplexStream, duplex};

const KEY: &str = "Jt0Y3zq1Vw8nXo5cRkU7";

fn key(secret: &str) -> ClusterKey {
    ClusterKey::new(&Secret::from(secret.as_bytes()))
}

fn hello() -> Hello {
    Hello { from: "web-a".into(), to: "app-a".into(), protocol: Protocol::Http1 }
}

fn roster() -> Roster {
    let hub = Rights { hub: true, apps: true, ..Rights::default() };
    let web = Rights { listens: true, ..Rights::default() };
    [("app-a".into(), hub), ("app-b".into(), hub), ("web-a".into(), web)].into_iter().collect()
}

async fn accept_as(far: &mut DuplexStream, secret: &str, binding: Binding) -> Result<Peer, HandshakeError> {
    accept(far, &[key(secret)], binding, &"app-a".into(), &roster(), |_| true).await
}

/// What both sides make of it, each with its key and binding.
async fn shake_with(
    dialler: (&str, Binding),
    acceptor: (&str, Binding),
    hello: Hello,
) -> (Result<(), String>, Result<Peer, String>) {
    let (mut near, mut far) = duplex(1024);
    let accepting = async {
        let done = accept_as(&mut far, acceptor.0, acceptor.1).await;
        drop(far);
        done
    };
    let key = key(dialler.0);
    let (connected, accepted) = tokio::join!(connect(&mut near, &key, dialler.1, &hello), accepting);
    (connected.map_err(|e| e.to_string()), accepted.map_err(|e| e.to_string()))
}

async fn shake(dialler: &str, acceptor: &str, hello: Hello) -> (Result<(), String>, Result<Peer, String>) {
    shake_with((dialler, Binding::Challenge), (acceptor, Binding::Challenge), hello).await
}

#[tokio::test]
async fn the_same_key_gets_in() {
    for binding in [Binding::Challenge, Binding::Exporter([7; 32])] {
        let (connected, accepted) = shake_with((KEY, binding), (KEY, binding), hello()).await;
        assert_eq!(connected, Ok(()));
        let rights = Rights { listens: true, ..Rights::default() };
        assert_eq!(accepted, Ok(Peer { id: "web-a".into(), protocol: Protocol::Http1, rights }));
    }
}

#[tokio::test]
async fn a_dialler_with_another_key_learns_nothing() {
    for binding in [Binding::Challenge, Binding::Exporter([7; 32])] {
        let (connected, accepted) = shake_with(("another", binding), (KEY, binding), hello()).await;
        assert!(connected.unwrap_err().contains("closed the connection"));
        assert!(accepted.unwrap_err().contains("proof of the cluster key is wrong"));
    }
}

/// The dialler proves first: until its proof is there the acceptor says a random challenge at most, and inside TLS nothing.
#[tokio::test]
async fn an_acceptor_proves_nothing_to_a_stranger() {
    for (binding, said) in [(Binding::Challenge, NONCE), (Binding::Exporter([7; 32]), 0)] {
        let (mut near, mut far) = duplex(1024);
        let accepting = tokio::spawn(async move { accept_as(&mut far, KEY, binding).await });
        near.write_all(&encode(&hello()).unwrap()).await.unwrap();
        near.write_all(&[0; PROOF]).await.unwrap();
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.len(), said);
        assert!(matches!(accepting.await.unwrap(), Err(HandshakeError::WrongKey)));
    }
}

#[tokio::test]
async fn an_acceptor_without_the_key_is_found_out() {
    let (mut near, mut far) = duplex(1024);
    let faking = tokio::spawn(async move {
        read_hello(&mut far).await.unwrap();
        far.write_all(&[9; NONCE]).await.unwrap();
        let mut proof = [0; PROOF];
        far.read_exact(&mut proof).await.unwrap();
        // What it has just heard is no proof of its own.
        far.write_all(&proof).await.unwrap();
        far
    });
    let refused = connect(&mut near, &key(KEY), Binding::Challenge, &hello()).await;
    assert!(matches!(refused, Err(HandshakeError::WrongKey)), "{refused:?}");
    faking.await.unwrap();
}

/// A proof is for one connection, and for TLS or the bare socket: what a relay between them could pass on.
#[tokio::test]
async fn a_proof_is_bound_to_its_channel() {
    let (one, other) = (Binding::Exporter([1; 32]), Binding::Exporter([2; 32]));
    let (_, accepted) = shake_with((KEY, one), (KEY, other), hello()).await;
    assert!(accepted.unwrap_err().contains("somebody sits in between"));

    // Somebody sends the exporter of his own TLS connection to a plain dialler as the challenge.
    let (mut near, mut far) = duplex(1024);
    let dialling = tokio::spawn(async move {
        let refused = connect(&mut near, &key(KEY), Binding::Challenge, &hello()).await;
        assert!(matches!(refused, Err(HandshakeError::Closed)), "{refused:?}");
    });
    let (raw, _) = read_hello(&mut far).await.unwrap();
    far.write_all(&[1; NONCE]).await.unwrap();
    let mut proof = [0; PROOF];
    far.read_exact(&mut proof).await.unwrap();
    drop(far);
    dialling.await.unwrap();
    let (mut near, mut far) = duplex(1024);
    near.write_all(&[raw, proof.to_vec()].concat()).await.unwrap();
    let refused = accept_as(&mut far, KEY, one).await;
    assert!(matches!(refused, Err(HandshakeError::WrongKey)), "{refused:?}");
}

#[tokio::test]
async fn names_and_roles_are_the_files() {
    let refusal = async |hello: Hello| {
        let (connected, accepted) = shake(KEY, KEY, hello).await;
        assert!(connected.unwrap_err().contains("closed the connection"));
        accepted.unwrap_err()
    };
    let wrong_server = refusal(Hello { to: "app-b".into(), ..hello() }).await;
    assert!(wrong_server.contains("wants server app-b, this is app-a"), "{wrong_server}");
    let unknown = refusal(Hello { from: "web-z".into(), protocol: Protocol::Grpc, ..hello() }).await;
    assert!(unknown.contains("calls itself web-z, and this server's file has no such server"), "{unknown}");
    let no_listener = refusal(Hello { from: "app-b".into(), ..hello() }).await;
    assert!(no_listener.contains("app-b wants to forward requests"), "{no_listener}");
    let (_, accepted) =
        shake(KEY, KEY, Hello { from: "app-b".into(), protocol: Protocol::Grpc, ..hello() }).await;
    assert!(accepted.unwrap().rights.hub);
}

#[tokio::test]
async fn a_name_that_the_certificate_does_not_bear_is_refused() {
    let (mut near, mut far) = duplex(1024);
    let accepting = async {
        let bears = |id: &ServerId| id.as_str() == "app-b";
        let done = accept(&mut far, &[key(KEY)], Binding::Challenge, &"app-a".into(), &roster(), bears).await;
        drop(far);
        done
    };
    let key = key(KEY);
    let hello = hello();
    let (_, accepted) = tokio::join!(connect(&mut near, &key, Binding::Challenge, &hello), accepting);
    assert!(matches!(accepted, Err(HandshakeError::WrongCertificate(id)) if id.as_str() == "web-a"));
}

/// While the key is changed an acceptor takes two, and answers each dialler with his own.
#[tokio::test]
async fn each_of_two_keys_gets_in() {
    for secret in ["the new one", "the old one"] {
        let (mut near, mut far) = duplex(1024);
        let accepting = async {
            let keys = ["the new one", "the old one"].map(key);
            accept(&mut far, &keys, Binding::Challenge, &"app-a".into(), &roster(), |_| true).await
        };
        let (key, hello) = (key(secret), hello());
        let (connected, accepted) =
            tokio::join!(connect(&mut near, &key, Binding::Challenge, &hello), accepting);
        assert!(connected.is_ok() && accepted.is_ok(), "{connected:?} {accepted:?}");
    }
}

/// Records what a dialler sends, then plays it to a fresh acceptor.
#[tokio::test]
async fn a_replayed_handshake_is_refused() {
    let (mut near, mut far) = duplex(1024);
    let secret = key(KEY);
    let hello = encode(&hello()).unwrap();
    near.write_all(&hello).await.unwrap();
    let accepting = async { accept_as(&mut far, KEY, Binding::Challenge).await };
    let dialling = async {
        let mut challenge = [0; NONCE];
        near.read_exact(&mut challenge).await.unwrap();
        let label = Binding::Challenge.labels().dialler;
        let proof = secret.proof(label, [&hello, &challenge]).finalize().into_bytes();
        near.write_all(&proof).await.unwrap();
        proof
    };
    let (accepted, proof) = tokio::join!(accepting, dialling);
    accepted.unwrap();

    let (mut near, mut far) = duplex(1024);
    near.write_all(&hello).await.unwrap();
    near.write_all(&proof).await.unwrap();
    let replayed = accept_as(&mut far, KEY, Binding::Challenge).await;
    assert!(matches!(replayed, Err(HandshakeError::WrongKey)), "{replayed:?}");
}

async fn accept_bytes(bytes: &[u8]) -> String {
    let (mut near, mut far): (DuplexStream, DuplexStream) = duplex(1024);
    near.write_all(bytes).await.unwrap();
    drop(near);
    accept_as(&mut far, KEY, Binding::Challenge).await.unwrap_err().to_string()
}

#[tokio::test]
async fn strangers_are_named() {
    assert!(
        accept_bytes(b"GET / HTTP/1.1\r\n\r\n")
            .await
            .contains("not a Copal server: the first bytes were \"GET / H\"")
    );
    assert!(accept_bytes(b"COPAL\x01\x01").await.contains("handshake version 1, expected 2"));
    assert!(accept_bytes(b"COPAL\x02\x09").await.contains("unknown protocol 9"));
    assert!(
        accept_bytes(b"COPAL\x02\x01\x00\x00").await.contains("a server's name in the handshake is \"\"")
    );
    assert!(accept_bytes(b"COP").await.contains("closed"));
}

/// What would forge a line of a log, or a terminal's colours, is no name, and is told escaped.
#[tokio::test]
async fn names_obey_the_rule_of_the_file() {
    for name in ["a\nINFO all is well", "\u{1b}[2Ja", "a b", "..", "ä", &"a".repeat(65)] {
        let length = u8::try_from(name.len()).unwrap();
        let bytes = [b"COPAL\x02\x01", &[length][..], name.as_bytes()].concat();
        let said = accept_bytes(&bytes).await;
        assert!(said.contains("a server's name in the handshake is"), "{said}");
        assert!(!said.chars().any(char::is_control), "{said:?}");
    }
    let (own, key) = (Hello { from: "a b".into(), ..hello() }, key(KEY));
    let refused = connect(&mut duplex(64).0, &key, Binding::Challenge, &own).await;
    assert!(matches!(refused, Err(HandshakeError::Name(_))));
}
