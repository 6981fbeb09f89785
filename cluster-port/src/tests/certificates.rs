//! `cluster-tls`: a peer's name is its certificate's.

use super::*;
use common::config::{Config, LoadOptions, load_str};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::{fs, path::PathBuf};

/// An authority, and a folder with `ca.pem` and what it has signed.
struct Pki {
    issuer: Issuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "The cluster's authority");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let pki = Self { issuer: Issuer::new(params, key), folder: tempfile::tempdir().unwrap() };
        fs::write(pki.path("ca.pem"), certificate.pem()).unwrap();
        pki
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `server.pem` and `server.key`, for `name`.
    fn issue(&self, server: &str, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{server}.pem")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{server}.key")), key.serialize_pem()).unwrap();
    }

    fn config(&self) -> Config {
        let text = "
cluster-key: Jt0Y3zq1Vw8nXo5cRkU7
cluster-encryption: true
cluster-tls: {ca: ca.pem, cert: '${server.id}.pem', key: '${server.id}.key'}
clusters:
  - id: app-tier
    servers: [{id: app-a, address: 127.0.0.1, port: 6800}, {id: app-b, address: 127.0.0.1, port: 6801}]
    hosts: [{id: '', web-apps: [{id: '', root-directory: app}]}]
";
        load_str(text, &self.path("copal.yaml"), &LoadOptions::default()).unwrap().config
    }

    fn load(&self, server: &str) -> Result<Credentials, String> {
        let text = |cause: common::tls_files::TlsError| {
            cause.to_string().replace(&format!("{}/", self.folder.path().display()), "")
        };
        Credentials::load(&self.config(), &server.into()).map_err(text)
    }
}

#[tokio::test]
async fn a_server_is_who_its_certificate_says() {
    let pki = Pki::new();
    pki.issue("app-a", "app-a", |_| {});
    pki.issue("app-b", "app-b", |_| {});
    let (mut acceptor, address) = port(pki.load("app-a").unwrap()).await;
    let app_b = pki.load("app-b").unwrap();
    let near = dial_as("app-b", &address, &app_b).await.unwrap();
    let Authenticated { stream: far, peer } = acceptor.next().await.unwrap();
    assert_eq!(peer.id.as_str(), "app-b");
    talk(near, far).await;
    // The same certificate and the key of the cluster, under another's name.
    assert!(dial_as("web-a", &address, &app_b).await.is_err());
    refused(&acceptor, 1).await;
    // Whoever answers at the address has the certificate of another server than the one that was wanted.
    let wrong = dial(&address, &app_b, &"app-b".into(), &"web-a".into(), Protocol::Grpc, PATIENCE).await;
    let wrong = wrong.unwrap_err().to_string();
    assert!(wrong.contains("TLS") && wrong.contains("web-a"), "{wrong}");
}

#[tokio::test]
async fn whoever_has_no_certificate_or_another_authoritys_is_refused() {
    let (pki, other) = (Pki::new(), Pki::new());
    pki.issue("app-a", "app-a", |_| {});
    other.issue("app-b", "app-b", |_| {});
    let (acceptor, address) = port(pki.load("app-a").unwrap()).await;
    for dialler in [other.load("app-b").unwrap(), credentials(ALWAYS)] {
        assert!(dial_as("app-b", &address, &dialler).await.is_err());
    }
    refused(&acceptor, 2).await;
}

#[test]
fn a_certificate_that_the_others_would_refuse_is_refused_at_once() {
    let pki = Pki::new();
    pki.issue("app-a", "app-b", |_| {});
    let wrong_name = pki.load("app-a").unwrap_err();
    assert!(
        wrong_name.starts_with("app-a.pem: it does not bear this server's name: expected `DNS:app-a`"),
        "{wrong_name}"
    );
    pki.issue("app-a", "app-a", |it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let one_way = pki.load("app-a").unwrap_err();
    assert!(one_way.contains("expected extendedKeyUsage serverAuth and clientAuth"), "{one_way}");
    let missing = pki.load("app-b").unwrap_err();
    assert_eq!(missing, "app-b.pem: there is no such file; app-b.key: there is no such file");
    pki.issue("app-a", "app-a", |_| {});
    pki.issue("app-b", "app-b", |_| {});
    fs::copy(pki.path("app-b.key"), pki.path("app-a.key")).unwrap();
    let mixed = pki.load("app-a").unwrap_err();
    assert!(mixed.starts_with("app-a.key: it is not the key of the certificate in"), "{mixed}");
    let other = Pki::new();
    fs::copy(other.path("ca.pem"), pki.path("ca.pem")).unwrap();
    let stranger = pki.load("app-b").unwrap_err();
    assert!(stranger.contains("the other servers will not take it"), "{stranger}");
}

#[tokio::test]
async fn new_files_are_for_new_connections_and_bad_ones_for_none() {
    let pki = Pki::new();
    pki.issue("app-a", "app-a", |_| {});
    pki.issue("app-b", "app-b", |_| {});
    let (app_a, app_b) = (pki.load("app-a").unwrap(), pki.load("app-b").unwrap());
    let (mut acceptor, address) = port(app_a.clone()).await;
    assert_eq!(app_a.reread().unwrap(), Reread::Same);
    let before = dial_as("app-b", &address, &app_b).await.unwrap();
    let far = acceptor.next().await.unwrap().stream;
    fs::write(pki.path("app-a.pem"), "no certificate").unwrap();
    assert!(app_a.reread().is_err());
    dial_as("app-b", &address, &app_b).await.expect("the old files stay");
    pki.issue("app-a", "app-a", |_| {});
    assert_eq!(app_a.reread().unwrap(), Reread::New);
    dial_as("app-b", &address, &app_b).await.unwrap();
    talk(before, far).await;
    assert_eq!(credentials(ALWAYS).reread().unwrap(), Reread::Same, "there are no files");
}
