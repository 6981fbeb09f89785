//! Hostile and malformed input on raw sockets, as tables: what is sent, and what must be answered. Nothing of a refused request
//! may reach a server, and what follows it on the same bytes is never served. `docs/hostile-input.md` is printed from the tables.

mod answers;
mod chunks;
mod early;
mod fields;
mod framing;
mod hosts;
mod http2;
mod limits;
mod lines;
mod page;
mod paths;
pub(crate) mod recorder;
pub(crate) mod verdict;

use super::{client::Client, cluster::Cluster};
use recorder::Recorder;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use verdict::Answers;

/// Follows every input on the same bytes. Whoever reads the input differently from its sender serves this.
pub(crate) const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

/// After this a connection that waits for more is closed, so that a case that fails does not take long.
const GIVE_UP: Duration = Duration::from_secs(2);

/// Nothing takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A rule, and inputs that are for or against it.
pub(crate) struct Row {
    pub(crate) title: &'static str,
    pub(crate) cases: Vec<Case>,
}

/// An input and its answer.
pub(crate) struct Case {
    pub(crate) sent: Vec<u8>,
    pub(crate) want: Want,
}

/// What an input must lead to.
pub(crate) enum Want {
    /// One answer with one of these statuses, and the end of the connection. No byte of it reaches a server.
    Refused(&'static [u16]),
    /// The same, but what is wrong comes after the head: a server may have seen the beginning of a request, never the whole.
    Broken(&'static [u16]),
    /// A server gets it, with these lines and without those words, and the connection goes on.
    Served { sees: Vec<&'static str>, never: Vec<&'static str> },
}

/// A refused input.
pub(crate) fn refused(statuses: &'static [u16], sent: impl AsRef<str>) -> Case {
    Case { sent: wire(sent.as_ref()), want: Want::Refused(statuses) }
}

/// An input whose body is refused.
pub(crate) fn broken(statuses: &'static [u16], sent: impl AsRef<str>) -> Case {
    Case { sent: wire(sent.as_ref()), want: Want::Broken(statuses) }
}

/// An input that a server gets.
pub(crate) fn served(sent: impl AsRef<str>, sees: &[&'static str], never: &[&'static str]) -> Case {
    Case { sent: wire(sent.as_ref()), want: Want::Served { sees: sees.to_vec(), never: never.to_vec() } }
}

/// The bytes of a text: U+0080 to U+00FF stand for one byte each.
pub(crate) fn wire(text: &str) -> Vec<u8> {
    text.chars().map(|it| u8::try_from(u32::from(it)).expect("a text stands for bytes up to 0xff")).collect()
}

/// A cluster before a recording server, with time-outs for these tests.
pub(crate) async fn recorded() -> (Cluster, Recorder) {
    let (recorder, backend) = Recorder::start();
    let cluster = Cluster::start_with([backend], |config| {
        let web = &mut config.clusters[1].servers[0];
        web.request_header_timeout = GIVE_UP;
        web.keepalive_timeout = GIVE_UP;
        web.socket_timeout = GIVE_UP;
    })
    .await;
    (cluster, recorder)
}

/// Tries all cases of a row, each in one piece and in several, and fails with all that were not met.
pub(crate) async fn check(row: Row) {
    let (cluster, recorder) = recorded().await;
    let mut failures = Vec::new();
    for case in &row.cases {
        for pieces in [1, 3] {
            if let Err(why) = check_case(&cluster, &recorder, case, pieces).await {
                failures.push(format!("{} in {pieces}: {why}", page::shown(&case.sent)));
            }
        }
    }
    let count = row.cases.len() * 2;
    assert!(failures.is_empty(), "{}: {} of {count}:\n{}", row.title, failures.len(), failures.join("\n"));
}

async fn check_case(
    cluster: &Cluster,
    recorder: &Recorder,
    case: &Case,
    pieces: usize,
) -> Result<(), String> {
    recorder.forget();
    let outcome = match &case.want {
        Want::Refused(statuses) | Want::Broken(statuses) => {
            let mut sent = case.sent.clone();
            sent.extend_from_slice(SMUGGLED.as_bytes());
            let text = exchange(cluster, &sent, pieces).await?;
            Answers::read_refusal(&text).and_then(|answers| answers.one_refusal(statuses))
        }
        Want::Served { sees, never } => check_served(cluster, recorder, case, pieces, sees, never).await,
    };
    let seen = match &case.want {
        Want::Refused(_) => recorder.untouched(),
        Want::Broken(_) => recorder.no_request(),
        Want::Served { .. } => Ok(()),
    };
    let healthy = sentinel(cluster).await;
    outcome.and(seen).and(healthy)
}

/// Sends `bytes` in some pieces, and reads to the end of the connection.
pub(crate) async fn exchange(cluster: &Cluster, bytes: &[u8], pieces: usize) -> Result<Vec<u8>, String> {
    let client = cluster.client().await;
    client.0.set_nodelay(true).map_err(|cause| cause.to_string())?;
    let (mut from, mut to) = client.0.into_split();
    let piece = bytes.len().div_ceil(pieces);
    let send = async {
        for part in bytes.chunks(piece) {
            // It may have been refused by now.
            if to.write_all(part).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    let receive = async {
        let mut text = Vec::new();
        // A reset ends it as well.
        let _ = from.read_to_end(&mut text).await;
        text
    };
    let both = async { tokio::join!(receive, send).0 };
    timeout(PATIENCE, both).await.map_err(|_| "the connection does not end".to_owned())
}

/// The case is answered by the server, and so is the next request.
async fn check_served(
    cluster: &Cluster,
    recorder: &Recorder,
    case: &Case,
    pieces: usize,
    sees: &[&str],
    never: &[&str],
) -> Result<(), String> {
    let mut sent = case.sent.clone();
    sent.extend_from_slice(b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let text = exchange(cluster, &sent, pieces).await?;
    let statuses = Answers::read(&text, false)?.statuses();
    if statuses != [200, 200] {
        return Err(format!("answered {statuses:?}: {}", String::from_utf8_lossy(&text)));
    }
    let requests = recorder.requests();
    let [first, last] = &requests[..] else {
        return Err(format!("the server saw {} requests: {requests:?}", requests.len()));
    };
    if !last.starts_with("get /last ") {
        return Err(format!("the server saw in place of the next request {last}"));
    }
    for line in sees {
        if !first.lines().any(|it| it == *line) {
            return Err(format!("the server did not see {line:?} but {first}"));
        }
    }
    match never.iter().find(|word| first.contains(**word)) {
        Some(word) => Err(format!("the server saw {word:?}: {first}")),
        None => Ok(()),
    }
}

/// Another client's request gets its own answer.
pub(crate) async fn sentinel(cluster: &Cluster) -> Result<(), String> {
    let answer = Client::connect(cluster.address()).await.ask("GET /sentinel", "").await;
    match (answer.status, answer.body.as_str()) {
        (200, "/sentinel") => Ok(()),
        (status, body) => Err(format!("afterwards another client is answered {status} {body:?}")),
    }
}
