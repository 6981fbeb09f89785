//! Deployments, rollbacks, restarts and a server that is killed, under load: no request fails, no count goes back, and what is open
//! stays open.

use super::{Deploying, Version, python};
use crate::{
    client::{User, connect},
    cluster::{PATIENCE, copal},
    tell::tell,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response,
    body::Incoming,
    header::{COOKIE, HOST},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

/// Requests at least, unless `COPAL_IT_REQUESTS` says how many: CONTRIBUTING.md has the long form.
const REQUESTS: u64 = 1000;

/// The slow download, in bytes: far more than lies on the way.
const DOWNLOAD: u64 = 64 << 20;

/// Its pieces, each of which says all along where it begins.
const PIECE: u64 = 64 << 10;

/// How fast it is read, in bytes a millisecond: it would take a quarter of an hour.
const RATE: u64 = 64;

/// Requests to the other app between two counts: those cost a tenth.
const LOOKS: u64 = 8;

/// What was asked, and what did not go well.
#[derive(Debug, Default)]
struct Seen {
    requests: AtomicU64,
    /// Safe requests that counted twice: sent again, as their server died with them.
    twice: AtomicU64,
    failures: std::sync::Mutex<Vec<String>>,
}

impl Seen {
    fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn failed(&self, what: String) {
        self.failures.lock().unwrap().push(what);
    }

    /// Nothing has failed.
    fn is_content(&self) {
        let failures = self.failures.lock().unwrap();
        assert!(failures.is_empty(), "{} of {} failed: {failures:#?}", failures.len(), self.requests());
    }
}

/// Counts in its session, each time on a new connection, and looks at the other app on one that lasts, until told to stop.
async fn visits(mut user: User, web: String, method: Method, stop: Arc<AtomicBool>, seen: Arc<Seen>) {
    let (mut last, mut connection) = (0, connect(&web).await);
    while !stop.load(Ordering::Relaxed) {
        match user.request(method.clone(), "/count").await {
            Ok(answer) if answer.status == 200 => {
                let (count, server) = answer.count();
                let twice = count == last + 2 && method == Method::GET;
                if count != last + 1 && !twice {
                    seen.failed(format!("{method} /count: {count} after {last} on {server}"));
                }
                seen.twice.fetch_add(twice.into(), Ordering::Relaxed);
                last = count;
            }
            other => seen.failed(format!("{method} /count after {last}: {other:?}")),
        }
        for _ in 0..LOOKS {
            // The server may end a connection, with an answer that says so.
            if connection.ready().await.is_err() {
                connection = connect(&web).await;
            }
            let cookie = user.cookie.as_deref().unwrap();
            let request = Request::get("/shop/").header(HOST, &web).header(COOKIE, cookie);
            let looked = look(connection.send_request(request.body(Full::default()).unwrap())).await;
            match looked {
                Ok((200, body)) if body.contains(" on app-") => {}
                other => seen.failed(format!("GET /shop/: {other:?}")),
            }
        }
        seen.requests.fetch_add(1 + LOOKS, Ordering::Relaxed);
    }
}

/// Status and body.
async fn look(
    sent: impl Future<Output = hyper::Result<Response<Incoming>>>,
) -> Result<(u16, String), hyper::Error> {
    let answered = async {
        let answer = sent.await?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    timeout(PATIENCE, answered).await.expect("an answer comes, or an error")
}

/// A WebSocket to the app, at home on `app-a`.
pub(super) async fn open_socket(web: &str) -> TcpStream {
    let mut stream = TcpStream::connect(web).await.unwrap();
    let head = format!(
        "GET /shop/echo HTTP/1.1\r\nHost: {web}\r\nCookie: JSESSIONID=aaUserNumber000000000099\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 101") && answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{answer}"
    );
    stream
}

/// What is said comes back.
pub(super) async fn echoes(socket: &mut TcpStream, words: &str) {
    socket.write_all(words.as_bytes()).await.unwrap();
    let mut back = vec![0; words.len()];
    timeout(PATIENCE, socket.read_exact(&mut back)).await.expect("the socket is open").unwrap();
    assert_eq!(back, words.as_bytes());
}

/// A download that goes on.
struct Download {
    begun: Instant,
    hurry: Arc<AtomicBool>,
    reading: JoinHandle<()>,
}

impl Download {
    /// Begins it, with the first bytes received.
    async fn begin(web: String) -> Self {
        let request = Request::get(format!("/shop/bytes?{DOWNLOAD}")).header(HOST, &web);
        let request =
            request.header(COOKIE, "JSESSIONID=aaUserNumber000000000098").body(Full::<Bytes>::default());
        let answer = connect(&web).await.send_request(request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        let hurry = Arc::new(AtomicBool::new(false));
        let reading = tokio::spawn(read(answer.into_body(), hurry.clone()));
        Self { begun: Instant::now(), hurry, reading }
    }

    /// Reads the rest of it; how long it has been open until then.
    async fn ends_well(self) -> Duration {
        assert!(!self.reading.is_finished(), "it is still open");
        let open = self.begun.elapsed();
        self.hurry.store(true, Ordering::Relaxed);
        timeout(PATIENCE, self.reading).await.expect("it ends").unwrap();
        open
    }
}

/// Reads slowly until told to hurry, and compares each byte.
async fn read(mut body: Incoming, hurry: Arc<AtomicBool>) {
    let (mut at, mut piece) = (0, Vec::new());
    while let Some(frame) = timeout(PATIENCE, body.frame()).await.expect("it goes on") {
        let data = frame.expect("it does not break").into_data().unwrap_or_default();
        let mut rest = &data[..];
        while !rest.is_empty() {
            let within = usize::try_from(at % PIECE).unwrap();
            if within == 0 {
                piece = at.to_be_bytes().repeat(usize::try_from(PIECE / 8).unwrap());
            }
            let (now, later) = rest.split_at(rest.len().min(piece.len() - within));
            assert!(now == &piece[within..within + now.len()], "other bytes behind {at}");
            at += now.len() as u64;
            rest = later;
        }
        let pause = Instant::now() + Duration::from_millis(data.len() as u64 / RATE);
        while Instant::now() < pause && !hurry.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(at, DOWNLOAD);
}

/// A version of the counter, at `/`.
fn counter(deploying: &Deploying, version: &str) -> Version {
    let yaml = format!(
        "command: [{}, demo-app]\nhealth: {{path: /healthz, interval: 1s, start-timeout: 30s}}\n",
        copal().display()
    );
    deploying.files(&format!("counter-{version}"), &[("app.yaml", &yaml), ("version", version)])
}

/// Users at home on each server who read, and such who write on those that are not killed.
fn users(deploying: &Deploying, stop: &Arc<AtomicBool>, seen: &Arc<Seen>) -> JoinSet<()> {
    let mut visitors = JoinSet::new();
    let readers = [0, 1, 2, 0, 1, 2].map(|home| (home, Method::GET));
    for (name, (home, method)) in
        readers.into_iter().chain([(0, Method::POST), (1, Method::POST)]).enumerate()
    {
        let user = deploying.cluster.user_of(home, name);
        visitors.spawn(visits(user, deploying.cluster.web(), method, stop.clone(), seen.clone()));
    }
    visitors
}

/// Each of the ways to another version once; with the socket alive behind each.
async fn change(deploying: &Deploying, round: u64, socket: &mut TcpStream, seen: &Seen) {
    let python = python().unwrap();
    let version = round.to_string();
    deploying.deploy(&counter(deploying, &version), "--name ROOT").await;
    deploying.deploy(&deploying.app(python, &version, ""), "--rolling").await;
    for verb in ["rollback shop", "restart ROOT", "restart shop", "rollback ROOT"] {
        let said = deploying.tool(verb).await;
        assert_eq!(said.code, Some(0), "{verb}: {said:?}");
        echoes(socket, verb).await;
        seen.is_content();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_whatever_is_deployed_and_whoever_is_killed() {
    let Some(python) = python() else { return };
    let mut deploying = Deploying::start_with(3, |it| {
        // A machine that is busy with other tests has a slow hub, which is none that is lost.
        it.host.push("web-app-default: {confine: off, session-config: {save-timeout: 20s}}".into());
    })
    .await;
    deploying.deploy(&counter(&deploying, "0"), "--name ROOT").await;
    deploying.deploy(&deploying.app(python, "0", ""), "").await;
    let mut socket = open_socket(&deploying.cluster.web()).await;
    echoes(&mut socket, "begun").await;
    let download = Download::begin(deploying.cluster.web()).await;
    let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
    let visitors = users(&deploying, &stop, &seen);
    let wanted = std::env::var("COPAL_IT_REQUESTS").ok().map_or(REQUESTS, |it| it.parse().unwrap());
    let mut rounds = 0;
    while rounds == 0 || seen.requests() < wanted {
        rounds += 1;
        change(&deploying, rounds, &mut socket, &seen).await;
        if rounds == 1 {
            deploying.cluster.kill("app-c").await;
            deploying.deploy(&deploying.app(python, "without-c", ""), "").await;
            deploying.cluster.start_one("app-c").await;
            seen.is_content();
        }
    }
    stop.store(true, Ordering::Relaxed);
    timeout(PATIENCE, visitors.join_all()).await.expect("the last answers come");
    echoes(&mut socket, "to the end").await;
    let open = download.ends_well().await;
    seen.is_content();
    let twice = seen.twice.load(Ordering::Relaxed);
    assert!(
        twice <= 2,
        "{twice} requests counted twice: more than there are users of the server that was killed"
    );
    tell(&format!(
        "{} requests and {rounds} rounds of deployments in {open:.1?}, with a socket and a download open: none failed, {twice} counted twice",
        seen.requests()
    ));
    deploying.repositories_are_clean();
}
