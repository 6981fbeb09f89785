//! TLS to backends: what `copal check` says of its files, and what becomes of it when they change.

use super::*;
use crate::transport::tls::{self, BackendTls};
use common::config::{self, Action, Backend, BackendAddress, BackendProtocol};
use tokio::net::{TcpListener, TcpStream};

/// A web tier before a backend with TLS of which this is said.
fn config(folder: &Folder, tls: &str) -> Config {
    let text = format!(
        "clusters:\n- id: web\n  servers: [{{id: web-a, address: 127.0.0.1, http: [{{port: 8080}}]}}]\n  hosts:\n  - id: ''\n    \
         dispatch:\n    - http-proxy:\n        backends: [{{address: 'https://a.test'}}]\n        tls: {{{tls}}}\n"
    );
    let loaded = load_str(&text, &folder.path("copal.yaml"), &LoadOptions::default());
    loaded.unwrap_or_else(|it| panic!("{it}")).config
}

fn settings(folder: &Folder, tls: &str) -> Box<config::BackendTls> {
    let config = config(folder, tls);
    let Action::HttpProxy(proxy) = &config.clusters[0].hosts[0].dispatch[0].action else { panic!() };
    proxy.tls.clone().unwrap()
}

/// Whether a server with this certificate is taken for `a.test`.
async fn takes(connector: &tls::TlsConnector, issued: &Issued) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(listener::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.der.clone()], key)
        .unwrap();
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(stream).await
    };
    let (_, connected) = tokio::join!(accepting, connector.connect(stream));
    connected.map(drop).map_err(|cause| cause.to_string())
}

fn backend() -> Backend {
    Backend {
        at: BackendAddress::Host { host: "a.test".to_owned(), port: 443 },
        protocol: BackendProtocol::Http1,
        tls: true,
        weight: 100,
        backup: false,
    }
}

#[tokio::test]
async fn changed_files_are_taken_and_wrong_ones_are_not() {
    let (one, other, folder) = (Authority::new(), Authority::new(), Folder::new());
    let (of_one, of_other) = (one.issue(&["a.test"]), other.issue(&["a.test"]));
    folder.write("ca.pem", &one.pem);
    let tls = BackendTls::load(&settings(&folder, "ca: ca.pem")).unwrap();
    let connector = tls::TlsConnector::new(tls.clone(), &backend());
    takes(&connector, &of_one).await.unwrap();
    let why = takes(&connector, &of_other).await.unwrap_err();
    // Its authority has the name of the other one.
    assert_eq!(why, "TLS with a.test: invalid peer certificate: BadSignature");
    assert!(tls.look().is_none(), "nothing has changed");
    folder.write("ca.pem", "no certificate");
    // One look to find it, another one to be sure that nobody is writing any more.
    assert!(tls.look().is_none());
    let told = tls.look().unwrap().unwrap_err().to_string();
    assert!(told.contains("no certificate in it"), "{told}");
    takes(&connector, &of_one).await.unwrap();
    folder.write("ca.pem", &other.pem);
    assert!(tls.look().is_none());
    assert_eq!(tls.look().unwrap().unwrap(), Changed::Certificates);
    takes(&connector, &of_other).await.unwrap();
    takes(&connector, &of_one).await.unwrap_err();
}

#[tokio::test]
async fn the_machines_own_authorities_sign_no_certificate_of_a_stranger() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let Ok(tls) = BackendTls::load(&settings(&folder, "")) else {
        return eprintln!("skipped: this machine has no file of authorities");
    };
    let connector = tls::TlsConnector::new(tls, &backend());
    let why = takes(&connector, &authority.issue(&["a.test"])).await.unwrap_err();
    assert_eq!(why, "TLS with a.test: invalid peer certificate: UnknownIssuer");
}

#[test]
fn what_is_wrong_with_files_is_told_at_their_places() {
    let (authority, folder) = (Authority::new(), Folder::new());
    folder.put("me", &authority.issue(&["web-a"]));
    folder.put("other", &authority.issue(&["web-a"]));
    folder.write("ca.pem", &authority.pem);
    let good = "ca: ca.pem, cert: me.pem, key: me.key";
    assert!(check_tls(&config(&folder, good), None).unwrap().is_empty());
    let bad = config(&folder, "ca: no.pem, cert: me.pem, key: other.key");
    let error = check_tls(&bad, Some(&"web-a".into())).unwrap_err();
    let told: Vec<_> = error.problems().iter().map(|it| folder.shown(&it.to_string())).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("error: no.pem: there is no such file\n --> copal.yaml:9:19"), "{told:?}");
    assert!(told[1].starts_with("error: other.key: it is not the private key of"), "{told:?}");
}
