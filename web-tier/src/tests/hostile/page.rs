//! The tables as a page: `docs/hostile-input.md`.

use super::{Row, Want, chunks, fields, framing, hosts, http2, limits, lines, paths};
use std::fmt::Write;

const HEAD: &str = "\
# What hostile or malformed input leads to

Printed from the tables in `web-tier/src/tests/hostile/`, which try each line on a raw socket, in one piece and in several, with
another request behind it on the same bytes. *Closed*: the answer says `Connection: close` and the connection ends; not a byte of
the request reaches a server, and what stood behind it is not served. *In the body*: what is wrong comes after the head, so that a
server may have seen the beginning of the request, but never a whole one. `a×17000` is a letter 17,000 times.

The tables of HTTP/2 are at the end. They are of frames by hand, each behind the preface of a connection of its own: a stream that
is *reset* or answered does no harm to the connection's other streams, and a *GOAWAY* ends the connection. ENHANCE_YOUR_CALM is for
clients that cost more than they ask for (`client/http2/flood_guard.rs` has the prices).
";

const TAIL: &str = "
## HTTP/2: what ends a stream, and what a connection

RFC 9113 §8.1.1 wants a malformed request to be an error of its *stream*. It is, but for a field's name or value that no field may
have (control characters, capitals in a name, an empty name) and for a few pseudo-fields, marked GOAWAY above: the `h2` library finds
those while it decompresses the block (HPACK), and ends the connection. It has no setting for this. §5.4.1 allows it: \"An endpoint can
end a connection at any time. In particular, an endpoint MAY choose to treat a stream error as a connection error.\" It is safe: no byte
of such a request reaches a server, and no request after it on the same bytes is served. What it costs is the connection's other
requests, which end with it: those beyond the number that the GOAWAY names may be sent again on another connection. No browser and no
HTTP library lets an application write such a field; a proxy in front that passes them on from its own clients would let one client
end the requests of others, and has to be mended there.

White space around a field's value, pseudo-fields in trailers and a fragment in `:path` are not for `h2` to find: it would drop them. They
are found in the blocks as they come (`client/http2/blocks.rs`), as far as that goes without HPACK's table: what refers to such a field
that the client had put into the table before, and was reset for, is dropped as `h2` does it. No server sees any of it. A `PUSH_PROMISE`, and
a request on a stream that is none of a client's, end the connection at their first byte, not after the last CONTINUATION.

A stream that is reset, by the client or because of the client, costs it 24 points of 4096; 64 come back in a second, one with 32 bytes
that are sent to it, and 24 with each answer. So a client, or a proxy for many, may have one request reset for each that is answered, for
as long as it likes, and 128 at once. Who has no points left gets GOAWAY with ENHANCE_YOUR_CALM. What `h2` counts over the whole
life of a connection (1024 streams that the client made it reset, 100 frames without data) never ends an honest one: at half of it, and
after `keepalive-max` requests, the client is told by GOAWAY with NO_ERROR to go on with another connection, and what it has asked is
answered.

An upload that stalls for `socket-timeout` before its answer has begun gets 408, and then RST_STREAM with NO_ERROR; one whose answer has
begun is reset with CANCEL. The connection goes on.
";

fn rows() -> Vec<Row> {
    [
        framing::rows(),
        chunks::rows(),
        fields::rows(),
        lines::rows(),
        hosts::rows(),
        limits::rows(),
        paths::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Bytes as they stand in a page: what can't be seen is escaped, long runs of one byte are counted.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let run = rest.iter().take_while(|byte| *byte == first).count();
        let count = if run > 30 { run } else { 1 };
        text.extend(first.escape_ascii().map(char::from).filter(|it| *first != b'\'' || *it != '\\'));
        if count > 1 {
            let _ = write!(text, "×{count}");
        }
        rest = &rest[count..];
    }
    const MAX: usize = 300;
    if text.len() > MAX {
        let cut: String = text.chars().take(MAX).collect();
        return format!("{cut}… ({} bytes)", bytes.len());
    }
    text
}

fn answer_in_frames(want: &http2::Want) -> String {
    match want {
        http2::Want::Reset(code) => format!("reset, {}", http2::code(*code)),
        http2::Want::Broken(code) => format!("reset in the body, {}", http2::code(*code)),
        http2::Want::GoAway(code) => format!("GOAWAY, {}", http2::code(*code)),
        http2::Want::Calm => "GOAWAY, ENHANCE_YOUR_CALM".to_owned(),
        http2::Want::Status(status) => status.to_string(),
        http2::Want::Served { sees, never } => {
            answer(&Want::Served { sees: sees.clone(), never: never.clone() })
        }
    }
}

fn answer(want: &Want) -> String {
    let any = |statuses: &[u16]| statuses.iter().map(u16::to_string).collect::<Vec<_>>().join(" or ");
    match want {
        Want::Refused(statuses) => format!("{}, closed", any(statuses)),
        Want::Broken(statuses) => format!("{} in the body, closed", any(statuses)),
        Want::Served { sees, never } => {
            let list =
                |words: &[&str]| words.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ");
            let mut text = "served".to_owned();
            if !sees.is_empty() {
                let _ = write!(text, "; the server sees {}", list(sees));
            }
            if !never.is_empty() {
                let _ = write!(text, "; not {}", list(never));
            }
            text
        }
    }
}

#[test]
fn the_page_is_as_the_tables() {
    let mut page = HEAD.to_owned();
    for row in rows() {
        let _ = write!(page, "\n## {}\n\n| sent | answer |\n|---|---|\n", row.title);
        for case in row.cases {
            let sent = shown(&case.sent).replace('|', "\\|");
            let fence = if sent.contains('`') { "``" } else { "`" };
            let _ = writeln!(page, "| {fence}{sent}{fence} | {} |", answer(&case.want).replace('|', "\\|"));
        }
    }
    for row in http2::rows() {
        let _ = write!(page, "\n## {}\n\n| sent | answer |\n|---|---|\n", row.title);
        for case in row.cases {
            let _ =
                writeln!(page, "| `{}` | {} |", case.text.replace('|', "\\|"), answer_in_frames(&case.want));
        }
    }
    page.push_str(TAIL);
    expect_test::expect_file![concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/hostile-input.md")]
        .assert_eq(&page);
}

#[test]
fn what_is_shown_can_be_read() {
    assert_eq!(shown(b"GET /'\r\n\0\xff"), "GET /'\\r\\n\\x00\\xff");
    assert_eq!(shown(&[b'a'; 31]), "a×31");
    assert!(shown(&b"ab".repeat(1000)).ends_with("… (2000 bytes)"));
}
