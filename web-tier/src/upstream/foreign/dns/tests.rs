//! Messages that are, messages that are not, and name servers of a few lines.

use super::{
    message::{Answer, parse, question},
    resolver::name_servers,
    *,
};
use crate::tests::dns_server::{FINE, ITS_NAME, answer, name, record, srv};
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
};

const NAME: &str = "_http._tcp.shop.internal";

#[test]
fn servers_are_read_with_what_is_said_of_them() {
    let asked = question(7, NAME, Kind::Srv).unwrap();
    let records = [
        record(&ITS_NAME, 33, 30, &srv(10, 5, 8080, "A.shop.internal")),
        record(&name(&NAME.to_uppercase()), 33, 20, &srv(20, 0, 8081, "b.shop.internal")),
        record(&name("other.internal"), 33, 1, &srv(0, 0, 1, "evil.internal")),
    ];
    let server = |priority, weight, port, target: &str| Data::Server {
        priority,
        weight,
        port,
        target: target.to_owned(),
    };
    let expected = Answer {
        records: vec![server(10, 5, 8080, "a.shop.internal"), server(20, 0, 8081, "b.shop.internal")],
        ttl: 20,
    };
    let bytes = answer(&asked, FINE, &records);
    assert_eq!(parse(&bytes, 7, NAME, Kind::Srv).unwrap(), Some(expected));
    for cut in 12..bytes.len() {
        assert!(parse(&bytes[..cut], 7, NAME, Kind::Srv).is_err(), "{cut} bytes");
    }
    let none = answer(&asked, FINE, &[record(&ITS_NAME, 33, 30, &srv(0, 0, 0, ""))]);
    assert!(matches!(parse(&none, 7, NAME, Kind::Srv), Err(DnsError::Empty)), "there is no such service");
}

#[test]
fn aliases_are_followed_and_not_for_ever() {
    let asked = question(1, "a.test", Kind::A).unwrap();
    let alias = |from: &str, to: &str| record(&name(from), 5, 40, &name(to));
    let bytes = answer(
        &asked,
        FINE,
        &[
            alias("a.test", "b.test"),
            alias("b.test", "c.test"),
            record(&name("c.test"), 1, 50, &[192, 0, 2, 1]),
        ],
    );
    let expected = Answer { records: vec![Data::Address("192.0.2.1".parse().unwrap())], ttl: 40 };
    assert_eq!(parse(&bytes, 1, "a.test", Kind::A).unwrap(), Some(expected));
    let circle = answer(&asked, FINE, &[alias("a.test", "b.test"), alias("b.test", "a.test")]);
    assert!(matches!(parse(&circle, 1, "a.test", Kind::A), Err(DnsError::Empty)));
}

#[test]
fn what_is_no_answer_to_this_question_is_none() {
    let asked = question(7, NAME, Kind::Srv).unwrap();
    let good = answer(&asked, FINE, &[record(&ITS_NAME, 33, 30, &srv(0, 0, 80, "a.b"))]);
    assert!(matches!(parse(&good, 8, NAME, Kind::Srv), Err(DnsError::Other)), "another id");
    assert!(matches!(parse(&good, 7, "other", Kind::Srv), Err(DnsError::Other)), "another name");
    assert!(matches!(parse(&good, 7, NAME, Kind::A), Err(DnsError::Other)), "another kind");
    assert!(matches!(parse(&asked, 7, NAME, Kind::Srv), Err(DnsError::Other)), "a question");
    let said = |flags| parse(&answer(&asked, flags, &[]), 7, NAME, Kind::Srv);
    assert!(matches!(said([0x83, 0x80]), Ok(None)), "cut off");
    assert!(matches!(said([0x81, 0x83]), Err(DnsError::NoSuchName)));
    assert!(matches!(said([0x81, 0x82]), Err(DnsError::Refused(2))));
    assert!(matches!(said(FINE), Err(DnsError::Empty)));
    for data in [
        &b"\0\0\0\0"[..],
        &srv(0, 0, 80, "a b"),
        &[srv(0, 0, 80, "a"), vec![0]].concat(),
        b"\0\0\0\0\0\x50\xc0\xff",
    ] {
        let bytes = answer(&asked, FINE, &[record(&ITS_NAME, 33, 30, data)]);
        assert!(matches!(parse(&bytes, 7, NAME, Kind::Srv), Err(DnsError::Malformed(_))), "{data:?}");
    }
    assert!(question(1, &"a".repeat(64), Kind::A).is_none() && question(1, "a..b", Kind::A).is_none());
    assert!(question(1, &"abcdefg.".repeat(32), Kind::A).is_none(), "256 bytes");
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0_usize..3) {
        let kind = [Kind::A, Kind::Aaaa, Kind::Srv][kind];
        let asked = question(1, "a.b", kind).unwrap();
        let mut message = answer(&asked, FINE, &[]);
        message[7] = 3;
        message.extend(bytes);
        let _ = parse(&message, 1, "a.b", kind);
    }
}

#[test]
fn the_systems_name_servers_are_read() {
    let text = "# nameserver 1.1.1.1\nsearch example.com\nnameserver 10.0.0.2\nnameserver\t::1 \nnameserver fe80::1%eth0\nnameserver x\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n";
    let expected: Vec<SocketAddr> =
        ["10.0.0.2:53", "[::1]:53", "10.0.0.3:53"].iter().map(|it| it.parse().unwrap()).collect();
    assert_eq!(name_servers(text), expected);
}

#[tokio::test]
async fn tcp_is_asked_first_and_udp_where_there_is_none() {
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = udp.local_addr().unwrap();
    let answering = tokio::spawn(async move {
        let mut buffer = [0; 512];
        let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
        let asked = &buffer[..length];
        // Others' guesses come first.
        let mut forged = answer(asked, FINE, &[record(&ITS_NAME, 1, 60, &[6, 6, 6, 6])]);
        forged[0] ^= 1;
        udp.send_to(&forged, from).await.unwrap();
        let good = answer(asked, FINE, &[record(&ITS_NAME, 1, 60, &[192, 0, 2, 1])]);
        udp.send_to(&good, from).await.unwrap();
    });
    let resolver = Resolver::new(&[server]);
    let found = resolver.ask("a.test", Kind::A).await.unwrap();
    assert_eq!(found.records, [Data::Address("192.0.2.1".parse().unwrap())]);
    answering.await.unwrap();

    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = tcp.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let mut asked = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut asked).await.unwrap();
            let is_four = asked[asked.len() - 14] == 1;
            let records = if is_four { vec![record(&ITS_NAME, 1, 60, &[192, 0, 2, 2])] } else { Vec::new() };
            let said = answer(&asked, FINE, &records);
            stream.write_u16(u16::try_from(said.len()).unwrap()).await.unwrap();
            stream.write_all(&said).await.unwrap();
        }
    });
    let addresses = Resolver::new(&[server]).addresses("a.test").await.unwrap();
    assert_eq!(addresses, ["192.0.2.2".parse::<IpAddr>().unwrap()]);
}
