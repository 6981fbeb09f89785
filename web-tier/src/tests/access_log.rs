//! What the access log says of requests of every fate.

use super::{
    backend::{echo, raw, says},
    cluster::Cluster,
};
use common::config::{AccessLog, AccessLogFormat, LogFormat, Syslog, SyslogAddress};
use proto::hub::v1::MemberState;
use serde_json::Value;
use std::{fs, path::PathBuf, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);

struct Logged {
    cluster: Cluster,
    folder: TempDir,
}

impl Logged {
    async fn start(backends: impl IntoIterator<Item = super::backend::OnConnection>) -> Self {
        Self::start_with(backends, |_| {}).await
    }

    async fn start_with(
        backends: impl IntoIterator<Item = super::backend::OnConnection>,
        change: impl FnOnce(&mut common::config::Config),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("${server.id}.log");
        let cluster = Cluster::start_with(backends, |config| {
            config.clusters[1].access_log = Some(AccessLog::to_file(path, AccessLogFormat::Json));
            change(config);
        });
        Self { cluster: cluster.await, folder }
    }

    /// Stops, and reads the lines.
    async fn lines(self) -> Vec<Value> {
        self.lines_after(PATIENCE).await
    }

    /// The same, with so much time for what is in flight.
    async fn lines_after(self, wait: Duration) -> Vec<Value> {
        assert_eq!(self.cluster.web.totals().log_lines_lost, 0);
        self.cluster.web.stop(wait).await;
        let text = fs::read_to_string(self.folder.path().join("web-a.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }
}

/// The values of some keys of a line.
fn values<'a>(line: &'a Value, keys: &[&str]) -> Vec<&'a str> {
    keys.iter().map(|key| line[key].as_str().unwrap_or_else(|| panic!("{key}: {line}"))).collect()
}

#[tokio::test]
async fn an_answered_request() {
    let logged = Logged::start([echo("a")]).await;
    let mut client = logged.cluster.client().await;
    let first = client.ask("GET /./x?y", "User-Agent: me\r\nReferer: there\r\nConnection: referer\r\n").await;
    client.send("HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    assert_eq!(first.status, 200);
    assert!(client.rest().await.starts_with("HTTP/1.1 200 "));
    let seen = |name: &str| {
        let line = first.body.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("{name}: {}", first.body)).to_owned()
    };
    let lines = logged.lines().await;
    assert_eq!(lines.len(), 2);
    let keys = ["client", "method", "target", "version", "host", "end", "server", "referer", "user-agent"];
    let expected = ["127.0.0.1", "GET", "/./x?y", "1.1", "shop.example", "complete", "app-a", "there", "me"];
    assert_eq!(values(&lines[0], &keys), expected, "as the client sent it");
    assert_eq!((&lines[0]["status"], &lines[0]["tries"]), (&200.into(), &1.into()));
    assert_eq!(lines[0]["bytes"], first.body.len());
    assert_eq!(lines[0]["request-id"], seen("x-request-id"));
    assert_eq!(lines[0]["trace-id"], seen("traceparent")[3..35]);
    assert!(lines[0]["duration-us"].as_u64() >= lines[0]["answer-us"].as_u64(), "{}", lines[0]);
    assert_eq!((&lines[1]["method"], &lines[1]["bytes"]), (&"HEAD".into(), &0.into()));
    assert_ne!(lines[0]["request-id"], lines[1]["request-id"]);
    assert!(lines[1].get("referer").is_none(), "of the request before");
}

#[tokio::test]
async fn bodies_of_every_framing_are_counted() {
    let exact = says("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\n12345");
    let until_close = says("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n12345");
    let interim =
        says("HTTP/1.1 103 Early\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let request = |version: &str| format!("GET / HTTP/{version}\r\nHost: h\r\nConnection: close\r\n\r\n");
    for (backend, version, bytes) in
        [(exact, "1.1", 5), (until_close.clone(), "1.0", 5), (until_close, "1.1", 15), (interim, "1.1", 2)]
    {
        let logged = Logged::start([backend]).await;
        let mut client = logged.cluster.client().await;
        client.send(&request(version)).await;
        client.rest().await;
        let lines = logged.lines().await;
        assert_eq!(lines[0]["bytes"], bytes, "{}", lines[0]);
        assert_eq!(lines[0]["end"], "complete");
    }
}

#[tokio::test]
async fn refusals_and_what_could_not_be_read() {
    let logged = Logged::start([]).await;
    for request in
        ["GET /x HTTP/1.1\r\nHost: h\r\n\r\n", "\"\x16 oops\r\n\r\n", "TRACE / HTTP/1.1\r\nHost: h\r\n\r\n"]
    {
        let mut client = logged.cluster.client().await;
        client.send(request).await;
        client.answer().await;
    }
    let lines = logged.lines().await;
    let why: Vec<_> = lines.iter().map(|it| it["why"].as_str().unwrap_or_default()).collect();
    assert_eq!(why[0], "no server can take the request now");
    assert!(why.iter().all(|it| !it.is_empty()), "{lines:?}");
    let shown: Vec<_> =
        lines.iter().map(|it| (it["status"].as_u64().unwrap(), it["tries"].as_u64())).collect();
    assert_eq!(shown, [(503, Some(0)), (400, Some(0)), (405, Some(0))]);
    assert_eq!((&lines[0]["target"], &lines[1]["unread"]), (&"/x".into(), &"\"\u{16} oops".into()));
    assert!(lines.iter().all(|it| it["end"] == "complete" && it["bytes"].as_u64() > Some(10)), "{lines:?}");
    assert!(lines[1].get("method").is_none() && lines[1].get("host").is_none(), "of the request before");
}

#[tokio::test]
async fn a_retry_names_the_server_that_answered() {
    let mut logged = Logged::start([echo("a"), echo("b")]).await;
    logged.cluster.kill(0).await;
    let answer = logged.cluster.ask("GET /", "Cookie: JSESSIONID=aaX\r\n").await;
    assert_eq!(answer.status, 200);
    let lines = logged.lines().await;
    assert_eq!((&lines[0]["server"], &lines[0]["tries"]), (&"app-b".into(), &2.into()));
}

#[tokio::test]
async fn clients_that_go_away() {
    for words in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"] {
        let (asked, mut was_asked) = mpsc::unbounded_channel();
        let backend = raw(move |_, mut stream| {
            let asked = asked.clone();
            async move {
                let _ = stream.write_all(words.as_bytes()).await;
                asked.send(None).unwrap();
                asked.send(stream.read_u8().await.err()).unwrap();
            }
        });
        let logged = Logged::start([backend]).await;
        let mut client = logged.cluster.client().await;
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert!(was_asked.recv().await.unwrap().is_none());
        let mut start = Vec::new();
        while !words.is_empty() && !start.ends_with(b"half") {
            start.push(client.0.read_u8().await.unwrap());
        }
        client.reset();
        assert!(was_asked.recv().await.unwrap().is_some(), "the server's socket is closed");
        let lines = logged.lines().await;
        let (status, bytes) = if words.is_empty() { (499, 0) } else { (200, 4) };
        assert_eq!(
            (&lines[0]["status"], &lines[0]["bytes"]),
            (&status.into(), &bytes.into()),
            "{}",
            lines[0]
        );
        assert_eq!(lines[0]["end"], "client-gone");
    }
}

#[tokio::test]
async fn answers_that_break_off() {
    let logged = Logged::start([says("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")]).await;
    let mut client = logged.cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    client.rest().await;
    let lines = logged.lines().await;
    assert_eq!((&lines[0]["end"], &lines[0]["status"]), (&"server-broke".into(), &200.into()));
    assert_eq!(lines[0]["why"], "the server broke off in the middle of its answer");
}

#[tokio::test]
async fn a_format_of_ones_own_a_sample_and_a_log_of_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = r#"$status $host "$header{accept}" $server $why"#;
    let format = AccessLogFormat::Own(LogFormat::parse(text).unwrap().into());
    let log = AccessLog {
        sampled_ppm: 0,
        slow: Duration::from_secs(3600),
        errors: Some(path("${server.id}-errors")),
        ..AccessLog::to_file(path("log"), format)
    };
    let backends = [says("HTTP/1.1 500 Oh\r\ncontent-length: 2\r\n\r\nno")];
    let cluster = Cluster::start_with(backends, |config| config.clusters[1].access_log = Some(log)).await;
    let mut client = cluster.client().await;
    assert_eq!(client.ask("GET /", "Accept: a b\r\n").await.status, 500);
    assert_eq!(client.ask("GET /a/../../b", "").await.status, 400);
    cluster.web.stop(PATIENCE).await;
    let lines = fs::read_to_string(path("log")).unwrap();
    assert_eq!(
        lines, "500 shop.example \"a b\" app-a the\\x20server\\x20answers\\x20so\n",
        "a 400 is not chosen"
    );
    let errors = fs::read_to_string(path("web-a-errors")).unwrap();
    let errors: Vec<Value> = errors.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let seen: Vec<_> = errors.iter().map(|it| it["status"].as_u64().unwrap()).collect();
    assert_eq!((seen, &errors[0]["why"]), (vec![500, 400], &"the server answers so".into()));
}

#[tokio::test]
async fn a_syslog_server_gets_the_lines_too() {
    let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = SyslogAddress::Udp("127.0.0.1".to_owned(), server.local_addr().unwrap().port());
    let logged = Logged::start_with([echo("a")], |config| {
        let log = config.clusters[1].access_log.as_mut().unwrap();
        log.syslog = Some(Syslog { address, facility: 16, app_name: "${server.id}".to_owned() });
    })
    .await;
    assert_eq!(logged.cluster.ask("GET /x", "").await.status, 200);
    let lines = logged.lines().await;
    let mut buffer = [0; 8192];
    let length = server.recv(&mut buffer).unwrap();
    let message = str::from_utf8(&buffer[..length]).unwrap();
    let (head, line) = message.split_once(" access - ").unwrap();
    assert!(head.starts_with("<134>1 ") && head.contains(" web-a "), "{message}");
    assert_eq!(serde_json::from_str::<Value>(line).unwrap(), lines[0]);
}

#[tokio::test]
async fn what_a_stop_cuts() {
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let silent = raw(move |_, mut stream| {
        asked.send(()).unwrap();
        async move {
            let _ = stream.read_u8().await;
        }
    });
    let logged = Logged::start([silent]).await;
    let mut client = logged.cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    was_asked.recv().await.unwrap();
    let lines = logged.lines_after(Duration::from_millis(50)).await;
    assert_eq!((&lines[0]["end"], &lines[0]["status"]), (&"cut".into(), &499.into()), "{lines:?}");
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn what_a_time_out_cuts() {
    let silent = raw(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        let _ = stream.read_u8().await;
    });
    let logged = Logged::start_with([silent], |config| {
        config.clusters[0].servers[0].balance_socket_timeout = Duration::from_millis(100);
    })
    .await;
    let mut client = logged.cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    client.rest().await;
    let lines = logged.lines().await;
    assert_eq!((&lines[0]["end"], &lines[0]["bytes"]), (&"cut".into(), &4.into()), "{}", lines[0]);
}

#[tokio::test]
async fn an_upload_over_http_2_that_stalls() {
    let logged = Logged::start_with([echo("a")], |config| {
        config.clusters[1].servers[0].http[0].h2c = true;
        config.clusters[1].servers[0].socket_timeout = Duration::from_millis(300);
    })
    .await;
    let mut client = super::http2::client(&logged.cluster).await;
    let request = http::Request::post("http://shop.example/up;jsessionid=aaX").body(()).unwrap();
    let (response, mut send) = client.send_request(request, false).unwrap();
    send.send_data("half".into(), false).unwrap();
    assert_eq!(timeout(PATIENCE, response).await.unwrap().unwrap().status(), 408);
    let lines = logged.lines().await;
    assert_eq!((&lines[0]["status"], &lines[0]["end"]), (&408.into(), &"cut".into()), "{}", lines[0]);
    assert_eq!(lines[0]["target"], "/up;jsessionid=***");
}

#[tokio::test]
async fn a_tunnel_is_one_request() {
    let upgrade = raw(|_, mut stream| async move {
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhello";
        let _ = stream.write_all(answer).await;
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
    });
    let logged = Logged::start([upgrade]).await;
    let mut client = logged.cluster.client().await;
    client.send("GET /ws HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await;
    let mut start = Vec::new();
    while !start.ends_with(b"hello") {
        start.push(client.0.read_u8().await.unwrap());
    }
    client.0.shutdown().await.unwrap();
    client.rest().await;
    let lines = logged.lines().await;
    assert_eq!((&lines[0]["status"], &lines[0]["bytes"]), (&101.into(), &5.into()), "{}", lines[0]);
    assert_eq!(lines[0]["end"], "complete");
}

#[tokio::test]
async fn a_server_that_goes_down_in_an_answer_is_told() {
    let half = raw(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        let _ = stream.read_u8().await;
    });
    let logged = Logged::start([half]).await;
    let mut client = logged.cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut start = Vec::new();
    while !start.ends_with(b"half") {
        start.push(client.0.read_u8().await.unwrap());
    }
    logged.cluster.member(0, MemberState::Down, 1);
    client.rest().await;
    assert_eq!(logged.lines().await[0]["end"], "server-broke");
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_client_is_whom_it_names() {
    let logged = Logged::start_with([echo("a")], |config| {
        config.clusters[1].trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let mut client = logged.cluster.client().await;
    let seen = client.ask("GET /", "X-Forwarded-For: 192.0.2.9\r\nX-Request-Id: edge-7\r\n").await.body;
    assert!(seen.lines().any(|line| line == "x-request-id: edge-7"), "{seen}");
    let seen = client.ask("GET /", "X-Request-Id: a b\r\n").await.body;
    assert!(!seen.contains("a b"), "{seen}");
    let lines = logged.lines().await;
    assert_eq!(values(&lines[0], &["client", "request-id"]), ["192.0.2.9", "edge-7"]);
    assert_eq!(values(&lines[1], &["client"]), ["127.0.0.1"]);
    assert_eq!(lines[1]["request-id"].as_str().map(str::len), Some(32));
}

#[tokio::test]
async fn streams_of_http_2_are_requests() {
    // A reset may overtake what was sent before it.
    let (gate, opened) = mpsc::unbounded_channel();
    let opened = Arc::new(tokio::sync::Mutex::new(opened));
    let half = raw(move |_, mut stream| {
        let opened = opened.clone();
        async move {
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
            opened.lock().await.recv().await.unwrap();
        }
    });
    for (backend, end) in [(echo("a"), "complete"), (half, "server-broke")] {
        let logged = Logged::start_with([backend], |it| it.clusters[1].servers[0].http[0].h2c = true).await;
        let stream = TcpStream::connect(logged.cluster.address()).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let request = http::Request::get("http://shop.example/x").header("user-agent", "me").body(());
        let (response, _) = client.send_request(request.unwrap(), true).unwrap();
        let mut body = timeout(PATIENCE, response).await.unwrap().unwrap().into_body();
        let mut bytes = 0;
        while let Some(Ok(data)) = body.data().await {
            bytes += data.len();
            if end == "server-broke" {
                gate.send(()).unwrap();
            }
            body.flow_control().release_capacity(data.len()).unwrap();
        }
        drop((client, body));
        let _ = timeout(PATIENCE, connection).await.unwrap();
        let lines = logged.lines().await;
        let keys = ["version", "method", "target", "host", "user-agent", "end", "server"];
        assert_eq!(values(&lines[0], &keys), ["2.0", "GET", "/x", "shop.example", "me", end, "app-a"]);
        assert_eq!((lines.len(), &lines[0]["bytes"]), (1, &bytes.into()), "{lines:?}");
    }
}
