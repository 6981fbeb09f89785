//! `http-proxy` before backends behind Unix sockets: as others are, pooled, checked, balanced and failed over.

use super::{
    backend::{OnConnection, echo, echo2, http, raw},
    client::Answer,
    cluster::Cluster,
    foreign::{inserted, proxy, put, until, until_async},
};
use bytes::Bytes;
use cluster_port::Stream;
use common::config::{Backend, BackendAddress, BackendProtocol, HealthCheck, HealthQuestion, HttpProxy};
use http_body_util::Full;
use hyper::Response;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
    task::{JoinHandle, JoinSet},
};

/// A server behind a Unix socket. Dropped, it hangs up on everybody, and its socket's file stays, as after `kill -9`.
struct Local {
    connections: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Local {
    fn start(path: &Path, on_connection: OnConnection) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let accepting = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tasks.spawn(on_connection(Stream::Local(stream)));
            }
        });
        Self { connections, accepting }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    async fn kill(self) {
        self.accepting.abort();
        let _ = self.accepting.await;
    }
}

/// Backends behind these sockets, each in its turn.
fn sockets(paths: &[&Path]) -> HttpProxy {
    let backend = |path: &&Path| Backend {
        at: BackendAddress::Socket(path.to_path_buf()),
        protocol: BackendProtocol::Http1,
        tls: false,
        backup: false,
        weight: 100,
    };
    HttpProxy { backends: paths.iter().map(backend).collect(), ..proxy(&[]) }
}

async fn before(proxy: HttpProxy) -> Cluster {
    Cluster::start_with([], |config| put(config, proxy)).await
}

fn by(answer: &Answer) -> &str {
    assert_eq!(answer.status, 200, "{}", answer.head);
    answer.body.lines().next().unwrap()
}

#[tokio::test]
async fn requests_take_turns_on_sockets_that_are_used_again_and_say_the_clients_host() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a.sock", "b.sock"].map(|name| folder.path().join(name));
    let (one, two) = (Local::start(&paths[0], echo("one")), Local::start(&paths[1], echo("two")));
    let cluster = before(sockets(&[&paths[0], &paths[1]])).await;
    let mut client = cluster.client().await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        let answer = client.ask("POST /a?b", "Content-Length: 2\r\n\r\nhi").await;
        seen.push(by(&answer).to_owned());
        assert!(answer.body.contains("\nhost: shop.example\n"), "{}", answer.body);
        assert!(answer.body.contains("\nx-forwarded-for: 127.0.0.1\n") && answer.body.ends_with("hi"));
    }
    assert_eq!(seen.iter().filter(|it| *it == "one").count(), 3, "{seen:?}");
    assert_eq!((one.connections(), two.connections()), (1, 1), "each socket has served three requests");
    let health = cluster.web.health();
    let named: Vec<_> = health.iter().map(|it| (it.backend.clone(), it.addresses.len())).collect();
    assert_eq!(named, paths.map(|path| (format!("unix:{}", path.display()), 0)));
}

#[tokio::test]
async fn one_that_goes_costs_no_client_an_answer_and_is_used_again_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a.sock", "b.sock"].map(|name| folder.path().join(name));
    let one = Local::start(&paths[0], echo("one"));
    let _two = Local::start(&paths[1], echo("two"));
    let check = HealthCheck {
        question: HealthQuestion::get("/"),
        port: None,
        interval: Duration::from_millis(50),
        timeout: Duration::from_millis(50),
        rise: 1,
        fall: 1,
    };
    let cluster = before(HttpProxy { health_check: Some(check), ..sockets(&[&paths[0], &paths[1]]) }).await;
    let is_up = |index: usize| cluster.web.health()[index].up;
    let checked = |index: usize| cluster.web.health()[index].last.is_some();
    until(|| checked(0) && checked(1) && is_up(0)).await;
    one.kill().await;
    let mut client = cluster.client().await;
    for _ in 0..4 {
        assert_eq!(by(&client.ask("GET /", "").await), "two");
    }
    until(|| !is_up(0)).await;
    let why = cluster.web.health()[0].last.clone().unwrap().result.unwrap_err();
    let expected = format!("no connection: unix:{}: Connection refused", paths[0].display());
    assert!(why.starts_with(&expected), "{why}");
    std::fs::remove_file(&paths[0]).unwrap();
    until(|| {
        let last = cluster.web.health()[0].last.clone();
        last.is_some_and(|it| it.result.is_err_and(|why| why.contains("No such file or directory")))
    })
    .await;
    let _one = Local::start(&paths[0], echo("one again"));
    until_async(async || by(&cluster.ask("GET /", "").await) == "one again").await;
}

#[tokio::test]
async fn clients_stay_with_theirs_by_a_cookie() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a.sock", "b.sock"].map(|name| folder.path().join(name));
    let _one = Local::start(&paths[0], echo("one"));
    let _two = Local::start(&paths[1], echo("two"));
    let cluster = before(HttpProxy { cookie: inserted("SRV"), ..sockets(&[&paths[0], &paths[1]]) }).await;
    let answer = cluster.ask("GET /", "").await;
    let cookie = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    assert!(!cookie.contains("sock"), "{cookie}");
    for _ in 0..4 {
        assert_eq!(by(&cluster.ask("GET /", &cookie).await), by(&answer));
    }
}

#[tokio::test]
async fn http_2_is_spoken_where_the_address_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grpc.sock");
    let server = Local::start(&path, echo2("two"));
    let mut rule = sockets(&[&path]);
    rule.backends[0].protocol = BackendProtocol::Http2;
    let cluster = before(rule).await;
    for _ in 0..3 {
        let answer = cluster.ask("POST /x", "Content-Length: 2\r\n\r\nhi").await;
        assert_eq!(by(&answer), "two");
        assert!(answer.body.contains("http://shop.example/x"), "{}", answer.body);
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn upgrades_and_a_body_of_some_length_pass() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ws.sock");
    let _server = Local::start(
        &path,
        raw(|_, mut stream| async move {
            let head = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
            stream.write_all(head).await.unwrap();
            let mut bytes = [0; 4];
            stream.read_exact(&mut bytes).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }),
    );
    let cluster = before(sockets(&[&path])).await;
    let mut client = cluster.client().await;
    assert_eq!(client.ask("GET /", "Connection: upgrade\r\nUpgrade: echo\r\n").await.status, 101);
    client.send("ping").await;
    assert_eq!(client.rest().await, "ping");

    let path = folder.path().join("long.sock");
    let long = http(|_| async { Response::new(Full::<Bytes>::from(vec![b'x'; 1 << 20])) });
    let _server = Local::start(&path, long);
    let cluster = before(sockets(&[&path])).await;
    assert_eq!(cluster.ask("GET /", "").await.body.len(), 1 << 20);
}

#[tokio::test]
async fn without_one_the_answer_is_503_and_says_nothing_of_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = before(sockets(&[&folder.path().join("nobody.sock")])).await;
    let answer = cluster.ask("GET /", "").await;
    assert_eq!(answer.status, 503);
    assert!(!answer.head.contains("sock") && !answer.body.contains("sock"), "{}", answer.body);
}
