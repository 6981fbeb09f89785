//! Listeners that come, go, and change while connections are open.

use super::{
    backend::{echo, gated, raw},
    client::Client,
    cluster::Cluster,
    http2,
    reload::file,
};
use common::config::{CertificateFiles, Config, FilePath, HttpListener, ListenerTls, Location, TlsVersion};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use std::{fs, net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const PATIENCE: Duration = Duration::from_secs(20);

fn http(config: &mut Config) -> &mut Vec<HttpListener> {
    &mut config.clusters[1].servers[0].http
}

type Change<'a> = &'a dyn Fn(&mut Config);

fn add(config: &mut Config) {
    http(config).push(HttpListener::plain("127.0.0.1", 0));
}

/// A cluster with two listeners and two workers.
async fn two(backends: impl IntoIterator<Item = super::backend::OnConnection>) -> (Cluster, SocketAddr) {
    let cluster = Cluster::start_with(backends, |config| {
        add(config);
        config.clusters[1].workers = NonZeroUsize::new(2);
    });
    let cluster = cluster.await;
    let second = cluster.web.addresses()[1];
    (cluster, second)
}

async fn reload(cluster: &mut Cluster, change: impl FnOnce(&mut Config)) -> String {
    let config = file(cluster, change);
    cluster.web.reload(config).await.unwrap().to_string()
}

#[tokio::test]
async fn a_new_listener_serves_beside_the_old_one_and_ends_with_the_next_file() {
    let mut cluster = Cluster::start([echo("a")]).await;
    let mut open = cluster.client().await;
    assert_eq!(open.ask("GET /", "").await.status, 200);
    let old = cluster.address();
    let said = reload(&mut cluster, add).await;
    let new = cluster.web.addresses()[1];
    assert_eq!((cluster.address(), said), (old, format!("listeners added http://{new}")));
    assert_eq!(Client::connect(new).await.ask("GET /new", "").await.status, 200);
    let answer = open.ask("GET /", "").await;
    assert!(answer.status == 200 && !answer.has("connection: close"), "{}", answer.head);
    assert_eq!(reload(&mut cluster, |_| {}).await, format!("listeners removed http://{new}"));
    assert!(TcpStream::connect(new).await.is_err());
    assert_eq!(cluster.web.addresses(), [old]);
    let answer = open.ask("GET /", "").await;
    assert!(answer.status == 200 && !answer.has("connection: close"), "another listener: {}", answer.head);
    assert_eq!(
        reload(&mut cluster, |config| http(config).clear()).await,
        format!("listeners removed http://{old}")
    );
    assert!(cluster.web.addresses().is_empty() && TcpStream::connect(old).await.is_err());
    assert!(open.ask("GET /", "").await.has("connection: close"));
    reload(&mut cluster, |_| {}).await;
    assert_eq!(cluster.ask("GET /", "").await.status, 200);
}

#[tokio::test]
async fn connections_of_a_listener_that_is_gone_end_after_a_request_and_none_is_cut() {
    let gate = Arc::new(Semaphore::new(0));
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let opened = gate.clone();
    let backend = raw(move |head, mut stream| {
        let (gate, asked) = (opened.clone(), asked.clone());
        async move {
            if head.starts_with("GET /slow") {
                asked.send(()).unwrap();
                gate.acquire().await.unwrap().forget();
            }
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")
                .await;
        }
    });
    let (mut cluster, gone) = two([backend]).await;
    let (mut busy, mut idle, mut silent) =
        (Client::connect(gone).await, Client::connect(gone).await, Client::connect(gone).await);
    assert!(!idle.ask("GET /", "").await.has("connection: close"));
    busy.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").await;
    was_asked.recv().await.unwrap();
    reload(&mut cluster, |_| {}).await;
    assert!(TcpStream::connect(gone).await.is_err());
    for client in [&mut idle, &mut silent] {
        let last = client.ask("GET /", "").await;
        assert!(last.status == 200 && last.has("connection: close"), "{}", last.head);
        assert_eq!(client.rest().await, "");
    }
    gate.add_permits(1);
    let last = busy.answer().await;
    assert!(last.status == 200 && last.body == "ok" && last.has("connection: close"), "{}", last.head);
    assert_eq!(busy.rest().await, "");
}

#[tokio::test]
async fn a_websocket_and_a_download_outlive_their_listener() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let backend = raw(move |head, mut stream| {
        let gate = opened.clone();
        async move {
            if head.starts_with("GET /file") {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf").await.unwrap();
                gate.acquire().await.unwrap().forget();
                stream.write_all(b"rest").await.unwrap();
                return;
            }
            let yes =
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            stream.write_all(yes).await.unwrap();
            let mut byte = [0];
            while stream.read(&mut byte).await.is_ok_and(|count| count > 0) {
                stream.write_all(&byte).await.unwrap();
            }
        }
    });
    let (mut cluster, gone) = two([backend]).await;
    let mut socket = Client::connect(gone).await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n";
    assert_eq!(socket.ask("GET /ws", upgrade).await.status, 101);
    let mut download = Client::connect(gone).await;
    download.send("GET /file HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    let mut begun = Vec::new();
    while !begun.ends_with(b"half") {
        begun.push(download.0.read_u8().await.unwrap());
    }
    reload(&mut cluster, |_| {}).await;
    assert!(TcpStream::connect(gone).await.is_err());
    gate.add_permits(1);
    assert_eq!(download.rest().await, "rest");
    for byte in b"more" {
        socket.0.write_u8(*byte).await.unwrap();
        assert_eq!(timeout(PATIENCE, socket.0.read_u8()).await.unwrap().unwrap(), *byte);
    }
}

#[tokio::test]
async fn a_client_of_http2_is_told_to_go_elsewhere_and_gets_its_answers() {
    let (backend, gate, mut was_asked) = gated();
    let h2c = |config: &mut Config| http(config)[0].h2c = true;
    let mut cluster = Cluster::start_with([backend], h2c).await;
    let (mut one, mut idle) = (http2::client(&cluster).await, http2::client(&cluster).await);
    let asking = tokio::spawn({
        let mut one = one.clone();
        async move { http2::ask(&mut one, http2::get("/").body(()).unwrap(), &[]).await }
    });
    was_asked.recv().await.unwrap();
    reload(&mut cluster, |config| http(config).clear()).await;
    // The client knows once it may ask no more.
    let refused = async {
        for client in [&mut one, &mut idle] {
            while std::future::poll_fn(|cx| client.poll_ready(cx)).await.is_ok() {
                tokio::task::yield_now().await;
            }
        }
    };
    timeout(PATIENCE, refused).await.expect("GOAWAY");
    gate.add_permits(1);
    assert_eq!(asking.await.unwrap().unwrap().1, "ok");
}

/// A certificate of its own authority, in a folder.
struct Certificate {
    folder: TempDir,
    der: CertificateDer<'static>,
}

impl Certificate {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["shop.example".to_owned()]).unwrap();
        fs::write(folder.path().join("cert.pem"), cert.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), signing_key.serialize_pem()).unwrap();
        Self { folder, der: cert.der().clone() }
    }

    fn tls(&self) -> ListenerTls {
        let path =
            |name: &str| FilePath { path: self.folder.path().join(name), location: Location::default() };
        ListenerTls::of(vec![CertificateFiles { cert: path("cert.pem"), key: path("key.pem") }])
    }

    async fn connect(&self, to: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let client = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(to).await.unwrap();
        TlsConnector::from(Arc::new(client)).connect("shop.example".try_into().unwrap(), stream).await
    }

    /// The head of the answer to one request over TLS.
    async fn ask(&self, stream: &mut TlsStream<TcpStream>) -> String {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let length =
            head.lines().find_map(|it| it.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        head
    }
}

#[tokio::test]
async fn tls_comes_to_an_address_changes_there_and_goes() {
    let mut cluster = Cluster::start([echo("a")]).await;
    let (one, two) = (Certificate::new(), Certificate::new());
    let address = cluster.address();
    let mut plain = cluster.client().await;
    assert_eq!(plain.ask("GET /", "").await.status, 200);
    let with = |it: &Certificate| {
        let tls = it.tls();
        move |config: &mut Config| http(config)[0].tls = Some(tls)
    };
    let said = reload(&mut cluster, with(&one)).await;
    assert_eq!((said, cluster.address()), (format!("listeners changed https://{address}"), address));
    assert!(plain.ask("GET /", "").await.has("connection: close"), "it came when there was no TLS");
    let mut first = one.connect(address).await.unwrap();
    assert!(one.ask(&mut first).await.starts_with("HTTP/1.1 200"));
    assert_eq!(reload(&mut cluster, with(&one)).await, "nothing has changed");

    assert!(reload(&mut cluster, with(&two)).await.starts_with("listeners changed"));
    assert!(one.connect(address).await.is_err() && two.connect(address).await.is_ok());
    let head = one.ask(&mut first).await;
    assert!(!head.contains("connection: close"), "only the certificate is another one: {head}");

    let mut second = two.connect(address).await.unwrap();
    let strict = ListenerTls { min_version: TlsVersion::Tls13, ..two.tls() };
    reload(&mut cluster, |config| http(config)[0].tls = Some(strict)).await;
    let head = two.ask(&mut second).await;
    assert!(head.contains("connection: close"), "who may come in has changed: {head}");
    reload(&mut cluster, |_| {}).await;
    assert_eq!(cluster.ask("GET /", "").await.status, 200);
    assert!(two.connect(address).await.is_err());
}

#[tokio::test]
async fn a_proxy_header_is_asked_of_new_connections() {
    let mut cluster = Cluster::start([echo("a")]).await;
    let mut before = cluster.client().await;
    assert_eq!(before.ask("GET /", "").await.status, 200);
    reload(&mut cluster, |config| {
        http(config)[0].proxy_protocol = true;
        config.clusters[1].trusted_proxies.push("127.0.0.0/8".parse().unwrap());
    })
    .await;
    assert_eq!(before.ask("GET /", "").await.status, 200, "it began without");
    let mut without = cluster.client().await;
    without.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(without.rest().await, "");
    let mut with = cluster.client().await;
    with.send("PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n").await;
    assert!(with.ask("GET /", "").await.body.contains("x-forwarded-for: 192.0.2.7"));
}

#[tokio::test]
async fn what_can_not_be_had_changes_nothing() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let mut cluster = Cluster::start([echo("a")]).await;
    // Of an address that no other test has.
    let [one, two]: [u8; 2] = rand::random();
    let ip = std::net::Ipv4Addr::new(127, 83, one, two);
    let free = std::net::TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap();
    let teapot = |config: &mut Config| {
        let error = common::config::SendError { code: 418, message: None };
        config.clusters[1].hosts[0].dispatch[0].action = common::config::Action::Error(error);
        http(config).push(HttpListener::plain(&ip.to_string(), free.port()));
    };
    let mut certificate = Certificate::new().tls();
    certificate.certificates[0].key.path = "/nowhere/key.pem".into();
    let tls = HttpListener { tls: Some(certificate), ..HttpListener::plain("127.0.0.1", 0) };
    let log =
        common::config::AccessLog::to_file("/dev/null/log".into(), common::config::AccessLogFormat::Json);
    let failing: [(Change<'_>, &str); 4] = [
        (
            &|config| http(config).push(HttpListener::plain("127.0.0.1", taken.port())),
            "the address is in use by another process",
        ),
        (&|config| http(config).push(HttpListener::plain("no.such.host.invalid", 80)), "can't resolve"),
        (&|config| http(config).push(tls.clone()), "/nowhere/key.pem: there is no such file"),
        (&|config| config.clusters[1].access_log = Some(log.clone()), "the access log /dev/null/log"),
    ];
    for (change, expected) in failing {
        let config = file(&cluster, |config| {
            teapot(config);
            change(config);
        });
        let error = cluster.web.reload(config).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}, not {expected}");
        assert_eq!(cluster.ask("GET /", "").await.status, 200);
        assert!(TcpStream::connect(free).await.is_err(), "{expected}: what was bound is free again");
    }
    reload(&mut cluster, teapot).await;
    assert_eq!(Client::connect(free).await.ask("GET /", "").await.status, 418);
}

#[tokio::test]
async fn a_listener_becomes_wider_and_narrower() {
    let mut cluster = Cluster::start([echo("a")]).await;
    let (address, port) = (cluster.address(), cluster.address().port());
    let mut open = cluster.client().await;
    assert_eq!(open.ask("GET /", "").await.status, 200);
    for ip in ["0.0.0.0", "127.0.0.1"] {
        let said = reload(&mut cluster, |config| {
            let http = http(config);
            (http[0].address, http[0].port) = (ip.to_owned(), port);
        })
        .await;
        assert!(
            said.starts_with(&format!("listeners added http://{ip}:{port}; listeners removed")),
            "{said}"
        );
        assert_eq!(Client::connect(address).await.ask("GET /", "").await.status, 200, "{ip}");
    }
    assert!(open.ask("GET /", "").await.has("connection: close"));
    let config = file(&cluster, |config| {
        http(config)[0] = HttpListener::plain("127.0.0.1", port);
        http(config).push(HttpListener::plain("0.0.0.0", port));
    });
    let error = cluster.web.reload(config).await.unwrap_err().to_string();
    assert!(error.ends_with(&format!("in use by this server's own listener {address}")), "{error}");
}
