//! HTTP/2, in frames by hand: a table of what one client sends on a connection of its own. After each a request on another
//! stream, or on another connection where that one has ended, gets its own answer.

mod floods;
mod frames;
mod misdirected;
mod requests;
mod stalls;

use super::{recorder::Recorder, sentinel};
use crate::tests::{backend::OnConnection, cluster::Cluster, wire};
use common::config::Config;
use std::time::Duration;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use wire::{
    END_STREAM, Frame, GOAWAY, HEADERS, PREFACE, PROTOCOL_ERROR, RST_STREAM, SETTINGS, block, frame, get,
    headers, read_frame, request,
};

/// A rule, and what is for or against it.
pub(super) struct Row {
    pub(super) title: &'static str,
    pub(super) cases: Vec<Case>,
}

/// What is sent behind the preface, and what comes back. The stream that it is about has the number 1.
pub(super) struct Case {
    /// For the page.
    pub(super) text: String,
    sent: Vec<u8>,
    pub(super) want: Want,
}

/// What it must lead to. No byte of a request that is refused by its head reaches a
/// server.
pub(super) enum Want {
    /// The stream is reset with this code, the others go on.
    Reset(u32),
    /// The same, but what is wrong comes after the head: a server may have seen the beginning of a request, never the whole.
    Broken(u32),
    /// The connection ends with this code.
    GoAway(u32),
    /// The connection ends with ENHANCE_YOUR_CALM; its first requests may have been served.
    Calm,
    /// An answer with this status; the others go on.
    Status(u16),
    /// A server gets it, with these lines and without those words; the others go on.
    Served { sees: Vec<&'static str>, never: Vec<&'static str> },
}

impl Case {
    fn new(text: impl Into<String>, sent: Vec<u8>, want: Want) -> Self {
        Self { text: text.into(), sent, want }
    }

    /// A request without a body, that differs from a valid one in these fields.
    fn fields(fields: &[(&str, &str)], want: Want) -> Self {
        Self::new(shown(fields), headers(1, true, &block(fields)), want)
    }

    /// A valid GET with more fields.
    fn more(more: &[(&str, &str)], want: Want) -> Self {
        let fields = [&request("GET", "/")[..], more].concat();
        Self::new(shown(more), headers(1, true, &block(&fields)), want)
    }

    /// A valid POST with more fields, and these frames behind it.
    fn body(text: &str, more: &[(&str, &str)], frames: &[Vec<u8>], want: Want) -> Self {
        let fields = [&request("POST", "/")[..], more].concat();
        Self::new(text, [headers(1, false, &block(&fields)), frames.concat()].concat(), want)
    }
}

fn served(sees: &[&'static str], never: &[&'static str]) -> Want {
    Want::Served { sees: sees.to_vec(), never: never.to_vec() }
}

fn shown(fields: &[(&str, &str)]) -> String {
    let list: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    super::page::shown(&super::wire(&list.join(" / ")))
}

/// All rows, for the page.
pub(super) fn rows() -> Vec<Row> {
    [requests::rows(), frames::rows(), floods::rows()].into_iter().flatten().collect()
}

/// The name of an error code.
pub(super) fn code(code: u32) -> &'static str {
    match code {
        wire::NO_ERROR => "NO_ERROR",
        PROTOCOL_ERROR => "PROTOCOL_ERROR",
        wire::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
        wire::FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR",
        wire::CANCEL => "CANCEL",
        wire::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM",
        _ => "another code",
    }
}

async fn cluster(backend: OnConnection, change: impl FnOnce(&mut Config)) -> Cluster {
    Cluster::start_with([backend], |config| {
        config.clusters[1].servers[0].http[0].h2c = true;
        change(config);
    })
    .await
}

/// A connection on which a client has said hello with these settings.
async fn connect(cluster: &Cluster, settings: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(cluster.address()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await.unwrap();
    stream
}

/// Tries all cases of a row and fails with all that were not met.
async fn check(row: Row) {
    let (recorder, backend) = Recorder::start();
    let cluster = cluster(backend, |_| {}).await;
    let mut failures = Vec::new();
    for case in &row.cases {
        recorder.forget();
        if let Err(why) = check_case(&cluster, &recorder, case).await {
            failures.push(format!("{}: {why}", case.text));
        }
    }
    let count = row.cases.len();
    assert!(failures.is_empty(), "{}: {} of {count}:\n{}", row.title, failures.len(), failures.join("\n"));
}

async fn check_case(cluster: &Cluster, recorder: &Recorder, case: &Case) -> Result<(), String> {
    const SENTINEL: u32 = 1_000_001;
    let stream = connect(cluster, &[]).await;
    let (mut from, mut to) = stream.into_split();
    let bytes = [&case.sent[..], &get(SENTINEL, "/sentinel")].concat();
    // It may have been refused by now.
    let sending = async {
        let _ = timeout(Duration::from_secs(20), to.write_all(&bytes)).await;
    };
    let receiving = async {
        let mut heard = Heard::default();
        while !heard.is_enough(SENTINEL) {
            match read_frame(&mut from).await {
                Some(frame) => heard.0.push(frame),
                None => break,
            }
        }
        heard
    };
    let (heard, ()) = tokio::join!(receiving, sending);
    let goes_on = || match heard.answer(SENTINEL) {
        Some(200) => Ok(()),
        answer => Err(format!("the next request is answered {answer:?}, heard {heard:?}")),
    };
    let got = |met: bool| if met { Ok(()) } else { Err(format!("heard {heard:?}")) };
    match &case.want {
        Want::Reset(code) => got(heard.reset(1) == Some(*code) && heard.answer(1).is_none())
            .and_then(|()| goes_on())
            .and(recorder.untouched()),
        Want::Broken(code) => {
            got(heard.reset(1) == Some(*code)).and_then(|()| goes_on()).and(recorder.no_request())
        }
        Want::GoAway(code) => got(heard.goaway() == Some(*code)).and(recorder.no_request()),
        Want::Calm => got(heard.goaway() == Some(wire::ENHANCE_YOUR_CALM)),
        Want::Status(status) => {
            got(heard.answer(1) == Some(*status)).and_then(|()| goes_on()).and(recorder.untouched())
        }
        Want::Served { sees, never } => got(heard.answer(1) == Some(200))
            .and_then(|()| goes_on())
            .and_then(|()| check_seen(recorder, sees, never)),
    }?;
    sentinel(cluster).await
}

fn check_seen(recorder: &Recorder, sees: &[&str], never: &[&str]) -> Result<(), String> {
    let requests = recorder.requests();
    let [seen] = &requests[..] else { return Err(format!("the server saw {requests:?}")) };
    if let Some(line) = sees.iter().find(|line| !seen.lines().any(|it| it == **line)) {
        return Err(format!("the server did not see {line:?} but {seen}"));
    }
    match never.iter().find(|word| seen.contains(**word)) {
        Some(word) => Err(format!("the server saw {word:?}: {seen}")),
        None => Ok(()),
    }
}

/// What came back.
#[derive(Debug, Default)]
struct Heard(Vec<Frame>);

impl Heard {
    fn of(&self, kind: u8, stream: u32) -> Option<&Frame> {
        self.0.iter().find(|it| it.kind == kind && it.stream == stream)
    }

    fn answer(&self, stream: u32) -> Option<u16> {
        self.of(HEADERS, stream).map(Frame::status)
    }

    fn reset(&self, stream: u32) -> Option<u32> {
        self.of(RST_STREAM, stream).map(Frame::code)
    }

    /// The last one: the first may only have asked to go elsewhere.
    fn goaway(&self) -> Option<u32> {
        self.0.iter().rfind(|it| it.kind == GOAWAY).map(Frame::code)
    }

    /// Whether the stream has ended on the server's side.
    fn ended(&self, stream: u32) -> bool {
        let ends = |it: &&Frame| it.kind <= HEADERS && it.flags & END_STREAM != 0;
        self.reset(stream).is_some() || self.0.iter().filter(ends).any(|it| it.stream == stream)
    }

    fn is_enough(&self, sentinel: u32) -> bool {
        self.ended(1) && self.ended(sentinel)
    }
}
