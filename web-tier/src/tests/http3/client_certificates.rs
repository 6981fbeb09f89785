//! Certificates of clients: who has none is refused, and apps hear of those of others, on a connection that is resumed too.

use super::{
    client::{Client, PATIENCE, dial_with, quic, tls},
    site::{Site, start_at},
};
use crate::tests::{backend::echo, foreign::until};
use common::config::{ClientAuth, FilePath, Location};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    pki_types::{PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};
use tokio::time::timeout;

/// Who signs certificates of clients.
struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "An authority of clients");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    /// A client's own.
    fn issue(&self, name: &str) -> Arc<Shown> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let own = CertifiedKey::from_der(vec![certificate.der().clone()], key, &provider).unwrap();
        Arc::new(Shown(Arc::new(own), AtomicUsize::new(0)))
    }
}

/// A certificate, and how often it was asked for: a session that is resumed does not.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>, AtomicUsize);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.1.fetch_add(1, SeqCst);
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn who_has_none_is_refused_and_apps_hear_of_others_and_of_those_who_come_back() {
    let (site, authority) = (Site::new(), Authority::new());
    let root = site.renew();
    let ca = site.write("clients.pem", &authority.1);
    let mut listener = site.listener(0);
    let settings = listener.tls.as_mut().unwrap();
    settings.client_ca = Some(FilePath { path: ca, location: Location::default() });
    settings.client_auth = ClientAuth::Required;
    let cluster = start_at(listener, [echo("a")]).await;
    let to = cluster.address();
    let refused = || cluster.web.totals().handshakes_failed.iter().sum::<u64>();
    let stranger = Authority::new().issue("mallory");
    for (count, own) in [(1, None), (2, Some(stranger))] {
        let mut config = tls(&root);
        if let Some(own) = own {
            config.client_auth_cert_resolver = own;
        }
        // A client of TLS 1.3 hears of it when it believes that it is done.
        if let Ok((_endpoint, connection)) = dial_with([127, 0, 0, 1], to, quic(config)).await {
            timeout(PATIENCE, connection.closed()).await.expect("it is closed");
        }
        until(|| refused() == count).await;
    }
    let own = authority.issue("alice");
    let mut config = tls(&root);
    config.client_auth_cert_resolver = own.clone();
    let config = quic(config);
    for _ in 0..2 {
        let mut client = Client::over(dial_with([127, 0, 0, 1], to, config.clone()).await.unwrap()).await;
        let seen = client.get("/").await.text;
        assert!(seen.contains("x-ssl-client-verify: SUCCESS\n") && seen.contains("CN=alice"), "{seen}");
    }
    assert_eq!(own.1.load(SeqCst), 1, "the second one was resumed");
    let totals = cluster.web.totals();
    assert_eq!((totals.requests, totals.quic_connections), (2, 2));
}
