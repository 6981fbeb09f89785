//! Tests of messages.

use super::*;
use proptest::prelude::*;

const LIMITS: HeadLimits = HeadLimits { count: 100, bytes: 32 * 1024, target: 16 * 1024 };

fn request(text: &str) -> Result<Option<(RequestHead, usize)>, HeadError> {
    let mut head = RequestHead::default();
    Ok(head.parse(text.as_bytes(), &LIMITS)?.map(|length| (head, length)))
}

fn fields(fields: &Fields) -> String {
    let mut out = Vec::new();
    fields.put(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_request() {
    let text = "POST /a/b?c=d HTTP/1.1\r\nHost:  h \r\nX-Empty:\r\nContent-Length: 5\r\nconnection: Keep-Alive, x-a\r\n\r\nhello";
    let (head, length) = request(text).unwrap().unwrap();
    assert_eq!(length, text.len() - 5);
    assert_eq!((head.method.as_str(), head.path(), head.target.as_str()), ("POST", "/a/b", "/a/b?c=d"));
    assert_eq!(fields(&head.fields), "Host: h\r\nX-Empty: \r\nconnection: Keep-Alive, x-a\r\n");
    assert_eq!((head.length, head.persists(), head.connection.nominates), (Length::Exact(5), true, true));
}

#[test]
fn targets() {
    let target = |text: &str| {
        request(&format!("GET {text} HTTP/1.1\r\n\r\n"))
            .map(|it| it.map(|(head, _)| (head.form, head.authority, head.target)))
    };
    let is = |form, authority: &str, path: &str| Ok(Some((form, authority.to_owned(), path.to_owned())));
    assert_eq!(target("/"), is(Target::Origin, "", "/"));
    assert_eq!(target("*"), is(Target::Asterisk, "", "*"));
    assert_eq!(target("HTTP://h:1/p?q"), is(Target::Absolute, "h:1", "/p?q"));
    assert_eq!(target("https://h"), is(Target::Absolute, "h", "/"));
    assert_eq!(target("http://h?q"), is(Target::Absolute, "h", "/?q"));
    for bad in ["h:80", "http:///p", "ftp://h/", "p", "/a#b", "/\x7f", "*a"] {
        assert!(matches!(target(bad), Err(HeadError::Bad(_))), "{bad}");
    }
    // UTF-8 is escaped, and counts as that.
    assert_eq!(target("/\u{fc}?\u{1f600}=%"), is(Target::Origin, "", "/%C3%BC?%F0%9F%98%80=%"));
    assert_eq!(target("http://h/\u{fc}"), is(Target::Absolute, "h", "/%C3%BC"));
    for long in ["a".repeat(16 * 1024), "\u{fc}".repeat(16 * 1024 / 6 + 1)] {
        assert_eq!(target(&format!("/{long}")), Err(HeadError::TargetTooLong));
    }
    let latin = b"GET /\xfc HTTP/1.1\r\n\r\n";
    assert!(RequestHead::default().parse(latin, &LIMITS).is_err());
}

#[test]
fn what_is_refused() {
    for bad in [
        "GET / HTTP/1.1\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\n",
        "\nGET / HTTP/1.1\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1 \r\n\r\n",
        "GET / HTTP/1.1\r\n Host: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\n: h\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\0c\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
        "GET / HTTP/1.1\r\nA\x01: b\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        "GET / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "GET / HTTP/1.1\r\nTransfer-Encoding:\x0bchunked\r\n\r\n",
        "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "GET / HTTP/1.1\r\nContent_Length: 5\r\n\r\n",
        "GET / HTTP/1.1\r\nTransfer--Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: +5\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length:\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    ] {
        assert!(matches!(request(bad), Err(HeadError::Bad(_))), "{bad:?}: {:?}", request(bad));
    }
    for version in ["HTTP/2.0", "HTTP/0.9"] {
        assert_eq!(
            request(&format!("GET / {version}\r\n\r\n")).unwrap_err(),
            HeadError::Version,
            "{version}"
        );
    }
    for version in ["http/1.1", "HTTP/1.10", "HTTP/01.1", "th HTTP/1.1", "HTTP/1", "FOO/1.1", "HTTP/1.2\n"] {
        let refused = request(&format!("GET / {version}\r\n\r\n"));
        assert!(matches!(refused, Err(HeadError::Bad(_))), "{version}: {refused:?}");
    }
    for method in ["A".repeat(METHOD_MAX + 1), "A".repeat(100_000)] {
        assert_eq!(request(&method).unwrap_err(), HeadError::MethodTooLong);
        assert_eq!(request(&format!("{method} / HTTP/1.1\r\n\r\n")).unwrap_err(), HeadError::MethodTooLong);
    }
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
    assert_eq!(request(&many).unwrap_err(), HeadError::TooLarge);
    let large = format!("GET / HTTP/1.1\r\nA: {}", "b".repeat(32 * 1024));
    assert_eq!(request(&large).unwrap_err(), HeadError::TooLarge);
    assert_eq!(request(&format!("GET /{}", "a".repeat(16 * 1024))).unwrap_err(), HeadError::TargetTooLong);
    // A head that can't become valid is refused before it is complete.
    assert!(request("GET / HTTP/1.1\nHost").is_err());
}

#[test]
fn a_later_version_is_read_as_1_1() {
    let text = "POST /a?b HTTP/1.9\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (head, length) = request(&format!("{text}0\r\n\r\n")).unwrap().unwrap();
    assert_eq!((length, head.version, head.length), (text.len(), Version::Http11, Length::Chunked));
    assert_eq!((head.target.as_str(), head.persists()), ("/a?b", true));
    assert!(request("GET / HTTP/1.2\r\nHost: h\r\n").unwrap().is_none());
    assert!(request("A".repeat(METHOD_MAX).as_str()).unwrap().is_none());
}

#[test]
fn an_empty_line_before_is_let_pass() {
    let (head, _) = request("\r\nGET / HTTP/1.1\r\nContent-Length: 05\r\n\r\n").unwrap().unwrap();
    assert_eq!(head.length, Length::Exact(5));
    assert_eq!(fields(&head.fields), "");
}

#[test]
fn an_answer() {
    let mut head = ResponseHead::default();
    let mut length = |text: &str, to_head| {
        let parsed = head.parse(text.as_bytes(), &LIMITS);
        parsed.map(|it| it.map(|_| (head.length(to_head), head.content_length(), head.persists())))
    };
    let is = |length, content_length, persists| Ok(Some((length, content_length, persists)));
    assert_eq!(
        length("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", false),
        is(Length::Exact(3), Some(3), true)
    );
    assert_eq!(
        length("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true),
        is(Length::Empty, Some(3), true)
    );
    assert_eq!(length("HTTP/1.1 304\r\nContent-Length: 3\r\n\r\n", false), is(Length::Empty, Some(3), true));
    assert_eq!(length("HTTP/1.1 204 \r\nContent-Length: 3\r\n\r\n", false), is(Length::Empty, None, true));
    assert_eq!(length("HTTP/1.1 200 OK\r\n\r\n", false), is(Length::UntilClose, None, true));
    assert_eq!(length("HTTP/1.0 200 OK\r\n\r\n", false), is(Length::UntilClose, None, false));
    assert_eq!(
        length("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nConnection: close\r\n\r\n", false),
        is(Length::Chunked, None, false)
    );
    for bad in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 099 Low\r\n\r\n",
        "HTTP/1.1 20 Short\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 3\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
    ] {
        assert!(length(bad, false).is_err(), "{bad:?}");
    }
}

/// Data, how many bytes were taken, and whether that was all.
fn decode(length: Length, pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), ChunkError> {
    let mut decoder = Decoder::new(length);
    let (mut data, mut taken) = (Vec::new(), 0);
    for piece in pieces {
        taken += decoder.decode(piece, |more| data.extend_from_slice(more))?;
    }
    Ok((data, taken, decoder.is_done()))
}

#[test]
fn bodies_end_where_they_should() {
    assert_eq!(decode(Length::Exact(3), &[b"ab", b"cd"]), Ok((b"abc".to_vec(), 3, true)));
    assert_eq!(decode(Length::Empty, &[b"ab"]), Ok((Vec::new(), 0, true)));
    assert_eq!(decode(Length::UntilClose, &[b"ab"]), Ok((b"ab".to_vec(), 2, false)));
    let chunks = b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\nGET";
    assert_eq!(decode(Length::Chunked, &[chunks]), Ok((b"abc0123456789".to_vec(), chunks.len() - 3, true)));
}

#[test]
fn chunks_that_are_refused() {
    for bad in [
        "0x3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n",
        "-3\r\nabc\r\n",
        "3_0\r\nabc\r\n",
        " 3\r\nabc\r\n",
        "3 \r\nabc\r\n",
        "\r\nabc\r\n",
        ";a\r\nabc\r\n",
        "3\nabc\r\n",
        "3\r\nabc\n",
        "3\r\nabcd\r\n",
        "3\rabc\r\n",
        "3;a\nabc\r\n",
        "3;\0\r\nabc\r\n",
        "11111111111111111\r\nabc",
        "0\r\n\n",
        "0\r\nA: b\n\r\n",
        "0\r\nA : b\r\n\r\n",
        "0\r\n folded\r\n\r\n",
    ] {
        assert!(decode(Length::Chunked, &[bad.as_bytes()]).is_err(), "{bad:?}");
    }
    for bad in ["3;\r\n", "3;a=\r\n", "3;bad[=x\r\n", "3;a=\"b\r\n", "3 ;a\r\n", "3;a \r\n", "3;\u{7f}\r\n"] {
        assert!(decode(Length::Chunked, &[bad.as_bytes()]).is_err(), "{bad:?}");
    }
    let extension = format!("3;{}\r\n", "a".repeat(5000));
    assert_eq!(decode(Length::Chunked, &[extension.as_bytes()]), Err(ChunkError::Extension));
    let trailers = format!("0\r\nA: {}\r\n\r\n", "a".repeat(9000));
    assert_eq!(decode(Length::Chunked, &[trailers.as_bytes()]), Err(ChunkError::Trailer));
}

#[test]
fn an_answers_chunks_may_be_padded() {
    let read = |text: &str| {
        let mut data = Vec::new();
        let mut decoder = Decoder::of_answer(Length::Chunked);
        // A byte at a time: the state has all that counts.
        for byte in text.as_bytes().chunks(1) {
            decoder.decode(byte, |more| data.extend_from_slice(more))?;
        }
        Ok((String::from_utf8(data).unwrap(), decoder.is_done()))
    };
    for size in ["2   ", "2 ;a=b", "2\t", "2 \t;a", "2;", "2 ;", "2;bad[=x", "02 "] {
        let text = format!("{size}\r\nok\r\n0  \r\n\r\n");
        assert_eq!(read(&text), Ok(("ok".to_owned(), true)), "{size:?}");
    }
    for bad in ["2 2\r\nok\r\n", " 2\r\nok\r\n", "2 \nok\r\n", "2 x\r\nok", "2;\0\r\nok\r\n", "2 +\r\nok"] {
        assert!(read(bad).is_err(), "{bad:?}");
    }
    assert_eq!(read(&format!("2{}\r\n", " ".repeat(5000))), Err(ChunkError::Extension));
}

#[test]
fn trailers_pass_but_for_those_that_must_not() {
    let mut decoder = Decoder::new(Length::Chunked);
    let body =
        b"0\r\nGrpc-Status: 0\r\nContent-Length: 5\r\nHost: h\r\nX-Forwarded-For: a\r\nSet-Cookie: b\r\n\r\n";
    assert_eq!(decoder.decode(body, |_| panic!("no data")), Ok(body.len()));
    let mut out = Vec::new();
    put_chunk(&mut out, &[b'a'; 300]);
    put_chunk(&mut out, b"");
    put_last_chunk(&mut out, decoder.trailers().as_ref());
    assert_eq!(
        String::from_utf8(out).unwrap(),
        format!("12c\r\n{}\r\n0\r\nGrpc-Status: 0\r\n\r\n", "a".repeat(300))
    );
}

proptest! {
    #[test]
    fn what_is_put_in_chunks_comes_out_again_however_it_is_cut(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut text = Vec::new();
        chunks.iter().for_each(|chunk| put_chunk(&mut text, chunk));
        put_last_chunk(&mut text, None);
        let whole = text.len();
        text.extend_from_slice(b"the next message");
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(whole)).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts {
            pieces.push(&text[from..cut]);
            from = cut;
        }
        pieces.push(&text[from..]);
        prop_assert_eq!(decode(Length::Chunked, &pieces), Ok((chunks.concat(), whole, true)));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut head = RequestHead::default();
        if let Ok(Some(length)) = head.parse(&bytes, &LIMITS) {
            prop_assert!(length <= bytes.len());
        }
        let mut head = ResponseHead::default();
        if let Ok(Some(length)) = head.parse(&bytes, &LIMITS) {
            prop_assert!(length <= bytes.len());
        }
        if let Ok(taken) = Decoder::new(Length::Chunked).decode(&bytes, |_| {}) {
            prop_assert!(taken <= bytes.len());
        }
    }

    #[test]
    fn a_head_is_the_same_however_it_arrives(cut in 0_usize..64) {
        let text = "GET /a?b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
        let cut = cut.min(text.len());
        let mut head = RequestHead::default();
        let first = head.parse(&text.as_bytes()[..cut], &LIMITS).unwrap();
        prop_assert_eq!(first.is_some(), cut >= text.len() - 5);
        prop_assert_eq!(head.parse(text.as_bytes(), &LIMITS), Ok(Some(text.len() - 5)));
        prop_assert_eq!(head.length, Length::Exact(5));
    }

    #[test]
    fn an_answers_head_is_the_same_however_it_arrives(cut in 0_usize..64) {
        // As the proxy reads it: there is no target to be bounded.
        let limits = HeadLimits { target: 0, ..LIMITS };
        let text = "HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 5\r\n\r\nhello";
        let cut = cut.min(text.len());
        let mut head = ResponseHead::default();
        let first = head.parse(&text.as_bytes()[..cut], &limits).unwrap();
        prop_assert_eq!(first.is_some(), cut >= text.len() - 5);
        prop_assert_eq!(head.parse(text.as_bytes(), &limits), Ok(Some(text.len() - 5)));
        prop_assert_eq!(head.length(false), Length::Exact(5));
    }
}
