//! What HTTP/3 forbids, and what floods: refused as in HTTP/2.

use super::{
    raw::{Outcome, Raw, frame, section},
    site::{HOST, start},
};
use crate::tests::backend::echo;
use Outcome::{Closed, Reset, Status};

const CLOSED_CRITICAL_STREAM: u64 = 0x104;
const FRAME_UNEXPECTED: u64 = 0x105;
const FRAME_ERROR: u64 = 0x106;
const EXCESSIVE_LOAD: u64 = 0x107;
const ID_ERROR: u64 = 0x108;
const SETTINGS_ERROR: u64 = 0x109;
const MISSING_SETTINGS: u64 = 0x10a;
const STREAM_CREATION_ERROR: u64 = 0x103;
const REQUEST_INCOMPLETE: u64 = 0x10d;
const MESSAGE_ERROR: u64 = 0x10e;
const QPACK_DECOMPRESSION_FAILED: u64 = 0x200;
const QPACK_ENCODER_STREAM_ERROR: u64 = 0x201;
const QPACK_DECODER_STREAM_ERROR: u64 = 0x202;

const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "https"), (":authority", HOST), (":path", "/")];

/// A head with these fields more.
fn head(more: &[(&str, &str)]) -> Vec<u8> {
    frame(1, &section(&[&POST[..], more].concat()))
}

fn data(text: &str) -> Vec<u8> {
    frame(0, text.as_bytes())
}

#[tokio::test]
async fn requests_that_are_none_are_reset_and_what_is_odd_is_answered() {
    let (cluster, certificate, _files) = start([echo("a")], |_| {}).await;
    let client = Raw::connect(cluster.address(), &certificate).await;
    let malformed = Reset(MESSAGE_ERROR);
    let grease = frame(0x21, b"any");
    let rows: Vec<(&str, Vec<Vec<u8>>, Outcome)> = vec![
        ("a request", vec![head(&[])], Status(200)),
        ("a body", vec![head(&[("content-length", "5")]), data("he"), data("llo")], Status(200)),
        (
            "frames that nobody knows",
            vec![grease.clone(), head(&[]), grease.clone(), data("x"), grease],
            Status(200),
        ),
        ("trailers", vec![head(&[]), data("x"), frame(1, &section(&[("a", "b")]))], Status(200)),
        ("more than its length", vec![head(&[("content-length", "2")]), data("abc")], malformed),
        ("less than its length", vec![head(&[("content-length", "9")]), data("abc")], malformed),
        ("a length and nothing", vec![head(&[("content-length", "9")])], malformed),
        (
            "two lengths",
            vec![head(&[("content-length", "3"), ("content-length", "4")]), data("abc")],
            malformed,
        ),
        ("a length with a sign", vec![head(&[("content-length", "+3")]), data("abc")], malformed),
        ("a list of lengths", vec![head(&[("content-length", "3, 3")]), data("abc")], malformed),
        ("a name in upper case", vec![head(&[("X-a", "b")])], malformed),
        ("a name with a space", vec![head(&[("x ", "b")])], malformed),
        ("a line break in a value", vec![head(&[("x", "a\r\nb: c")])], malformed),
        ("white space around a value", vec![head(&[("x", " a")])], malformed),
        ("transfer-encoding", vec![head(&[("transfer-encoding", "chunked")]), data("x")], malformed),
        ("connection", vec![head(&[("connection", "close")])], malformed),
        ("te", vec![head(&[("te", "gzip")])], malformed),
        ("a pseudo-header field twice", vec![head(&[(":path", "/x")])], malformed),
        ("one behind others", vec![head(&[("a", "b"), (":x", "y")])], malformed),
        ("one of answers", vec![head(&[(":status", "200")])], malformed),
        ("a fragment", vec![frame(1, &section(&[POST[0], POST[1], POST[2], (":path", "/#x")]))], malformed),
        ("no path", vec![frame(1, &section(&POST[..3]))], malformed),
        ("no authority", vec![frame(1, &section(&[POST[0], POST[1], POST[3]]))], Status(400)),
        ("another host", vec![head(&[("host", "other.example")])], Status(400)),
        (
            "trailers with a pseudo-header field",
            vec![head(&[]), frame(1, &section(&[(":path", "/")]))],
            malformed,
        ),
        ("a name that resembles one of framing", vec![head(&[("content_length", "1")])], Status(400)),
        ("nothing", vec![], Reset(REQUEST_INCOMPLETE)),
    ];
    for (what, frames, expected) in rows {
        let outcome = client.sends(&frames.concat()).await;
        // A body that breaks off may have been begun to be answered.
        assert_eq!(outcome, expected, "{what}");
    }
    assert_eq!(client.sends(&head(&[])).await, Status(200), "the connection goes on");
}

#[tokio::test]
async fn heads_that_are_too_large_are_answered_431_whatever_their_form() {
    let (cluster, certificate, _files) = start([echo("a")], |_| {}).await;
    let client = Raw::connect(cluster.address(), &certificate).await;
    let (long, middle) = ("x".repeat(40_000), "x".repeat(400));
    let crumbs = vec![("cookie", ""); 1200];
    let names: Vec<_> = (0..101).map(|number| format!("x-{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "y")).collect();
    // Five bits a letter: what is packed is within bounds, what is in it is not.
    let packed = [&[0x21, b'x', 0xff, 0xf1, 0xaa, 1][..], &[0; 22_000]].concat();
    let packed = [section(&POST), packed].concat();
    for (what, section) in [
        ("a long value", section(&[&POST[..], &[("x", &long)]].concat())),
        ("many values", section(&[&POST[..], &[("x", middle.as_str()); 90]].concat())),
        ("crumbs of cookies", section(&[&POST[..], &crumbs].concat())),
        ("many fields", section(&[&POST[..], &many].concat())),
        ("a packed value", packed),
    ] {
        assert_eq!(client.sends(&frame(1, &section)).await, Status(431), "{what}");
    }
    // It need not be here for that.
    let mut send = client.quic.open_bi().await.unwrap();
    send.0.write_all(&[1, 0xc0, 0, 0, 1, 0, 0, 0, 0]).await.unwrap();
    assert_eq!(client.outcome(send.1).await, Status(431), "a section of four gigabytes");
    assert_eq!(client.sends(&head(&[])).await, Status(200), "the connection goes on");
}

#[tokio::test]
async fn frames_where_none_of_their_type_may_be_end_the_connection() {
    let (cluster, certificate, _files) = start([echo("a")], |_| {}).await;
    for (what, frames, code) in [
        ("data before a head", vec![data("x")], FRAME_UNEXPECTED),
        ("settings", vec![frame(4, &[])], FRAME_UNEXPECTED),
        ("a push", vec![head(&[]), frame(5, &[0])], FRAME_UNEXPECTED),
        ("a goaway", vec![head(&[]), frame(7, &[0])], FRAME_UNEXPECTED),
        ("a frame of HTTP/2", vec![head(&[]), frame(9, &[0])], FRAME_UNEXPECTED),
        (
            "data behind trailers",
            vec![head(&[]), frame(1, &section(&[("a", "b")])), data("x")],
            FRAME_UNEXPECTED,
        ),
        ("a frame that breaks off", vec![head(&[]), vec![0, 5, b'x']], FRAME_ERROR),
        ("a head that breaks off", vec![head(&[])[..10].to_vec()], FRAME_ERROR),
        ("a section that needs a table", vec![frame(1, &[1, 0, 0xd1])], QPACK_DECOMPRESSION_FAILED),
        ("a section that is cut", vec![frame(1, &[0, 0, 0x51, 99, b'x'])], QPACK_DECOMPRESSION_FAILED),
    ] {
        let client = Raw::connect(cluster.address(), &certificate).await;
        assert_eq!(client.sends(&frames.concat()).await, Closed(code), "{what}");
    }
}

#[tokio::test]
async fn streams_of_one_direction_are_held_to_the_rules() {
    let (cluster, certificate, _files) = start([echo("a")], |_| {}).await;
    let settings = frame(4, &[]);
    for (what, streams, code) in [
        ("no settings", vec![[&[0][..], &frame(7, &[0])].concat()], MISSING_SETTINGS),
        ("settings twice", vec![[&[0][..], &settings, &settings].concat()], FRAME_UNEXPECTED),
        ("a setting of HTTP/2", vec![[&[0][..], &frame(4, &[3, 0])].concat()], SETTINGS_ERROR),
        ("a setting twice", vec![[&[0][..], &frame(4, &[6, 0, 6, 0])].concat()], SETTINGS_ERROR),
        ("settings that break off", vec![[&[0][..], &frame(4, &[6])].concat()], FRAME_ERROR),
        ("settings without end", vec![[&[0][..], &frame(4, &[0; 2000])].concat()], EXCESSIVE_LOAD),
        ("data on it", vec![[&[0][..], &settings, &data("x")].concat()], FRAME_UNEXPECTED),
        ("a push that was never promised", vec![[&[0][..], &settings, &frame(3, &[0])].concat()], ID_ERROR),
        (
            "pushes taken back",
            vec![[&[0][..], &settings, &frame(13, &[9]), &frame(13, &[8])].concat()],
            ID_ERROR,
        ),
        ("a second one", vec![[&[0][..], &settings].concat(), vec![0]], STREAM_CREATION_ERROR),
        ("a push of a client's", vec![[&[0][..], &settings].concat(), vec![1, 0]], STREAM_CREATION_ERROR),
        ("a table of QPACK", vec![vec![2, 0x3f, 0xe1, 0x1f]], QPACK_ENCODER_STREAM_ERROR),
        ("an acknowledgement of QPACK", vec![vec![3, 0x81]], QPACK_DECODER_STREAM_ERROR),
    ] {
        let mut client = Raw::bare(cluster.address(), &certificate).await;
        let mut open = Vec::new();
        for (place, bytes) in streams.iter().enumerate() {
            if place == 0 {
                client.control.write_all(bytes).await.unwrap();
            } else {
                let mut stream = client.quic.open_uni().await.unwrap();
                let _ = stream.write_all(bytes).await;
                open.push(stream);
            }
        }
        assert_eq!(client.closed().await, Closed(code), "{what}");
    }
    let mut client = Raw::connect(cluster.address(), &certificate).await;
    client.control.finish().unwrap();
    assert_eq!(client.closed().await, Closed(CLOSED_CRITICAL_STREAM), "it ends");
    let client = Raw::connect(cluster.address(), &certificate).await;
    let mut open = Vec::new();
    for kind in [vec![2, 0x20], vec![3, 0x41], vec![0x40, 0x21 + 0x1f, 1, 2, 3]] {
        let mut stream = client.quic.open_uni().await.unwrap();
        stream.write_all(&kind).await.unwrap();
        open.push(stream);
    }
    assert_eq!(client.sends(&head(&[])).await, Status(200), "what is allowed, and what nobody knows");
}

#[tokio::test]
async fn a_flood_of_resets_ends_the_connection_and_that_of_requests_does_not() {
    let (cluster, certificate, _files) = start([echo("a")], |_| {}).await;
    let client = Raw::connect(cluster.address(), &certificate).await;
    for _ in 0..1000 {
        assert_eq!(client.sends(&head(&[])).await, Status(200));
    }
    let flood = async {
        loop {
            let Ok((mut send, mut recv)) = client.quic.open_bi().await else { return };
            let _ = send.write_all(&head(&[])).await;
            let _ = send.reset(0x10c_u32.into());
            let _ = recv.stop(0x10c_u32.into());
        }
    };
    tokio::time::timeout(super::client::PATIENCE, flood).await.expect("it ends");
    assert_eq!(client.closed().await, Closed(EXCESSIVE_LOAD));
    let totals = cluster.web.totals();
    assert!(totals.requests < 2000, "{}", totals.requests);
}

#[tokio::test]
async fn a_request_that_is_taken_back_is_not_answered_and_a_flood_of_them_ends_the_connection() {
    let (cluster, certificate, _files) = start([echo("a")], |_| {}).await;
    let client = Raw::connect(cluster.address(), &certificate).await;
    let flood = async {
        loop {
            let Ok((mut send, mut recv)) = client.quic.open_bi().await else { return };
            let post = [head(&[]), data("a part")].concat();
            let _ = send.write_all(&post).await;
            let _ = send.reset(0x10c_u32.into());
            // Its half of the stream stays open, so that what it costs is not said by STOP_SENDING.
            assert!(recv.read_to_end(1 << 20).await.is_err());
        }
    };
    tokio::time::timeout(super::client::PATIENCE, flood).await.expect("it ends");
    assert_eq!(client.closed().await, Closed(EXCESSIVE_LOAD));
}

#[tokio::test]
async fn a_flood_of_frames_that_bring_nothing_ends_the_connection() {
    let (cluster, certificate, _files) = start([echo("a")], |_| {}).await;
    let empty = [head(&[]), [0, 0].repeat(3000)].concat();
    let unknown = [head(&[]), [0x21, 0].repeat(3000)].concat();
    for flood in [empty, unknown] {
        let client = Raw::connect(cluster.address(), &certificate).await;
        assert_eq!(client.sends(&flood).await, Closed(EXCESSIVE_LOAD));
    }
    let mut client = Raw::connect(cluster.address(), &certificate).await;
    let _ = client.control.write_all(&frame(13, &[0]).repeat(10_000)).await;
    assert_eq!(client.closed().await, Closed(EXCESSIVE_LOAD));
}
