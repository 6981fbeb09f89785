//! ClientHellos of real clients, of none, and in any pieces.

use super::*;
use proptest::prelude::*;
use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};
use std::sync::Arc;

/// What a client of rustls begins with.
fn of_rustls(name: &str, alpn: &[&str]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

fn found(name: Option<&str>, alpn: &[&str]) -> Beginning {
    let alpn = alpn.iter().map(|it| it.as_bytes().into()).collect();
    Beginning::Hello(ClientHello { name: name.map(Into::into), alpn })
}

/// An extension.
fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &length16(data), data].concat()
}

fn length16(data: &[u8]) -> [u8; 2] {
    u16::try_from(data.len()).unwrap().to_be_bytes()
}

fn sni(names: &[(u8, &[u8])]) -> Vec<u8> {
    let list: Vec<u8> =
        names.iter().flat_map(|(kind, name)| [&[*kind][..], &length16(name), name].concat()).collect();
    extension(SERVER_NAME, &[&length16(&list), &list[..]].concat())
}

/// A message with these extensions; none at all if there are none.
fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 4, 0x0a, 0x0a, 0x13, 0x01, 1, 0]);
    let list = extensions.concat();
    if !extensions.is_empty() {
        body.extend(length16(&list));
        body.extend(list);
    }
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[CLIENT_HELLO], &length[1..], &body[..]].concat()
}

/// The message in records of `size` bytes at most.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|part| [&[HANDSHAKE, 3, 1][..], &length16(part), part].concat()).collect()
}

fn in_a_record(extensions: &[Vec<u8>]) -> Result<Beginning, ClientHelloError> {
    parse(&records(&message(extensions), RECORD_MAX))
}

#[test]
fn a_real_client_says_what_it_asks_for() {
    let hello = of_rustls("Db.Example.ORG", &["h2", "http/1.1"]);
    assert_eq!(parse(&hello), Ok(found(Some("db.example.org"), &["h2", "http/1.1"])));
    // An address is never asked for by name (RFC 6066 §3).
    assert_eq!(parse(&of_rustls("192.0.2.1", &[])), Ok(found(None, &[])));
}

#[test]
fn what_is_no_tls_is_passed_on_as_it_is() {
    for bytes in [
        &b"GET / HTTP/1.1"[..],
        b"SSH-2.0-x",
        &[0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f],
        &[22, 2],
        &[0x80, 0x2e, 1, 3, 1],
    ] {
        assert_eq!(parse(bytes), Ok(Beginning::NotTls), "{bytes:?}");
    }
    for bytes in [&[][..], &[22], &[22, 3], &[22, 3, 1, 0, 5], &[22, 3, 1, 0, 5, 1, 0]] {
        assert_eq!(parse(bytes), Ok(Beginning::More), "{bytes:?}");
    }
}

#[test]
fn grease_no_extensions_and_unknown_kinds_of_names_are_fine() {
    assert_eq!(in_a_record(&[]), Ok(found(None, &[])));
    let grease = extension(0x2a2a, &[0]);
    let named = sni(&[(9, b"\xff"), (HOST_NAME, b"a.test.")]);
    assert_eq!(in_a_record(&[grease.clone(), named, extension(0xfafa, &[])]), Ok(found(Some("a.test"), &[])));
    assert_eq!(in_a_record(&[grease, extension(SERVER_NAME, &[0, 0])]), Ok(found(None, &[])));
    // Early data behind it, or a second message in its record, are not looked at.
    let hello = records(&message(&[sni(&[(HOST_NAME, b"a")])]), 50);
    assert_eq!(parse(&[&hello[..], &[20, 3, 3, 0, 1, 1]].concat()), Ok(found(Some("a"), &[])));
    let two = records(&[message(&[]), vec![2, 0, 0, 0]].concat(), RECORD_MAX);
    assert_eq!(parse(&two), Ok(found(None, &[])));
}

#[test]
fn what_does_not_fit_is_told() {
    use ClientHelloError::{Field, Message, Name, Record, RecordType, TooLong, Twice};
    let name = || sni(&[(HOST_NAME, b"a.test")]);
    assert_eq!(in_a_record(&[name(), name()]), Err(Twice("server_name")));
    assert_eq!(in_a_record(&[sni(&[(HOST_NAME, b"a"), (HOST_NAME, b"b")])]), Err(Twice("a host name")));
    let alpn = || extension(ALPN, &[0, 3, 2, b'h', b'2']);
    assert_eq!(in_a_record(&[alpn(), alpn()]), Err(Twice("ALPN")));
    assert_eq!(in_a_record(&[extension(ALPN, &[0, 3, 3, b'h', b'2'])]), Err(Field("ALPN")));
    assert_eq!(in_a_record(&[extension(SERVER_NAME, &[0, 9, 0, 0, 1, b'a'])]), Err(Field("server_name")));
    assert_eq!(in_a_record(&[extension(SERVER_NAME, &[0, 4, 0, 0, 1, b'a', 0])]), Err(Field("server_name")));
    for wrong in [&b""[..], b".", b"a\0b", b"\xc3\xa4.test", b"a b", b"a/b", &[b'a'; 256]] {
        assert_eq!(in_a_record(&[sni(&[(HOST_NAME, wrong)])]), Err(Name), "{wrong:?}");
    }
    assert_eq!(parse(&[22, 3, 1, 0, 0]), Err(Record(0)));
    assert_eq!(parse(&[22, 3, 1, 0x40, 1]), Err(Record(RECORD_MAX + 1)));
    assert_eq!(parse(&[22, 3, 1, 0, 1, 2]), Err(Message(2)));
    assert_eq!(parse(&[22, 3, 1, 0, 1, 1, 23]), Err(RecordType(23)));
    assert_eq!(parse(&[22, 3, 1, 0, 4, 1, 0, 0x40, 0]), Err(TooLong));
    // One that never ends: as many records as one likes, each of one byte.
    let endless = records(&[vec![1, 0, 0x3f, 0], vec![0; 9000]].concat(), 1);
    assert_eq!(parse(&endless[..BYTES_MAX]), Err(TooLong));
    assert_eq!(parse(&endless[..BYTES_MAX - 1]), Ok(Beginning::More));
}

proptest! {
    #[test]
    fn pieces_and_records_of_any_size_make_no_difference(
        label in "[a-z0-9]{1,20}", protocols in prop::collection::vec("[a-z/0-9.]{1,12}", 0..4), size in 1_usize..600,
    ) {
        let name = format!("{label}.test");
        let list: Vec<u8> = protocols.iter().flat_map(|it| [&[u8::try_from(it.len()).unwrap()], it.as_bytes()].concat()).collect();
        let mut extensions = vec![extension(0x1a1a, &[]), sni(&[(HOST_NAME, name.as_bytes())])];
        if !protocols.is_empty() {
            extensions.push(extension(ALPN, &[&length16(&list), &list[..]].concat()));
        }
        let bytes = records(&message(&extensions), size);
        let protocols: Vec<&str> = protocols.iter().map(String::as_str).collect();
        for upto in 0..bytes.len() {
            prop_assert_eq!(parse(&bytes[..upto]), Ok(Beginning::More), "{} of {}", upto, bytes.len());
        }
        prop_assert_eq!(parse(&bytes), Ok(found(Some(&name), &protocols)));
    }

    /// Whatever it is, it is never a panic, and what was said of the beginning holds.
    #[test]
    fn any_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..300), from in 0_usize..8, at in any::<prop::sample::Index>(), by in any::<u8>()) {
        let good = records(&message(&[sni(&[(HOST_NAME, b"a.test")]), extension(ALPN, &[0, 3, 2, b'h', b'2'])]), 40);
        if from > 0 {
            // One that is nearly right.
            bytes = [&good[..], &bytes[..bytes.len() >> from]].concat();
            let at = at.index(bytes.len());
            bytes[at] = by;
        }
        let mut said = None;
        for upto in 0..=bytes.len() {
            let now = parse(&bytes[..upto]);
            if let Some(said) = &said {
                prop_assert_eq!(&now, said, "{} of {}", upto, bytes.len());
            } else if now != Ok(Beginning::More) {
                said = Some(now);
            }
        }
    }
}
