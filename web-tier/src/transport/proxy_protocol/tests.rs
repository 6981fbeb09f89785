//! Headers that are, headers that are not, and what is left in the socket.

use super::*;
use common::cidr::CidrSet;
use proptest::prelude::*;
use std::{net::IpAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

fn client(from: &str, to: &str) -> Source {
    Source::Client { from: from.parse().unwrap(), to: to.parse().unwrap() }
}

/// A version 2 header with these last four fields.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [v2::SIGNATURE, &[command, family], &length, body].concat()
}

const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];

fn v6() -> Vec<u8> {
    let mut body = vec![0; 32];
    (body[0], body[1], body[15], body[31]) = (0x20, 0x01, 7, 1);
    [body.as_slice(), &[0, 80, 1, 187]].concat()
}

/// Every header that is taken, with what it says.
fn headers() -> Vec<(Vec<u8>, Source)> {
    let tcp4 = client("192.0.2.1:56324", "198.51.100.1:443");
    let tcp6 = client("[2001::7]:80", "[::1]:443");
    vec![
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".to_vec(), tcp4),
        (b"PROXY TCP6 2001::7 ::1 80 443\r\n".to_vec(), tcp6),
        (
            b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n".to_vec(),
            client("0.0.0.0:0", "255.255.255.255:65535"),
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), Source::Proxy),
        (b"PROXY UNKNOWN ffff:f...f:ffff whatever 65535 65535\r\n".to_vec(), Source::Proxy),
        (v2(0x21, 0x11, &V4), tcp4),
        (v2(0x21, 0x21, &v6()), tcp6),
        // Attributes: a no-op, then one of no length.
        (v2(0x21, 0x11, &[&V4[..], &[4, 0, 2, 9, 9], &[0xe0, 0, 0]].concat()), tcp4),
        (v2(0x21, 0x00, &[]), Source::Proxy),
        (v2(0x21, 0x31, &[0; 216]), Source::Proxy),
        (v2(0x20, 0x00, &[]), Source::Proxy),
        (v2(0x20, 0x11, &[]), Source::Proxy),
        (v2(0x20, 0x11, &V4), Source::Proxy),
    ]
}

#[test]
fn a_header_is_known_at_its_last_byte_and_not_before() {
    for (bytes, source) in headers() {
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Ok(Step::More), "{cut} bytes of {bytes:?}");
        }
        let whole = Ok(Step::Header { length: bytes.len(), source });
        assert_eq!(parse(&bytes), whole, "{bytes:?}");
        let followed = [&bytes[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        assert_eq!(parse(&followed), whole, "{bytes:?}");
    }
}

#[test]
fn the_longest_line_is_107_bytes() {
    let line = |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16)).into_bytes();
    assert!(matches!(parse(&line(107)), Ok(Step::Header { length: 107, .. })));
    assert_eq!(parse(&line(108)), Err(ProxyProtocolError::Line));
    assert_eq!(parse(&line(106)[..105]), Ok(Step::More));
    assert_eq!(parse(&[b"PROXY ".as_slice(), &[b'x'; 1000]].concat()), Err(ProxyProtocolError::Line));
}

#[test]
fn lines_that_are_almost_right_are_refused() {
    for line in [
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 1\r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.1 56324 443\r\n",
        "PROXY TCP4\t192.0.2.1 198.51.100.1 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 +80 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 080 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1  443\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.1 80 443\r\n",
        "PROXY TCP4 192.0.2 198.51.100.1 80 443\r\n",
        "PROXY TCP4 ::1 ::1 80 443\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.1 80 443\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 80 443\r\n",
        "PROXY TCP6 [::1] ::1 80 443\r\n",
        "PROXY TCP5 ::1 ::1 80 443\r\n",
        "PROXY tcp4 192.0.2.1 198.51.100.1 80 443\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.1 80 443\r\n",
        "PROXY \r\n",
        "PROXY TCP4 192.0.2.1\x00 198.51.100.1 80 443\r\n",
        "PROXY TCP4 １９２.0.2.1 198.51.100.1 80 443\r\n",
    ] {
        assert!(
            matches!(parse(line.as_bytes()), Err(ProxyProtocolError::Fields(_))),
            "{line:?}: {:?}",
            parse(line.as_bytes())
        );
    }
    for line in
        ["PROXY UNKNOWN\n", "PROXY UNKNOWN\r\r\n", "PROXY UNKNOWN\rX", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n\r"]
    {
        assert_eq!(parse(line.as_bytes()), Err(ProxyProtocolError::Line), "{line:?}");
    }
}

#[test]
fn what_is_no_header_is_refused_at_its_first_wrong_byte() {
    for (bytes, at) in [
        (b"GET / HTTP/1.1\r\n".as_slice(), 1),
        (b"\x16\x03\x01\x02\x00", 1),
        (b"PROXYTCP4", 6),
        (b"proxy TCP4", 1),
        (b"PROXX ", 5),
        (b" PROXY TCP4", 1),
        (b"\r\nGET", 3),
        (b"\r\n\r\n\0\r\nQUIT\r", 12),
        (b"PRI * HTTP/2.0\r\n\r\nSM", 3),
    ] {
        assert_eq!(parse(&bytes[..at - 1]), Ok(Step::More), "{bytes:?}");
        assert!(matches!(parse(&bytes[..at]), Err(ProxyProtocolError::NotProxy(_))), "{bytes:?}");
        assert!(matches!(parse(bytes), Err(ProxyProtocolError::NotProxy(_))), "{bytes:?}");
    }
}

#[test]
fn binary_headers_that_are_almost_right_are_refused() {
    use ProxyProtocolError::{Attribute, Command, Family, Length};
    let max = HEADER_MAX - 16;
    let long = [&V4[..], &[4, 0x0f, 0xff], &[0; 4096]].concat();
    for (header, error) in [
        (v2(0x11, 0x11, &V4), Command(0x11)),
        (v2(0x22, 0x11, &V4), Command(0x22)),
        (v2(0x31, 0x11, &V4), Command(0x31)),
        (v2(0x21, 0x12, &V4), Family(0x12)),
        (v2(0x21, 0x22, &v6()), Family(0x22)),
        (v2(0x21, 0x13, &V4), Family(0x13)),
        (v2(0x21, 0x41, &V4), Family(0x41)),
        (v2(0x21, 0x01, &V4), Family(0x01)),
        (v2(0x21, 0x10, &V4), Family(0x10)),
        (v2(0x21, 0x11, &V4[..11]), Length { length: 11, min: 12, max }),
        (v2(0x21, 0x21, &V4), Length { length: 12, min: 36, max }),
        (v2(0x21, 0x31, &[0; 215]), Length { length: 215, min: 216, max }),
        (v2(0x20, 0x11, &V4[..3]), Length { length: 3, min: 12, max }),
        (v2(0x21, 0x11, &long), Length { length: long.len(), min: 12, max }),
        (v2(0x21, 0x11, &[&V4[..], &[4, 0, 2, 9]].concat()), Attribute { length: 2, left: 1 }),
        (v2(0x21, 0x11, &[&V4[..], &[4, 0xff, 0xff]].concat()), Attribute { length: 0xffff, left: 0 }),
        (v2(0x21, 0x11, &[&V4[..], &[4, 0]].concat()), Attribute { length: 3, left: 2 }),
        (v2(0x21, 0x00, &[1]), Attribute { length: 3, left: 1 }),
    ] {
        assert_eq!(parse(&header), Err(error), "{header:?}");
    }
}

/// A connection through loopback.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    near.as_ref().unwrap().set_nodelay(true).unwrap();
    (near.unwrap(), far.unwrap().0)
}

const LIMIT: Duration = Duration::from_secs(20);

fn trusted() -> CidrSet {
    ["127.0.0.0/8"].iter().map(|text| text.parse().unwrap()).collect()
}

fn loopback() -> IpAddr {
    "127.0.0.1".parse().unwrap()
}

#[tokio::test]
async fn the_header_leaves_the_socket_and_nothing_else() {
    let padded = v2(0x21, 0x11, &[&V4[..], &[4, 0x0f, 0], &[7; 0x0f00]].concat());
    for (header, source) in
        headers().into_iter().chain([(padded, client("192.0.2.1:56324", "198.51.100.1:443"))])
    {
        let (mut near, mut far) = pair().await;
        near.write_all(&[&header[..], b"GET /"].concat()).await.unwrap();
        drop(near);
        let read = read_header(&mut far, loopback(), &trusted(), LIMIT).await;
        assert_eq!(read.unwrap(), source, "{header:?}");
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"GET /", "{header:?}");
    }
}

#[tokio::test]
async fn a_header_may_come_byte_by_byte() {
    for header in [headers()[0].0.clone(), headers()[7].0.clone()] {
        let (mut near, mut far) = pair().await;
        let write = async {
            for byte in header.iter().chain(b"rest") {
                near.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(near);
        };
        let read = async {
            let source = read_header(&mut far, loopback(), &trusted(), LIMIT).await.unwrap();
            let mut rest = Vec::new();
            far.read_to_end(&mut rest).await.unwrap();
            (source, rest)
        };
        let ((), (source, rest)) = tokio::join!(write, read);
        assert_eq!(
            (source, rest.as_slice()),
            (client("192.0.2.1:56324", "198.51.100.1:443"), b"rest".as_slice())
        );
    }
}

#[tokio::test]
async fn strangers_and_half_headers_are_refused() {
    let (mut near, mut far) = pair().await;
    near.write_all(b"PROXY UNKNOWN\r\n").await.unwrap();
    let stranger = read_header(&mut far, "192.0.2.9".parse().unwrap(), &trusted(), LIMIT).await.unwrap_err();
    assert_eq!(
        stranger.to_string(),
        "192.0.2.9 is not one of `trusted-proxies`, and this listener takes connections from them alone"
    );
    let (mut near, mut far) = pair().await;
    near.write_all(b"PROXY TC").await.unwrap();
    drop(near);
    let ended = read_header(&mut far, loopback(), &trusted(), LIMIT).await;
    assert!(matches!(ended, Err(ReadError::Ended(8))), "{ended:?}");
    let (mut near, mut far) = pair().await;
    near.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let plain = read_header(&mut far, loopback(), &trusted(), LIMIT).await.unwrap_err();
    assert_eq!(plain.to_string(), r#"no PROXY header: the connection began with "GET / HTTP/1.1\r\n""#);
}

#[tokio::test(start_paused = true)]
async fn a_header_that_does_not_come_is_not_waited_for() {
    let (mut near, mut far) = pair().await;
    near.write_all(b"PROXY TCP4 ").await.unwrap();
    let late = read_header(&mut far, loopback(), &trusted(), Duration::from_secs(10)).await;
    assert!(matches!(late, Err(ReadError::Timeout(_))), "{late:?}");
}

proptest! {
    #[test]
    fn any_bytes_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..600), kind in 0_usize..3) {
        let prefix: &[u8] = [b"".as_slice(), b"PROXY ", v2::SIGNATURE][kind];
        let bytes = [prefix, &bytes].concat();
        if let Ok(Step::Header { length, .. }) = parse(&bytes) {
            prop_assert!(length <= bytes.len() && length <= HEADER_MAX);
        }
    }

    #[test]
    fn more_bytes_never_change_an_answer(cut in 0_usize..200, which in 0_usize..13, at in 0_usize..200, byte in any::<u8>()) {
        let (mut bytes, _) = headers()[which].clone();
        let at = at % bytes.len();
        bytes[at] = byte;
        let early = parse(&bytes[..cut.min(bytes.len())]);
        let late = parse(&[&bytes[..], b"more"].concat());
        match early {
            Ok(Step::More) => {}
            Ok(header) => prop_assert_eq!(late, Ok(header)),
            Err(_) => prop_assert!(late.is_err()),
        }
    }

    #[test]
    fn what_is_written_is_read(from: std::net::SocketAddrV4, to: std::net::SocketAddrV4) {
        let line = format!("PROXY TCP4 {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port());
        let source = Source::Client { from: from.into(), to: to.into() };
        prop_assert_eq!(parse(line.as_bytes()), Ok(Step::Header { length: line.len(), source }));
    }
}
