//! A web tier that speaks HTTP/3, and the files of its certificate.

use crate::tests::{backend::OnConnection, cluster::Cluster};
use common::config::{CertificateFiles, Config, FilePath, Http3, HttpListener, ListenerTls, Location};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use std::{path::PathBuf, time::Duration};
use tempfile::TempDir;

/// Whose certificate it has.
pub(super) const HOST: &str = "shop.example";

/// The files.
pub(super) struct Site {
    folder: TempDir,
}

impl Site {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Writes a new certificate into the files.
    pub(super) fn renew(&self) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![HOST.to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(self.path("c.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("k.pem"), key.serialize_pem()).unwrap();
        certificate.der().clone()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn listener(&self, port: u16) -> HttpListener {
        let file = |name: &str| FilePath { path: self.path(name), location: Location::default() };
        let tls = ListenerTls::of(vec![CertificateFiles { cert: file("c.pem"), key: file("k.pem") }]);
        let http3 = Http3 { alt_svc_port: 443, alt_svc_age: Duration::from_secs(86_400) };
        HttpListener { tls: Some(tls), http3: Some(http3), ..HttpListener::plain("127.0.0.1", port) }
    }

    /// Starts a web tier before `backends`.
    pub(super) async fn start(
        &self,
        backends: impl IntoIterator<Item = OnConnection>,
        change: impl FnOnce(&mut Config),
    ) -> Cluster {
        Cluster::start_with(backends, |config| {
            config.clusters[1].servers[0].http = vec![self.listener(0)];
            change(config);
        })
        .await
    }
}

/// A web tier before `backends`, and the certificate that clients are to know.
pub(super) async fn start(
    backends: impl IntoIterator<Item = OnConnection>,
    change: impl FnOnce(&mut Config),
) -> (Cluster, CertificateDer<'static>, Site) {
    let site = Site::new();
    let certificate = site.renew();
    (site.start(backends, change).await, certificate, site)
}
