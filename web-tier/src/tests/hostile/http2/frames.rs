//! Frames in the wrong place, of the wrong size, or for nobody.

use super::{
    Case, Row, Want, check, served,
    wire::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, HEADERS, PADDED,
        PING, PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, get,
        headers, request,
    },
};

pub(super) fn rows() -> Vec<Row> {
    vec![places(), sizes()]
}

/// A frame of `DATA`.
pub(super) fn data(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, bytes)
}

const GONE: Want = Want::GoAway(PROTOCOL_ERROR);

fn places() -> Row {
    let begin = |flags| frame(HEADERS, flags, 1, &block(&request("GET", "/")));
    let cases = vec![
        Case::new("DATA on stream 0", data(0, 0, b"x"), GONE),
        Case::new("HEADERS on stream 0", headers(0, true, &block(&request("GET", "/"))), GONE),
        Case::new("HEADERS on stream 2", get(2, "/"), GONE),
        Case::new("DATA on a stream that was never opened", data(1, 0, b"x"), GONE),
        Case::new("RST_STREAM on a stream that was never opened", frame(RST_STREAM, 0, 1, &[0; 4]), GONE),
        Case::new(
            "WINDOW_UPDATE on a stream that was never opened",
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
            GONE,
        ),
        Case::new("CONTINUATION without HEADERS", frame(CONTINUATION, END_HEADERS, 1, b""), GONE),
        Case::new("DATA within a header block", [begin(0), data(1, 0, b"x")].concat(), GONE),
        Case::new("PING within a header block", [begin(0), frame(PING, 0, 0, &[0; 8])].concat(), GONE),
        Case::new(
            "CONTINUATION of another stream",
            [begin(0), frame(CONTINUATION, END_HEADERS, 3, b"")].concat(),
            GONE,
        ),
        Case::new("PUSH_PROMISE", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]), GONE),
        Case::new("PUSH_PROMISE without an end", frame(PUSH_PROMISE, 0, 1, &[0, 0, 0, 2]), GONE),
        Case::new("HEADERS on stream 0 without an end", frame(HEADERS, END_STREAM, 0, b""), GONE),
        Case::new("HEADERS on stream 2 without an end", frame(HEADERS, END_STREAM, 2, b""), GONE),
        Case::new("SETTINGS on stream 1", frame(SETTINGS, 0, 1, b""), GONE),
        Case::new("PING on stream 1", frame(PING, 0, 1, &[0; 8]), GONE),
        Case::new("WINDOW_UPDATE of 0", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), GONE),
        Case::new(
            "WINDOW_UPDATE of 0 on a stream",
            [get(1, "/sentinel"), frame(WINDOW_UPDATE, 0, 1, &[0; 4])].concat(),
            GONE,
        ),
        Case::new(
            "WINDOW_UPDATE beyond 2^31",
            frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
            Want::GoAway(FLOW_CONTROL_ERROR),
        ),
        Case::new(
            "two SETTINGS acknowledged that were sent once",
            [frame(SETTINGS, 1, 0, b""), frame(SETTINGS, 1, 0, b"")].concat(),
            GONE,
        ),
        Case::new("index 0 in a header block", headers(1, true, &[0x80]), GONE),
        Case::new("an index that is not in the table", headers(1, true, &[0xfe]), GONE),
        Case::new("a number that does not end", headers(1, true, &[0xff; 12]), GONE),
        Case::new("a string longer than the block", headers(1, true, &[0, 5, b'a']), GONE),
        Case::new("a table larger than allowed", headers(1, true, &[0x3f, 0xe1, 0xff, 0x03]), GONE),
        Case::new(
            "a frame of a type that nobody knows",
            [frame(0x42, 0xff, 1, b"x"), get(1, "/")].concat(),
            served(&[], &[]),
        ),
        Case::new(
            "PRIORITY of an idle stream",
            [frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 7]), get(1, "/")].concat(),
            served(&[], &[]),
        ),
    ];
    Row { title: "HTTP/2: frames in the wrong place", cases }
}

fn sizes() -> Row {
    let cases = vec![
        Case::new("a frame over 16 KiB", data(1, 0, &[0; 16_385]), Want::GoAway(FRAME_SIZE_ERROR)),
        Case::new("PING of 7 bytes", frame(PING, 0, 0, &[0; 7]), GONE),
        Case::new("SETTINGS of 5 bytes", frame(SETTINGS, 0, 0, &[0; 5]), GONE),
        Case::new("SETTINGS acknowledged with bytes", frame(SETTINGS, 1, 0, &[0; 6]), GONE),
        Case::new("WINDOW_UPDATE of 3 bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), GONE),
        Case::new(
            "RST_STREAM of 3 bytes",
            [get(1, "/sentinel"), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            GONE,
        ),
        Case::new(
            "more padding than frame",
            frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &[9, 0]),
            GONE,
        ),
        Case::new("SETTINGS_MAX_FRAME_SIZE of 1", frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]), GONE),
        Case::new(
            "SETTINGS_INITIAL_WINDOW_SIZE of 2^31",
            frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]),
            GONE,
        ),
    ];
    Row { title: "HTTP/2: frames of the wrong size", cases }
}

#[tokio::test]
async fn frames_stand_where_they_belong() {
    check(places()).await;
}

#[tokio::test]
async fn frames_have_their_size() {
    check(sizes()).await;
}
