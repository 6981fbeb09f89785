//! Versions, ALPN, key exchange, and handshakes that fail.

use super::*;
use rustls::{CipherSuite, NamedGroup};

struct Setup {
    authority: Authority,
    folder: Folder,
}

fn setup() -> Setup {
    let (authority, folder) = (Authority::new(), Folder::new());
    folder.put("site", &authority.issue(&["a.test"]));
    Setup { authority, folder }
}

#[tokio::test]
async fn http2_is_chosen_where_both_have_it() {
    let Setup { authority, folder } = setup();
    let both = folder.listener(&["site"], "");
    let tls = folder.tls(&certs(&["site"], ""));
    let one = TlsListener::load(&tls, &context(&keys("key")), false, None).unwrap();
    for (offered, listener, h2) in [
        (vec!["h2", "http/1.1"], &both, true),
        (vec!["http/1.1", "h2"], &both, true),
        (vec!["http/1.1"], &both, false),
        (vec![], &both, false),
        (vec!["h2", "http/1.1"], &one, false),
    ] {
        let client = authority.client(|config| {
            config.alpn_protocols = offered.iter().map(|it| it.as_bytes().to_vec()).collect();
        });
        let connected = connect(listener, &client, "a.test").await;
        assert_eq!(connected.connection.h2, h2, "{offered:?}");
        let said = connected.client.get_ref().1.alpn_protocol();
        assert_eq!(said.is_some(), !offered.is_empty(), "{offered:?}");
    }
    let client = authority.client(|config| config.alpn_protocols = vec![b"spdy/3".to_vec()]);
    let (_, server) = try_connect(&both, &client, "a.test").await.unwrap_err();
    assert_eq!(server.unwrap().failure(), Failure::NothingInCommon);
}

#[tokio::test]
async fn the_lowest_version_is_as_configured() {
    let Setup { authority, folder } = setup();
    let (low, high) = (folder.listener(&["site"], ""), folder.listener(&["site"], "min-version: 1.3"));
    let (client12, client13) = (authority.client12(), authority.client(|_| {}));
    assert!(!connect(&low, &client12, "a.test").await.connection.tls13);
    assert!(connect(&low, &client13, "a.test").await.connection.tls13);
    assert!(connect(&high, &client13, "a.test").await.connection.tls13);
    let (_, server) = try_connect(&high, &client12, "a.test").await.unwrap_err();
    assert_eq!(server.unwrap().failure(), Failure::NothingInCommon);
}

#[tokio::test]
async fn a_post_quantum_key_exchange_is_preferred() {
    let Setup { authority, folder } = setup();
    let listener = folder.listener(&["site"], "");
    let group =
        |connected: &Connected| connected.client.get_ref().1.negotiated_key_exchange_group().unwrap().name();
    let modern = connect(&listener, &authority.client(|_| {}), "a.test").await;
    assert_eq!(group(&modern), NamedGroup::X25519MLKEM768);
    let mut provider = (*listener::provider()).clone();
    provider.kx_groups.retain(|group| group.name() == NamedGroup::X25519);
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let classic = Arc::new(builder.with_root_certificates(authority.roots()).with_no_client_auth());
    assert_eq!(group(&connect(&listener, &classic, "a.test").await), NamedGroup::X25519);
}

/// What the server says and thinks of raw bytes.
async fn raw(listener: &TlsListener, bytes: &[u8]) -> (Vec<u8>, HandshakeError) {
    let (mut near, far) = duplex(64 << 10);
    near.write_all(bytes).await.unwrap();
    near.shutdown().await.unwrap();
    let error = accept(listener.current(), far, LIMIT).await.unwrap_err();
    let mut said = Vec::new();
    near.read_to_end(&mut said).await.unwrap();
    (said, error)
}

/// A ClientHello of a version up to TLS 1.2, with these extensions.
fn old_hello(version: [u8; 2], extensions: &[u8]) -> Vec<u8> {
    let mut hello = vec![version[0], version[1]];
    hello.extend([7; 32]);
    hello.extend([0, 0, 4, 0xc0, 0x13, 0x00, 0x2f, 1, 0]);
    hello.extend(extensions);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![0x16, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.append(&mut hello);
    record
}

#[tokio::test]
async fn tls11_and_older_are_refused_with_an_alert() {
    let Setup { folder, .. } = setup();
    let listener = folder.listener(&["site"], "");
    // None at all, as SSL 3 and OpenSSL 0.9 wrote it: handshake_failure. With signature_algorithms: protocol_version.
    let signatures = [0, 8, 0, 13, 0, 4, 0, 2, 4, 3];
    for (extensions, alert) in [(&[][..], 40), (&signatures, 70)] {
        for version in [[3, 2], [3, 1], [3, 0]] {
            let (said, error) = raw(&listener, &old_hello(version, extensions)).await;
            assert_eq!(error.failure(), Failure::NothingInCommon, "{version:?}: {error}");
            assert_eq!((said[0], &said[3..]), (0x15, &[0, 2, 2, alert][..]), "{version:?} {said:?}");
        }
    }
}

#[tokio::test]
async fn what_is_no_handshake_is_told_apart() {
    let Setup { folder, .. } = setup();
    let listener = folder.listener(&["site"], "");
    for (bytes, failure) in [
        (b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(), Failure::NotTls),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), Failure::NotTls),
        (b"\0\0\0\0\0\0\0\0".to_vec(), Failure::NotTls),
        (Vec::new(), Failure::Closed),
        (old_hello([3, 3], &[])[..20].to_vec(), Failure::Closed),
        // A record of the right kind with nonsense in it.
        (vec![0x16, 3, 1, 0, 4, 9, 9, 9, 9], Failure::Protocol),
        (vec![0x17, 3, 3, 0, 1, 0], Failure::Protocol),
    ] {
        let (_, error) = raw(&listener, &bytes).await;
        assert_eq!(error.failure(), failure, "{bytes:?}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stops_is_not_waited_for() {
    let Setup { folder, .. } = setup();
    let listener = folder.listener(&["site"], "");
    let (mut near, far) = duplex(1 << 10);
    near.write_all(&old_hello([3, 3], &[])[..20]).await.unwrap();
    let error = accept(listener.current(), far, Duration::from_secs(10)).await.unwrap_err();
    assert_eq!(
        (error.failure(), error.to_string().as_str()),
        (Failure::Timeout, "no TLS handshake within 10s")
    );
}

#[test]
fn failures_are_counted_by_number_and_told_by_name() {
    for (number, failure) in Failure::ALL.into_iter().enumerate() {
        assert_eq!(failure as usize, number);
    }
    let names: std::collections::BTreeSet<_> = Failure::ALL.map(Failure::name).into();
    assert_eq!(names.len(), Failure::ALL.len(), "{names:?}");
}

#[tokio::test]
async fn ciphers_and_curves_are_those_of_the_file() {
    let Setup { authority, folder } = setup();
    let suite =
        |connected: &Connected| connected.client.get_ref().1.negotiated_cipher_suite().unwrap().suite();
    let group =
        |connected: &Connected| connected.client.get_ref().1.negotiated_key_exchange_group().unwrap().name();
    // Each a client that remembers nothing.
    let (client12, client13) = (|| authority.client12(), || authority.client(|_| {}));
    let few = "ciphers: [TLS_CHACHA20_POLY1305_SHA256, 'ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305'], \
               curves: [P-384]";
    let few = folder.listener(&["site"], few);
    let connected = connect(&few, &client13(), "a.test").await;
    assert_eq!(suite(&connected), CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    assert_eq!(group(&connected), NamedGroup::secp384r1);
    let connected = connect(&few, &client12(), "a.test").await;
    assert_eq!(suite(&connected), CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
    // Of TLS 1.3 none is named.
    let old = folder.listener(&["site"], "ciphers: ECDHE-ECDSA-AES128-GCM-SHA256");
    assert!(connect(&old, &client13(), "a.test").await.connection.tls13);
    let connected = connect(&old, &client12(), "a.test").await;
    assert_eq!(suite(&connected), CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
    let other = folder.listener(&["site"], "min-version: 1.3, curves: SecP256r1MLKEM768");
    let (_, server) = try_connect(&other, &authority.client(|_| {}), "a.test").await.unwrap_err();
    assert_eq!(server.unwrap().failure(), Failure::NothingInCommon);
}
