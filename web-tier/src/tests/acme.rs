//! Certificates by ACME, end to end: an authority that checks what it is sent, web-tiers that answer it, and clients that believe the authority.

mod storage;

use super::{backend::echo, cluster::Cluster};
use ::acme::{Live, Manager, ManagerConfig, OrderReport, Times};
use acme_server::{AcmeServer, Refusal};
use common::{
    clock::SystemClock,
    config::{Acme, AcmeChallenge, AcmeKeyType, FilePath, HttpListener, ListenerTls, Location, Secret},
};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use storage::MemoryStorage;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const PATIENCE: Duration = Duration::from_secs(20);
const KEY: &[u8] = b"the cluster's key of the tests";

/// What a manager goes by; waits that would only be waited for are short.
fn times() -> Times {
    Times {
        propagation: Duration::from_millis(100),
        poll: Duration::from_millis(10),
        order: Duration::from_secs(15),
        spacing: Duration::from_millis(10),
        lease: Duration::from_secs(2),
        look_again: Duration::from_millis(50),
        ..Times::default()
    }
}

/// A web-tier that gets certificates.
struct Web {
    cluster: Cluster,
    live: Live,
    manager: Option<Manager>,
    data: TempDir,
    _ca: TempDir,
    config: ManagerConfig,
}

impl Web {
    /// It is there, and gets nothing yet: the authority has to know where it is.
    async fn new(authority: &AcmeServer, domains: &[&[&str]], change: impl FnOnce(&mut Acme)) -> Self {
        let (data, ca) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = ca.path().join("ca.pem");
        fs::write(&path, authority.root_pem()).unwrap();
        let mut acme = Acme {
            directory: authority.directory(),
            ca: Some(FilePath { path, location: Location::default() }),
            contact: vec!["mailto:ops@example.com".to_owned()],
            challenge: AcmeChallenge::Http01,
            key_type: AcmeKeyType::Ec256,
            external_account: None,
            domains: domains.iter().map(|names| names.iter().map(|&it| it.to_owned()).collect()).collect(),
        };
        change(&mut acme);
        let live = Live::default();
        let cluster = Cluster::start_acme(live.clone(), [echo("a")], |config| {
            let tls = ListenerTls { acme: true, ..ListenerTls::of(Vec::new()) };
            let secured = HttpListener { tls: Some(tls), ..HttpListener::plain("127.0.0.1", 0) };
            config.clusters[1].servers[0].http.push(secured);
        })
        .await;
        let config = ManagerConfig {
            acme,
            cluster: "web-tier".into(),
            key: Secret::from(KEY),
            key_also: Secret::default(),
            data: data.path().to_owned(),
            times: times(),
        };
        Self { cluster, live, manager: None, data, _ca: ca, config }
    }

    fn begin(&mut self, storage: &Arc<MemoryStorage>) {
        let config = self.config.clone();
        self.manager = None;
        let started = Manager::start(config, self.live.clone(), storage.clone(), Arc::new(SystemClock));
        self.manager = Some(started);
    }

    fn plain(&self) -> SocketAddr {
        self.cluster.web.addresses()[0]
    }

    fn secured(&self) -> SocketAddr {
        self.cluster.web.addresses()[1]
    }

    /// Waits until it is so with the first certificate.
    async fn until(&self, what: &str, is_so: impl Fn(&OrderReport) -> bool) -> OrderReport {
        let waiting = async {
            loop {
                if let Some(found) = self.live.report().first().filter(|it| is_so(it)) {
                    return found.clone();
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("never: {what}; it is {:?}", self.live.report()))
    }

    /// A connection by TLS, once there is one that believes the authority.
    async fn connected(&self, authority: &AcmeServer, name: &str) -> TlsStream<TcpStream> {
        let waiting = async {
            loop {
                if let Ok(stream) = connect(self.secured(), authority, name, &[]).await {
                    return stream;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("no certificate for {name}: {:?}", self.live.report()))
    }
}

async fn connect(
    to: SocketAddr,
    authority: &AcmeServer,
    name: &str,
    protocols: &[&[u8]],
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.root().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut client = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
    let stream = TcpStream::connect(to).await?;
    TlsConnector::from(Arc::new(client)).connect(name.to_owned().try_into().unwrap(), stream).await
}

fn leaf(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test]
async fn a_certificate_is_got_by_http_01_and_shown_without_a_reload() {
    let (authority, storage) = (AcmeServer::start().await, MemoryStorage::new());
    let mut web = Web::new(&authority, &[&["shop.example", "www.shop.example"]], |_| {}).await;
    authority.set(|it| {
        it.http = vec![web.plain()];
        it.bad_nonces = 1;
    });
    let refused = connect(web.secured(), &authority, "shop.example", &[]).await.unwrap_err();
    assert!(refused.to_string().contains("AccessDenied"), "there is none yet: {refused}");
    web.begin(&storage);
    let mut stream = web.connected(&authority, "www.shop.example").await;
    stream
        .write_all(b"GET /x HTTP/1.1\r\nHost: www.shop.example\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let report = web.until("a report", |it| it.not_after.is_some()).await;
    assert_eq!((report.name.as_str(), report.failures), ("shop.example", 0));
    assert_eq!((authority.orders(), authority.accounts(), authority.asked().len()), (1, 1, 2));
    // What was to be answered is gone, and the path is a path as any other.
    assert_eq!(storage.names("challenge"), [""; 0]);
    let answer = web.cluster.ask("GET /.well-known/acme-challenge/unknown", "").await;
    assert_eq!(answer.status, 200, "the backend's own");
    // Who has the hub's disk, or this one's, reads no key.
    let copy = web.data.path().join("acme/shop.example.sealed");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    for bytes in [storage.bytes(), fs::read(&copy).unwrap()] {
        assert!(bytes.len() > 500 && !bytes.windows(11).any(|it| it == b"PRIVATE KEY"));
    }
}

#[tokio::test]
async fn tls_alpn_01_is_answered_at_the_https_listener_and_to_the_authority_alone() {
    let (authority, storage) = (AcmeServer::start().await, MemoryStorage::new());
    let change =
        |acme: &mut Acme| (acme.challenge, acme.key_type) = (AcmeChallenge::TlsAlpn01, AcmeKeyType::Ec384);
    let mut web = Web::new(&authority, &[&["shop.example"], &["shop.test"]], change).await;
    authority.set(|it| it.tls = vec![web.secured()]);
    web.begin(&storage);
    web.connected(&authority, "shop.example").await;
    web.connected(&authority, "shop.test").await;
    assert_eq!((authority.orders(), authority.accounts()), (2, 1));
    // A stranger is shown nothing by it, and gets nowhere with it.
    for name in ["shop.example", "stranger.example"] {
        assert!(connect(web.secured(), &authority, name, &[b"acme-tls/1"]).await.is_err());
    }
    let both =
        connect(web.secured(), &authority, "shop.example", &[b"acme-tls/1", b"http/1.1"]).await.unwrap();
    assert_eq!(both.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn one_web_tier_orders_and_all_answer_and_show() {
    let (authority, storage) = (AcmeServer::start().await, MemoryStorage::new());
    let names: [&[&str]; 2] = [&["shop.example", "www.shop.example"], &["shop.test"]];
    let mut webs = Vec::new();
    for _ in 0..3 {
        webs.push(Web::new(&authority, &names, |_| {}).await);
    }
    authority.set(|it| it.http = webs.iter().map(Web::plain).collect());
    webs.iter_mut().for_each(|web| web.begin(&storage));
    let mut shown = Vec::new();
    for web in &webs {
        web.connected(&authority, "shop.test").await;
        shown.push(leaf(&web.connected(&authority, "shop.example").await));
    }
    assert!(shown.iter().all(|it| *it == shown[0]));
    assert_eq!((authority.orders(), authority.accounts()), (2, 1), "each certificate is ordered once");
    let mut asked = authority.asked();
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 3, "each web-tier was asked");
}

#[tokio::test]
async fn a_web_tier_starts_from_its_disk_when_the_hub_is_away() {
    let (authority, storage) = (AcmeServer::start().await, MemoryStorage::new());
    let mut web = Web::new(&authority, &[&["shop.example"]], |_| {}).await;
    authority.set(|it| it.http = vec![web.plain()]);
    web.begin(&storage);
    let first = leaf(&web.connected(&authority, "shop.example").await);
    web.until("what came of the order", |it| it.not_after.is_some() && it.failures == 0).await;

    let mut other = Web::new(&authority, &[&["shop.example"]], |_| {}).await;
    other.config.data = web.data.path().to_owned();
    other.begin(&MemoryStorage::silent());
    assert_eq!(leaf(&other.connected(&authority, "shop.example").await), first);
    // A hub that has lost it gets it back.
    let empty = MemoryStorage::new();
    other.begin(&empty);
    timeout(PATIENCE, async {
        while empty.names("certificate").is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    storage.forget();
    assert_eq!(authority.orders(), 1);
    // The cluster's key has changed, and the former one is still known.
    let former = std::mem::replace(&mut other.config.key, Secret::from(&b"another key of the cluster"[..]));
    other.config.key_also = former;
    other.begin(&empty);
    other.until("it is read with the former key", |it| it.not_after.is_some()).await;
    assert_eq!(leaf(&other.connected(&authority, "shop.example").await), first);
    assert_eq!(authority.orders(), 1);
}

#[tokio::test]
async fn a_certificate_is_renewed_at_two_thirds_of_its_life() {
    let (authority, storage) = (AcmeServer::start().await, MemoryStorage::new());
    let mut web = Web::new(&authority, &[&["shop.example"]], |_| {}).await;
    authority.set(|it| {
        it.http = vec![web.plain()];
        // Well past its two thirds when it comes.
        it.valid_before = Duration::from_secs(3600);
        it.valid_after = Duration::from_secs(600);
    });
    web.begin(&storage);
    let first = leaf(&web.connected(&authority, "shop.example").await);
    authority.set(|it| it.valid_after = Duration::from_secs(90 * 86_400));
    let renewed = async {
        while leaf(&web.connected(&authority, "shop.example").await) == first {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, renewed).await.expect("another certificate");
    let report = web.until("it is not due", |it| it.next_ms > 4_000_000_000_000 || it.failures == 0).await;
    assert_eq!(report.failures, 0);
}

#[tokio::test]
async fn a_refusal_is_told_and_not_asked_for_again_before_its_time() {
    let (authority, storage) = (AcmeServer::start().await, MemoryStorage::new());
    let mut webs = Vec::new();
    for _ in 0..2 {
        webs.push(Web::new(&authority, &[&["shop.example"]], |_| {}).await);
    }
    authority.set(|it| {
        it.http = webs.iter().map(Web::plain).collect();
        it.refusals = vec![Refusal { status: 429, kind: "rateLimited".to_owned(), retry_after: 7200 }];
    });
    let began_ms = unix_ms();
    webs.iter_mut().for_each(|web| web.begin(&storage));
    for web in &webs {
        let report = web.until("a failure", |it| it.failures == 1).await;
        assert!(report.last_error.contains("rateLimited"), "{report:?}");
        assert!(report.next_ms >= began_ms + 7_200_000, "{report:?}");
        assert_eq!(report.not_after, None);
    }
    // Started again, it still knows.
    webs[0].begin(&storage);
    webs[0].until("it is remembered", |it| it.failures == 1).await;
    assert_eq!(authority.orders(), 1);
}

/// He has mended his DNS, say, and reads the file again.
#[tokio::test]
async fn an_operator_need_not_wait_for_the_next_try_unless_the_authority_wants_it() {
    let (authority, storage) = (AcmeServer::start().await, MemoryStorage::new());
    let mut webs = Vec::new();
    for _ in 0..2 {
        let mut web = Web::new(&authority, &[&["shop.example"]], |_| {}).await;
        web.config.times.by_hand = Duration::ZERO;
        webs.push(web);
    }
    let kinds = ["caa", "rejectedIdentifier", "rateLimited"];
    authority.set(|it| {
        it.http = webs.iter().map(Web::plain).collect();
        let refusal = |kind: &str| {
            let (status, retry_after) = if kind == "rateLimited" { (429, 7200) } else { (403, 0) };
            Refusal { status, kind: kind.to_owned(), retry_after }
        };
        it.refusals = kinds.map(refusal).into();
    });
    let began_ms = unix_ms();
    webs.iter_mut().for_each(|web| web.begin(&storage));
    let try_now = || webs.iter().for_each(|web| web.manager.as_ref().unwrap().try_now());
    for (at, kind) in kinds.into_iter().enumerate() {
        for web in &webs {
            let report = web.until(kind, |it| it.last_error.contains(kind)).await;
            assert_eq!(report.failures, 6, "those that he asks for make no others rarer");
        }
        assert_eq!(authority.orders(), at + 1, "one web-tier has tried");
        try_now();
    }
    let report = webs[0].until("what the authority wants", |it| it.next_ms >= began_ms + 7_200_000).await;
    assert!(report.last_error.contains("rateLimited") && authority.orders() == 3, "{report:?}");
}

/// It was ended there, or the authority has lost it: nobody has to remove anything by hand.
#[tokio::test]
async fn an_account_that_the_authority_does_not_know_any_more_is_made_anew() {
    let (authority, storage) = (AcmeServer::start().await, MemoryStorage::new());
    let mut web = Web::new(&authority, &[&["shop.example"], &["www.shop.example"]], |_| {}).await;
    authority.set(|it| {
        it.http = vec![web.plain()];
        // Only for a moment, and the account is as it was.
        it.refusals = vec![Refusal { status: 400, kind: "accountDoesNotExist".to_owned(), retry_after: 0 }];
    });
    web.begin(&storage);
    let report = web.until("a certificate", |it| it.not_after.is_some()).await;
    assert_eq!((report.failures, authority.accounts()), (0, 1));
    web.connected(&authority, "www.shop.example").await;
    // By another server, which finds the account on the hub.
    authority.forget_accounts();
    let mut other = Web::new(&authority, &[&["blog.example"]], |_| {}).await;
    authority.set(|it| it.http = vec![other.plain()]);
    other.begin(&storage);
    let report = other.until("a certificate", |it| it.not_after.is_some()).await;
    assert_eq!(
        (report.failures, authority.accounts(), authority.account_keys()),
        (0, 1, 1),
        "with the same key"
    );
}

#[tokio::test]
async fn servers_whose_files_differ_do_not_order_in_turns() {
    let (authority, storage) = (AcmeServer::start().await, MemoryStorage::new());
    let names: [&[&str]; 2] = [&["shop.example"], &["shop.example", "www.shop.example"]];
    let mut webs = Vec::new();
    for names in names {
        webs.push(Web::new(&authority, &[names], |_| {}).await);
    }
    let refusal = Refusal { status: 429, kind: "rateLimited".to_owned(), retry_after: 7200 };
    authority.set(|it| {
        it.http = webs.iter().map(Web::plain).collect();
        it.refusals = vec![refusal; 10];
    });
    let began_ms = unix_ms();
    webs.iter_mut().for_each(|web| web.begin(&storage));
    for web in &webs {
        web.until("what the authority has asked for", |it| it.next_ms >= began_ms + 7_200_000).await;
    }
    assert_eq!(authority.orders(), 1);
    // The same where each of them gets what it wants, and the other one wants something else.
    authority.set(|it| it.refusals.clear());
    let storage = MemoryStorage::new();
    webs.iter_mut().for_each(|web| web.begin(&storage));
    timeout(PATIENCE, async {
        while authority.orders() < 5 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    for web in &webs {
        web.until("the end of it", |it| it.next_ms > unix_ms() + 5 * 3_600_000).await;
    }
    assert_eq!(authority.orders(), 1 + 4);
}

#[tokio::test]
async fn a_name_that_is_not_ours_is_told_in_the_authoritys_words() {
    let (authority, storage) = (AcmeServer::start().await, MemoryStorage::new());
    let mut web = Web::new(&authority, &[&["shop.example"]], |_| {}).await;
    let elsewhere = Cluster::start([echo("b")]).await;
    authority.set(|it| it.http = vec![elsewhere.address()]);
    web.begin(&storage);
    let report = web.until("a failure", |it| it.failures == 1).await;
    assert!(
        report.last_error.contains("shop.example: ") && report.last_error.contains("not the key"),
        "{report:?}"
    );
    assert!(report.next_ms > unix_ms() + 60_000, "{report:?}");
    assert_eq!(storage.names("challenge"), [""; 0]);
}

#[tokio::test]
async fn without_the_hub_nothing_is_ordered() {
    let (authority, storage) = (AcmeServer::start().await, MemoryStorage::new());
    let mut web = Web::new(&authority, &[&["shop.example"]], |_| {}).await;
    authority.set(|it| it.http = vec![web.plain()]);
    storage.away.store(true, Ordering::Relaxed);
    web.begin(&storage);
    let asks_again = async {
        while storage.asked_in_vain.load(Ordering::Relaxed) < 3 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, asks_again).await.expect("it asks who may order");
    assert_eq!(authority.orders(), 0);
    storage.away.store(false, Ordering::Relaxed);
    web.connected(&authority, "shop.example").await;
    assert_eq!(authority.orders(), 1);
}

#[tokio::test]
async fn an_account_is_bound_to_another_where_the_authority_wants_that() {
    let (authority, storage) = (AcmeServer::start().await, MemoryStorage::new());
    let secret = b"a secret of the authority".to_vec();
    let bound =
        common::config::ExternalAccount { key_id: "kid-1".to_owned(), hmac_key: Secret::from(&secret[..]) };
    let mut web =
        Web::new(&authority, &[&["shop.example"]], |acme| acme.external_account = Some(bound)).await;
    authority.set(|it| {
        it.http = vec![web.plain()];
        it.bound = Some(("kid-1".to_owned(), secret.clone()));
    });
    web.begin(&storage);
    web.connected(&authority, "shop.example").await;
}

fn unix_ms() -> u64 {
    common::clock::Clock::unix_ms(&SystemClock)
}
