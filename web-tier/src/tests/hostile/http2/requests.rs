//! Requests that are none.

use super::{
    Case, Row, Want, check,
    frames::data,
    served,
    wire::{END_STREAM, PROTOCOL_ERROR, block, headers, request},
};

pub(super) fn rows() -> Vec<Row> {
    vec![connection_fields(), pseudo_fields(), values(), hosts(), lengths(), trailers(), sizes()]
}

const RESET: Want = Want::Reset(PROTOCOL_ERROR);
const BROKEN: Want = Want::Broken(PROTOCOL_ERROR);

fn connection_fields() -> Row {
    let cases = vec![
        Case::more(&[("connection", "close")], RESET),
        Case::more(&[("connection", "x-evil"), ("x-evil", "1")], RESET),
        Case::more(&[("keep-alive", "timeout=5")], RESET),
        Case::more(&[("proxy-connection", "keep-alive")], RESET),
        Case::more(&[("transfer-encoding", "chunked")], RESET),
        Case::more(&[("transfer-encoding", "identity")], RESET),
        Case::more(&[("upgrade", "websocket")], RESET),
        Case::more(&[("upgrade", "h2c")], RESET),
        Case::more(&[("te", "gzip")], RESET),
        Case::more(&[("te", "trailers, deflate")], RESET),
        Case::more(&[("te", "trailers")], served(&["te: trailers"], &[])),
        // Names that CGI and its kin take for those of framing.
        Case::more(&[("transfer_encoding", "chunked")], Want::Status(400)),
        Case::more(&[("content_length", "5")], Want::Status(400)),
        // For one connection, in a place where HTTP/2 does not forbid them.
        Case::more(&[("http2-settings", "AAMAAABk")], served(&[], &["http2-settings"])),
        Case::more(&[("proxy-authorization", "Basic eA==")], served(&[], &["proxy-authorization"])),
    ];
    Row { title: "HTTP/2: fields of a connection", cases }
}

fn pseudo_fields() -> Row {
    let (method, scheme, authority, path) =
        ((":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", "/"));
    let cases = vec![
        Case::fields(&[scheme, authority, path], RESET),
        Case::fields(&[method, authority, path], RESET),
        Case::fields(&[method, scheme, authority], RESET),
        Case::fields(&[method, scheme, authority, (":path", "")], RESET),
        Case::fields(&[method, method, scheme, authority, path], RESET),
        Case::fields(&[method, scheme, authority, path, path], RESET),
        Case::fields(&[method, scheme, authority, authority, path], RESET),
        Case::fields(&[method, scheme, scheme, authority, path], RESET),
        Case::fields(&[method, scheme, authority, path, (":status", "200")], RESET),
        Case::fields(&[method, scheme, authority, ("x", "1"), path], RESET),
        Case::fields(&[("x", "1"), method, scheme, authority, path], RESET),
        Case::fields(&[method, scheme, authority, path, (":protocol", "websocket")], RESET),
        Case::fields(&[(":method", "CONNECT"), scheme, authority, path], RESET),
        Case::fields(&[(":method", "CONNECT"), authority], Want::Status(405)),
        Case::fields(
            &[(":method", "CONNECT"), scheme, authority, path, (":protocol", "connect-udp")],
            Want::Status(405),
        ),
        Case::fields(&[(":method", "TRACE"), scheme, authority, path], Want::Status(405)),
        // What nobody knows, or no name can be: the state of the compression is in doubt for the library.
        Case::fields(&[method, scheme, authority, path, (":evil", "1")], Want::GoAway(PROTOCOL_ERROR)),
        Case::fields(&[(":method", "G T"), scheme, authority, path], Want::GoAway(PROTOCOL_ERROR)),
        Case::fields(&[(":method", ""), scheme, authority, path], Want::GoAway(PROTOCOL_ERROR)),
        Case::fields(
            &[(":method", "GET / HTTP/1.1\r\nx: "), scheme, authority, path],
            Want::GoAway(PROTOCOL_ERROR),
        ),
        Case::fields(&[method, (":scheme", "ht tp"), authority, path], RESET),
        Case::fields(&[method, scheme, authority, (":path", "/a b")], RESET),
        Case::fields(&[method, scheme, authority, (":path", "/ HTTP/1.1\r\nx: ")], RESET),
        Case::fields(&[method, scheme, authority, (":path", "/a#b")], RESET),
        Case::fields(&[method, (":path", "/a?b#"), scheme, authority], RESET),
        Case::fields(&[method, scheme, authority, path, ("x", "/a#b")], served(&["x: /a#b"], &[])),
        Case::fields(&[method, scheme, authority, (":path", "/\0")], RESET),
        Case::fields(&[method, scheme, authority, (":path", "/%00")], Want::Status(400)),
        Case::fields(&[method, scheme, authority, (":path", "/../x")], Want::Status(400)),
        Case::fields(&[method, scheme, authority, (":path", "/\u{e4}")], Want::GoAway(PROTOCOL_ERROR)),
        Case::fields(&[method, scheme, authority, (":path", "*")], Want::Status(400)),
        Case::fields(&[method, scheme, authority, (":path", "x")], RESET),
        Case::fields(&[method, scheme, authority, (":path", "http://evil/")], RESET),
        Case::fields(&[method, scheme, authority, (":path", "//evil/")], served(&["host: h"], &[])),
        Case::fields(
            &[(":method", "OPTIONS"), scheme, authority, (":path", "*")],
            served(&["options * http/1.1"], &[]),
        ),
    ];
    Row { title: "HTTP/2: pseudo-fields", cases }
}

fn values() -> Row {
    const GONE: Want = Want::GoAway(PROTOCOL_ERROR);
    let cases = vec![
        Case::more(&[("x", "a\r\nevil: 1")], GONE),
        Case::more(&[("x", "a\nevil: 1")], GONE),
        Case::more(&[("x", "a\rb")], GONE),
        Case::more(&[("x", "a\0b")], GONE),
        Case::more(&[("x", "a\u{7f}b")], GONE),
        Case::more(&[("X", "1")], GONE),
        Case::more(&[("Content-Length", "5")], GONE),
        Case::more(&[("x y", "1")], GONE),
        Case::more(&[("x:", "1")], GONE),
        Case::more(&[("x\r\nevil", "1")], GONE),
        Case::more(&[("", "1")], GONE),
        Case::more(&[("x\u{e4}", "1")], GONE),
        Case::more(&[("x", " a")], RESET),
        Case::more(&[("x", "a\t")], RESET),
        Case::more(&[("x", " ")], RESET),
        Case::more(&[("cookie", "a=1"), ("cookie", "b=2 ")], RESET),
        Case::more(&[("content-length", " 0")], RESET),
        Case::more(&[("x", "a \t b"), ("y", "")], served(&["x: a \t b"], &[])),
        Case::more(&[("x", "\u{e4}\t\u{ff}")], served(&[], &[])),
        Case::more(
            &[("x-forwarded-for", "6.6.6.6"), ("x-session-id", "evil")],
            served(&[], &["6.6.6.6", "evil"]),
        ),
        Case::more(
            &[("x_forwarded_for", "6.6.6.6"), ("x_real_ip", "6.6.6.6"), ("x-forwarded_proto", "evil")],
            served(&["x-forwarded-for: 127.0.0.1"], &["6.6.6.6", "evil"]),
        ),
        Case::more(
            &[
                ("x_request_id", "evil"),
                ("x_session_id", "evil"),
                ("x_copal_request", "evil"),
                ("copal_a", "evil"),
            ],
            served(&[], &["evil"]),
        ),
        Case::more(&[("expect", "the-worst")], Want::Status(417)),
    ];
    Row { title: "HTTP/2: control characters and capitals in fields", cases }
}

fn hosts() -> Row {
    let [method, scheme, authority, path] = request("GET", "/")[..] else { unreachable!() };
    let with = |authority| [method, scheme, (":authority", authority), path];
    let cases = vec![
        Case::fields(&[method, scheme, path], Want::Status(400)),
        Case::fields(&[method, scheme, path, ("host", "h")], served(&["host: h"], &[])),
        Case::fields(&[method, scheme, path, ("host", "h"), ("host", "h")], Want::Status(400)),
        Case::fields(&[method, scheme, path, ("host", "h"), ("host", "evil")], Want::Status(400)),
        Case::fields(&[method, scheme, authority, path, ("host", "h")], served(&["host: h"], &[])),
        Case::fields(&[method, scheme, authority, path, ("host", "H:80")], served(&["host: h"], &[":80"])),
        Case::fields(&[method, scheme, authority, path, ("host", "h:443")], Want::Status(400)),
        Case::fields(&[method, scheme, authority, path, ("host", "evil")], Want::Status(400)),
        Case::fields(&[method, scheme, authority, path, ("host", "h"), ("host", "evil")], Want::Status(400)),
        Case::fields(&with("h@evil"), Want::Status(400)),
        Case::fields(&with("user:secret@h"), Want::Status(400)),
        Case::fields(&with("h:1:2"), RESET),
        Case::fields(&with("h:abc"), Want::Status(400)),
        Case::fields(&with("h/evil"), RESET),
        Case::fields(&with("h evil"), RESET),
        Case::fields(&with("h\r\nevil: 1"), RESET),
        Case::fields(&with(""), RESET),
    ];
    Row { title: "HTTP/2: `:authority` and `Host`", cases }
}

fn lengths() -> Row {
    let post = |length: &'static str, ends: bool, frames: &[Vec<u8>], want: Want| {
        let fields = [&request("POST", "/")[..], &[("content-length", length)]].concat();
        let sent = [headers(1, ends, &block(&fields)), frames.concat()].concat();
        let size: usize = frames.iter().map(|it| it.len() - 9).sum();
        Case::new(format!("content-length: {length}, and {size} bytes"), sent, want)
    };
    let hello = |flags| data(1, flags, b"hello");
    let cases = vec![
        post("5", true, &[], RESET),
        post("4", false, &[hello(END_STREAM)], BROKEN),
        post("6", false, &[hello(END_STREAM)], BROKEN),
        post("5", false, &[hello(0), data(1, END_STREAM, b"x")], BROKEN),
        post("0", false, &[hello(END_STREAM)], BROKEN),
        post("+5", false, &[hello(END_STREAM)], RESET),
        post("-5", false, &[hello(END_STREAM)], RESET),
        post("0x5", false, &[hello(END_STREAM)], RESET),
        post("5, 5", false, &[hello(END_STREAM)], RESET),
        post("", false, &[hello(END_STREAM)], RESET),
        post("18446744073709551621", false, &[hello(END_STREAM)], RESET),
        Case::body(
            "content-length: 5 / content-length: 6",
            &[("content-length", "5"), ("content-length", "6")],
            &[hello(END_STREAM)],
            RESET,
        ),
        post("5", false, &[hello(END_STREAM)], served(&["content-length: 5", "hello"], &[])),
        post("5", false, &[hello(0), data(1, END_STREAM, b"")], served(&["content-length: 5", "hello"], &[])),
        post("0", false, &[data(1, END_STREAM, b"")], served(&["content-length: 0"], &["chunked"])),
        Case::body(
            "no length",
            &[],
            &[hello(END_STREAM)],
            served(&["transfer-encoding: chunked", "hello"], &[]),
        ),
    ];
    Row { title: "HTTP/2: bodies unlike their `Content-Length`", cases }
}

fn trailers() -> Row {
    let behind = |fields: &[(&str, &str)], ends, want| {
        let frames = [data(1, 0, b"hello"), headers(1, ends, &block(fields))];
        let text = format!("trailers {}{}", super::shown(fields), if ends { "" } else { " without an end" });
        Case::body(&text, &[], &frames, want)
    };
    let cases = vec![
        behind(&[("x-sum", "1")], true, served(&["x-sum: 1"], &[])),
        behind(&[("x-sum", "1")], false, BROKEN),
        behind(&[("x-sum", " 1")], true, BROKEN),
        behind(&[("x-sum", "1"), ("x-other", "1\t")], true, BROKEN),
        // The library drops these.
        behind(&[(":path", "/evil")], true, BROKEN),
        behind(&[(":status", "200")], true, BROKEN),
        behind(&[(":status", "200"), ("x-sum", "1")], true, BROKEN),
        behind(&[("x-sum", "1"), (":status", "200")], true, BROKEN),
        behind(&[("transfer-encoding", "chunked")], true, BROKEN),
        behind(&[("connection", "close")], true, BROKEN),
        behind(
            &[("content-length", "9"), ("host", "evil"), ("cookie", "evil=1"), ("x-forwarded-for", "evil")],
            true,
            served(&["hello"], &["content-length", "evil"]),
        ),
    ];
    Row { title: "HTTP/2: trailers", cases }
}

fn sizes() -> Row {
    let many = |count: usize, name: &'static str, value: &'static str, want| {
        let mut fields = request("GET", "/");
        fields.extend(std::iter::repeat_n((name, value), count));
        Case::new(format!("{count} times {name}: {value}"), headers(1, true, &block(&fields)), want)
    };
    let long = |size: usize, want| {
        let value = "a".repeat(size);
        let mut fields = request("GET", "/");
        fields.push(("x", &value));
        let block = block(&fields);
        let (first, rest) = block.split_at(block.len().min(16_000));
        let mut sent = super::wire::frame(super::wire::HEADERS, END_STREAM, 1, first);
        for piece in rest.chunks(16_000) {
            sent.extend(super::wire::frame(super::wire::CONTINUATION, 0, 1, piece));
        }
        sent.extend(super::wire::frame(super::wire::CONTINUATION, super::wire::END_HEADERS, 1, b""));
        Case::new(format!("x: a×{size}"), sent, want)
    };
    let target = format!("/{}", "a".repeat(16 * 1024));
    let cases = vec![
        // With `Host` these are 100 and 101.
        many(99, "x", "1", served(&[], &[])),
        many(101, "x", "1", Want::Status(431)),
        many(800, "x", "1", Want::Status(431)),
        // A cookie in crumbs is one field.
        many(500, "cookie", "a=1", served(&[], &[])),
        many(1200, "cookie", "a=1", Want::Status(431)),
        many(1200, "cookie", "", Want::Status(431)),
        long(30_000, served(&[], &[])),
        long(33_000, Want::Status(431)),
        Case::new(
            "a target over 16 KiB",
            {
                let block = block(&request("GET", &target));
                let (first, rest) = block.split_at(16_000);
                let first = super::wire::frame(super::wire::HEADERS, END_STREAM, 1, first);
                let rest = super::wire::frame(super::wire::CONTINUATION, super::wire::END_HEADERS, 1, rest);
                [first, rest].concat()
            },
            Want::Status(414),
        ),
    ];
    Row { title: "HTTP/2: heads over the limits", cases }
}

#[tokio::test]
async fn fields_of_a_connection_are_refused() {
    check(connection_fields()).await;
}

#[tokio::test]
async fn pseudo_fields_are_as_they_must_be() {
    check(pseudo_fields()).await;
}

#[tokio::test]
async fn values_say_nothing_to_a_server() {
    check(values()).await;
}

#[tokio::test]
async fn hosts_are_one() {
    check(hosts()).await;
}

#[tokio::test]
async fn bodies_are_as_long_as_they_say() {
    check(lengths()).await;
}

#[tokio::test]
async fn trailers_frame_nothing() {
    check(trailers()).await;
}

#[tokio::test]
async fn heads_are_bounded() {
    check(sizes()).await;
}
