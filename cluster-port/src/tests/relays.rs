//! Somebody who sits between two servers. Who only passes bytes on is the network itself.

use super::*;
use crate::{handshake::Binding, tls::Tls};
use rustls::pki_types::ServerName;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Passes one connection on to `target`; `rewrite` sees what goes there, by its place.
async fn relay(target: String, rewrite: impl Fn(usize, &mut u8) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (dialler, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(target).await.unwrap();
        let ((mut from_dialler, mut to_dialler), (mut from_server, mut to_server)) =
            (dialler.into_split(), server.into_split());
        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_dialler).await });
        let (mut bytes, mut place) = ([0; 4096], 0);
        while let Ok(count @ 1..) = from_dialler.read(&mut bytes).await {
            for byte in &mut bytes[..count] {
                rewrite(place, byte);
                place += 1;
            }
            if to_server.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    });
    address
}

#[tokio::test]
async fn whoever_passes_bytes_on_is_the_network() {
    let (mut acceptor, address) = port(credentials(ALWAYS)).await;
    let between = relay(address, |_, _| {}).await;
    let near = dial_as("web-a", &between, &credentials(ALWAYS)).await.unwrap();
    talk(near, acceptor.next().await.unwrap().stream).await;
}

#[tokio::test]
async fn whoever_changes_a_byte_of_the_handshake_is_found_out() {
    // In the client's first message, and in what follows it.
    for changed in [100, 700, 1300, 1450] {
        let (acceptor, address) = port(credentials(ALWAYS)).await;
        let between = relay(address, move |place, byte| {
            if place == changed {
                *byte ^= 1;
            }
        })
        .await;
        assert!(dial_as("web-a", &between, &credentials(ALWAYS)).await.is_err(), "{changed}");
        refused(&acceptor, 1).await;
    }
}

#[tokio::test]
async fn whoever_changes_what_is_said_later_ends_the_connection() {
    let (mut acceptor, address) = port(credentials(ALWAYS)).await;
    let from = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let on = from.clone();
    let between = relay(address, move |_, byte| {
        if on.load(std::sync::atomic::Ordering::SeqCst) {
            *byte ^= 1;
        }
    })
    .await;
    let mut near = dial_as("web-a", &between, &credentials(ALWAYS)).await.unwrap();
    let mut far = acceptor.next().await.unwrap().stream;
    from.store(true, std::sync::atomic::Ordering::SeqCst);
    near.write_all(b"pay 100 to alice").await.unwrap();
    near.flush().await.unwrap();
    let read = far.read(&mut [0; 64]).await;
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

/// Ends TLS on both sides, with a key of his own, and passes on what is inside.
async fn man_in_the_middle(target: String) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let acting = tokio::spawn(async move {
        let tls = Tls::ephemeral();
        let (dialler, _) = listener.accept().await.unwrap();
        let mut dialler = TlsAcceptor::from(tls.server).accept(dialler).await.unwrap();
        let server = TcpStream::connect(target).await.unwrap();
        let name = ServerName::try_from("app-a").unwrap();
        let mut server = TlsConnector::from(tls.client).connect(name, server).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut dialler, &mut server).await;
    });
    (address, acting)
}

#[tokio::test]
async fn whoever_ends_tls_on_both_sides_fails_on_the_proof() {
    let (acceptor, address) = port(credentials(ALWAYS)).await;
    let (between, acting) = man_in_the_middle(address).await;
    let cause = dial_as("web-a", &between, &credentials(ALWAYS)).await.unwrap_err();
    assert!(cause.to_string().contains("closed the connection during the handshake"), "{cause}");
    // The acceptor has found out that the proof is not for this connection.
    refused(&acceptor, 1).await;
    acting.await.unwrap();
}

/// Plays what a dialler said once to the same port again.
#[tokio::test]
async fn a_recorded_connection_proves_nothing() {
    let (mut acceptor, address) = port(credentials(ALWAYS)).await;
    let record = Arc::new(std::sync::Mutex::new(Vec::new()));
    let writing = record.clone();
    let between = relay(address.clone(), move |_, byte| writing.lock().unwrap().push(*byte)).await;
    let near = dial_as("web-a", &between, &credentials(ALWAYS)).await.unwrap();
    acceptor.next().await.unwrap();
    drop(near);
    let record = record.lock().unwrap().clone();
    let mut again = TcpStream::connect(&address).await.unwrap();
    let _ = again.write_all(&record).await;
    let _ = again.read_to_end(&mut Vec::new()).await;
    refused(&acceptor, 1).await;
}

/// The two ends of one TLS connection have one exporter, and no other has it.
#[tokio::test]
async fn the_exporter_is_of_one_connection() {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let (near, far) = tokio::io::duplex(64 << 10);
        let tls = Tls::ephemeral();
        let name = ServerName::try_from("app-a").unwrap();
        let (near, far) = tokio::join!(
            TlsConnector::from(tls.client).connect(name, near),
            TlsAcceptor::from(tls.server).accept(far)
        );
        let (near, far) = (near.unwrap(), far.unwrap());
        let exported = |export: &dyn Fn([u8; 32]) -> Result<[u8; 32], rustls::Error>| {
            match credentials::exporter(export) {
                Ok(Binding::Exporter(bytes)) => bytes,
                other => panic!("{other:?}"),
            }
        };
        let label = b"EXPORTER-Channel-Binding";
        let one = exported(&|out| near.get_ref().1.export_keying_material(out, label, Some(&[])));
        let two = exported(&|out| far.get_ref().1.export_keying_material(out, label, Some(&[])));
        assert_eq!(one, two);
        seen.push(one);
    }
    assert_ne!(seen[0], seen[1]);
}
