//! Tests of headers on their way.

use super::*;
use crate::http1::{HeadLimits, RequestHead, ResponseHead};

const LIMITS: HeadLimits = HeadLimits { count: 100, bytes: 32 * 1024, target: 16 * 1024 };

/// The lines of a forwarded head, names in lower case.
#[derive(Debug)]
struct Sent(Vec<(String, String)>);

impl Sent {
    fn of(bytes: &[u8]) -> (String, Self) {
        let text = str::from_utf8(bytes).unwrap().strip_suffix("\r\n\r\n").expect("a head ends");
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap().to_owned();
        let fields = lines.map(|line| line.split_once(": ").expect("name: value"));
        (first, Self(fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect()))
    }

    fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(it, _)| it == name).map(|(_, value)| value.as_str()).collect()
    }

    fn one(&self, name: &str) -> &str {
        let [value] = self.all(name)[..] else { panic!("one {name}: {self:?}") };
        value
    }

    fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }
}

fn sent_on(first: &str, lines: &[(&str, &str)]) -> Sent {
    let lines: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut head = RequestHead::default();
    head.parse(format!("{first}\r\n{lines}\r\n").as_bytes(), &LIMITS).unwrap().unwrap();
    let mut out = Vec::new();
    put_request(
        &mut out,
        &mut head,
        &Via {
            session_url: None,
            address: b"192.0.2.7",
            port: 8080,
            scheme: b"http",
            host: None,
            request_id: b"id",
            hub_age: None,
            trace: Trace::Theirs,
            tls: None,
        },
        &[],
    );
    let (first, sent) = Sent::of(&out);
    assert!(first.ends_with(" HTTP/1.1"), "{first}");
    sent
}

fn get(lines: &[(&str, &str)]) -> Sent {
    sent_on("GET / HTTP/1.1", lines)
}

#[test]
fn hop_by_hop_headers_go() {
    let headers = get(&[
        ("host", "h"),
        ("connection", "keep-alive, X-Private"),
        ("connection", "x-other"),
        ("x-private", "1"),
        ("x-other", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic eA=="),
        ("upgrade", "h2c"),
        ("http2-settings", "x"),
        ("te", "gzip"),
        ("accept", "*/*"),
    ]);
    let mut names: Vec<_> = headers.0.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "accept",
        "host",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-real-ip",
        "x-request-id",
    ];
    assert_eq!(names, expected);
}

#[test]
fn what_connection_names_can_not_take_framing_or_host_away() {
    let headers = get(&[
        ("host", "h"),
        ("content-length", "3"),
        ("connection", "Host, Content-Length, cookie"),
        ("cookie", "a"),
    ]);
    assert_eq!((headers.one("host"), headers.one("content-length")), ("h", "3"));
    assert!(!headers.has("cookie"));
}

#[test]
fn connection_can_not_take_the_proxys_own_headers_away() {
    let headers = get(&[("host", "h"), ("connection", "x-forwarded-for, x-request-id, via")]);
    assert_eq!(headers.one("x-forwarded-for"), "192.0.2.7");
    assert_eq!((headers.one("x-request-id"), headers.one("via")), ("id", "1.1 copal"));
}

#[test]
fn what_a_client_says_of_itself_is_dropped() {
    let headers = get(&[
        ("host", "h"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "7.7.7.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-port", "1"),
        ("x-forwarded-prefix", "/p"),
        ("forwarded", "for=6.6.6.6"),
        ("x-real-ip", "6.6.6.6"),
        ("x-session-id", "stolen"),
        ("x-request-id", "mine"),
        ("copal-not-processed", "1"),
    ]);
    assert_eq!(headers.one("x-forwarded-for"), "192.0.2.7");
    assert_eq!(headers.one("x-forwarded-proto"), "http");
    assert_eq!(headers.one("x-forwarded-host"), "h");
    assert_eq!(headers.one("x-request-id"), "id");
    assert_eq!((headers.one("x-real-ip"), headers.one("x-forwarded-port")), ("192.0.2.7", "8080"));
    for name in ["x-forwarded-prefix", "forwarded", "x-session-id", "copal-not-processed"] {
        assert!(!headers.has(name), "{name}");
    }
}

#[test]
fn trailers_are_still_asked_for_and_via_is_added_to() {
    let lines = [("host", "h"), ("te", "gzip, Trailers"), ("via", "1.1 other")];
    let headers = sent_on("GET / HTTP/1.0", &lines);
    assert_eq!((headers.one("te"), headers.one("connection")), ("trailers", "te"));
    let lines = [("host", "h"), ("te", "trailers"), ("connection", "te, upgrade"), ("upgrade", "websocket")];
    assert_eq!(get(&lines).one("connection"), "upgrade, te");
    assert_eq!(headers.all("via"), ["1.1 other", "1.0 copal"]);
}

#[test]
fn the_length_of_a_body_is_said_once() {
    let host = ("host", "h");
    assert_eq!(
        sent_on("POST / HTTP/1.1", &[host, ("Transfer-Encoding", "Chunked")]).one("transfer-encoding"),
        "chunked"
    );
    let known = sent_on("POST / HTTP/1.1", &[host, ("content-length", "03")]);
    assert_eq!((known.one("content-length"), known.has("transfer-encoding")), ("3", false));
    assert_eq!(sent_on("POST / HTTP/1.1", &[host]).one("content-length"), "0");
    assert!(!get(&[host]).has("content-length"));
}

#[test]
fn an_upgrade_passes_unless_it_is_to_cleartext_http_2() {
    let asked = |protocol| {
        let sent = get(&[("host", "h"), ("connection", "Upgrade, x-a"), ("upgrade", protocol), ("x-a", "1")]);
        assert!(!sent.has("x-a"), "{sent:?}");
        sent.has("upgrade").then(|| (sent.one("connection").to_owned(), sent.one("upgrade").to_owned()))
    };
    assert_eq!(asked("websocket"), Some(("upgrade".to_owned(), "websocket".to_owned())));
    for hidden in ["h2c", "websocket, H2C", "h2"] {
        assert_eq!(asked(hidden), None, "{hidden}");
    }
    assert!(!get(&[("host", "h"), ("upgrade", "websocket")]).has("upgrade"), "nobody asked for it");
    assert!(
        !sent_on("GET / HTTP/1.0", &[("connection", "upgrade"), ("upgrade", "websocket")]).has("upgrade")
    );
}

fn answered(text: &str, to: ToClient<'_>) -> (String, Sent) {
    let mut head = ResponseHead::default();
    head.parse(text.as_bytes(), &LIMITS).unwrap().unwrap();
    let mut out = Vec::new();
    put_response(&mut out, &mut head, to);
    Sent::of(&out)
}

const CHUNKED: ToClient<'_> = ToClient {
    framing: Framing::Chunked,
    local: false,
    close: false,
    keep_alive: false,
    alt_svc: None,
    date: b"now",
};

#[test]
fn an_answer_loses_what_was_for_the_proxy() {
    let (first, sent) = answered(
        "HTTP/1.0 200 Fine\r\nconnection: close, x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
         copal-not-processed: 1\r\ncopal-anything: 1\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\r\n",
        CHUNKED,
    );
    assert_eq!(first, "HTTP/1.1 200 Fine");
    let mut lines: Vec<_> = sent.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    lines.sort_unstable();
    let expected = [
        ("date", "now"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("transfer-encoding", "chunked"),
        ("via", "1.1 copal"),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn an_answer_says_what_becomes_of_the_connection() {
    let text = "HTTP/1.1 200 OK\r\ndate: then\r\ncontent-length: 7\r\n\r\n";
    let exact = ToClient { framing: Framing::Exact(7), ..CHUNKED };
    let (_, sent) = answered(text, ToClient { close: true, ..exact });
    assert_eq!(
        (sent.one("connection"), sent.one("content-length"), sent.one("date")),
        ("close", "7", "then")
    );
    let (_, sent) = answered(text, ToClient { keep_alive: true, ..exact });
    assert_eq!(sent.one("connection"), "keep-alive");
    assert!(!answered(text, exact).1.has("connection"));
    let (_, sent) = answered(text, ToClient { framing: Framing::None, ..CHUNKED });
    assert_eq!(sent.one("content-length"), "7", "to HEAD");
}

#[test]
fn a_change_of_protocols_passes_as_it_is() {
    let text = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let (_, sent) = answered(text, ToClient { framing: Framing::None, ..CHUNKED });
    assert_eq!(
        (sent.one("connection"), sent.one("upgrade"), sent.has("date")),
        ("Upgrade", "websocket", false)
    );
}
