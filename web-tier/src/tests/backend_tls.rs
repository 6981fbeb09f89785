//! `http-proxy` with TLS to its backends: who is believed, what is shown, how connections are used again.

use super::{
    backend::{Backend, echo, echo2, http, raw},
    cluster::Cluster,
    foreign::{proxy, put},
};
use bytes::Bytes;
use cluster_port::Stream;
use common::{
    config::{Action, Config},
    config::{
        Authorities, BackendProtocol, BackendTls, CertificateFiles, FilePath, HealthCheck, HttpProxy,
        LoadOptions, TlsVersion, load_str,
    },
};
use http_body_util::Full;
use hyper::Response;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    time::{sleep, timeout},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// An authority, and a folder with its certificate and what it issues.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The files of a certificate for `name`.
    fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        fs::write(&files.0, certificate.pem()).unwrap();
        fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }

    /// TLS of a server with a certificate for `name`, that speaks `alpn`; with `clients` it wants certificates of this authority.
    pub(super) fn server(&self, name: &str, alpn: &str, clients: bool) -> Arc<ServerConfig> {
        let (cert, key) = self.issue(name);
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = if clients {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()));
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let chain = vec![CertificateDer::from_pem_file(cert).unwrap()];
        let mut config = builder.with_single_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        Arc::new(config)
    }
}

fn file(path: &Path) -> FilePath {
    // Any place will do.
    let text = "clusters: [{id: a, servers: [{id: b, address: 127.0.0.1}], hosts: [{id: '', dispatch: [{http-proxy: {backends: [{address: 'https://a'}], tls: {ca: a}}}]}]}]";
    let config = load_str(text, Path::new("copal.yaml"), &LoadOptions::default()).unwrap().config;
    let Action::HttpProxy(proxy) = &config.clusters[0].hosts[0].dispatch[0].action else { panic!() };
    let Some(BackendTls { authorities: Authorities::File(file), .. }) = proxy.tls.as_deref() else {
        panic!()
    };
    FilePath { path: path.to_owned(), ..file.clone() }
}

/// Backends at these ports with TLS, believed by the authority of this file, by the name `api.test`.
pub(super) fn secured(ports: &[u16], ca: &Path) -> HttpProxy {
    let mut proxy = proxy(ports);
    proxy.backends.iter_mut().for_each(|backend| backend.tls = true);
    proxy.tls = Some(Box::new(BackendTls {
        authorities: Authorities::File(file(ca)),
        certificate: None,
        server_name: Some("api.test".to_owned()),
        min_version: TlsVersion::Tls12,
    }));
    proxy
}

async fn before(proxy: HttpProxy) -> Cluster {
    Cluster::start_with([], |config: &mut Config| put(config, proxy)).await
}

/// What a server has seen of its connections: the name that was asked for, and whether a session was resumed.
type Seen = Arc<Mutex<Vec<(Option<String>, bool)>>>;

/// Answers each connection's one request with `ok`.
fn noting(seen: &Seen) -> super::backend::OnConnection {
    let seen = seen.clone();
    Arc::new(move |stream: Stream| {
        if let Stream::Encrypted(tls) = &stream
            && let tokio_rustls::TlsStream::Server(tls) = &**tls
        {
            let session = tls.get_ref().1;
            let resumed = session.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
            seen.lock().unwrap().push((session.server_name().map(str::to_owned), resumed));
        }
        raw(|_, mut stream| async move {
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        })(stream)
    })
}

#[tokio::test]
async fn requests_go_over_one_connection_with_tls_after_the_other() {
    let authority = Authority::new();
    let backend = Backend::secured(authority.server("api.test", "http/1.1", false), echo("a")).await;
    let cluster = before(secured(&[backend.port], &authority.path("ca.pem"))).await;
    for _ in 0..3 {
        let answer = cluster.ask("GET /page", "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.body.contains("GET /page") && answer.body.contains("x-forwarded-proto: http\n"));
    }
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn in_http2_requests_share_a_connection_and_say_https() {
    let authority = Authority::new();
    let backend = Backend::secured(authority.server("api.test", "h2", false), echo2("a")).await;
    let mut proxy = secured(&[backend.port], &authority.path("ca.pem"));
    proxy.backends[0].protocol = BackendProtocol::Http2;
    let cluster = before(proxy).await;
    let asked = (0..4).map(|_| cluster.ask("GET /page", ""));
    for answer in futures_util::future::join_all(asked).await {
        assert!(answer.body.starts_with("a\nGET https://"), "{} {}", answer.status, answer.body);
    }
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_does_not_choose_http2_gets_no_request_in_it() {
    let authority = Authority::new();
    let backend = Backend::secured(authority.server("api.test", "http/1.1", false), echo("a")).await;
    let mut proxy = secured(&[backend.port], &authority.path("ca.pem"));
    proxy.backends[0].protocol = BackendProtocol::Http2;
    assert_eq!(before(proxy).await.ask("GET /", "").await.status, 503);
    assert_eq!(backend.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn sessions_are_resumed_and_the_name_is_asked_for() {
    let authority = Authority::new();
    let seen = Seen::default();
    let backend = Backend::secured(authority.server("api.test", "http/1.1", false), noting(&seen)).await;
    let cluster = before(secured(&[backend.port], &authority.path("ca.pem"))).await;
    for _ in 0..3 {
        assert_eq!(cluster.ask("GET /", "").await.body, "ok");
    }
    let name = || Some("api.test".to_owned());
    assert_eq!(*seen.lock().unwrap(), [(name(), false), (name(), true), (name(), true)]);
}

#[tokio::test]
async fn whoever_is_not_who_he_should_be_gets_no_request() {
    let (authority, other) = (Authority::new(), Authority::new());
    let ca = authority.path("ca.pem");
    for (who, issued_by, name) in
        [("another name", &authority, "else.test"), ("another authority", &other, "api.test")]
    {
        let backend = Backend::secured(issued_by.server(name, "http/1.1", false), echo("a")).await;
        let answer = before(secured(&[backend.port], &ca)).await.ask("GET /", "").await;
        assert_eq!(answer.status, 503, "{who}: {}", answer.body);
        // With `verify: off` nobody looks.
        let mut proxy = secured(&[backend.port], &ca);
        proxy.tls.as_mut().unwrap().authorities = Authorities::Nobody;
        assert_eq!(before(proxy).await.ask("GET /", "").await.status, 200, "{who}");
    }
    // One that speaks no TLS at all.
    let backend = Backend::plain(0, echo("a")).await;
    assert_eq!(before(secured(&[backend.port], &ca)).await.ask("GET /", "").await.status, 503);
}

#[tokio::test]
async fn by_an_address_the_certificate_bears_the_address() {
    let authority = Authority::new();
    let seen = Seen::default();
    let backend = Backend::secured(authority.server("127.0.0.1", "http/1.1", false), noting(&seen)).await;
    let mut proxy = secured(&[backend.port], &authority.path("ca.pem"));
    proxy.tls.as_mut().unwrap().server_name = None;
    assert_eq!(before(proxy).await.ask("GET /", "").await.body, "ok");
    assert_eq!(*seen.lock().unwrap(), [(None, false)], "an address is no name to ask for (RFC 6066 §3)");
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_is_shown_ours() {
    let authority = Authority::new();
    let backend = Backend::secured(authority.server("api.test", "http/1.1", true), echo("a")).await;
    let mut proxy = secured(&[backend.port], &authority.path("ca.pem"));
    let status = before(proxy.clone()).await.ask("GET /", "").await.status;
    assert!(matches!(status, 502 | 503), "{status}");
    let (cert, key) = authority.issue("web-a");
    proxy.tls.as_mut().unwrap().certificate = Some(CertificateFiles { cert: file(&cert), key: file(&key) });
    assert_eq!(before(proxy).await.ask("GET /", "").await.status, 200);
}

#[tokio::test]
async fn an_answer_that_somebody_cuts_off_is_not_taken_for_a_whole_one() {
    let authority = Authority::new();
    let cut = raw(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\npay 100").await;
        let _ = stream.flush().await;
        // No close_notify: as whoever is between the two would do it.
    });
    let backend = Backend::secured(authority.server("api.test", "http/1.1", false), cut).await;
    let cluster = before(secured(&[backend.port], &authority.path("ca.pem"))).await;
    let mut client = cluster.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let all = client.rest().await;
    assert!(!all.ends_with("0\r\n\r\n"), "{all}");
}

#[tokio::test]
async fn checks_go_the_same_way() {
    let (authority, other) = (Authority::new(), Authority::new());
    let good = Backend::secured(
        authority.server("api.test", "http/1.1", false),
        http(|_| async { Response::new(Full::from(Bytes::from_static(b"good"))) }),
    )
    .await;
    let bad = Backend::secured(other.server("api.test", "http/1.1", false), echo("bad")).await;
    let mut proxy = secured(&[bad.port, good.port], &authority.path("ca.pem"));
    proxy.health_check =
        Some(HealthCheck { interval: Duration::from_millis(100), fall: 1, ..HealthCheck::default() });
    let cluster = before(proxy).await;
    let known = async {
        loop {
            let report = cluster.web.health();
            if report.iter().all(|it| it.last.is_some()) {
                return report;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    let report = timeout(PATIENCE, known).await.unwrap();
    assert_eq!(report.iter().map(|it| it.up).collect::<Vec<_>>(), [false, true]);
    let why = report[0].last.as_ref().unwrap().result.as_ref().unwrap_err();
    assert!(why.contains("TLS with api.test: invalid peer certificate: BadSignature"), "{why}");
    for _ in 0..3 {
        assert_eq!(cluster.ask("GET /", "").await.body, "good");
    }
    assert_eq!(bad.connections.load(Ordering::SeqCst), 0);
}
