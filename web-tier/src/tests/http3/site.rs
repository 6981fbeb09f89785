//! A web tier that speaks HTTP/3, and the files of its certificate.

use crate::tests::{backend::OnConnection, certified::Certified, cluster::Cluster};
use common::config::{Config, Http3, HttpListener};
use rustls::pki_types::CertificateDer;
use std::{path::PathBuf, time::Duration};

/// Whose certificate it has.
pub(super) const HOST: &str = "shop.example";

/// The files.
pub(super) struct Site(Certified);

impl Site {
    pub(super) fn new() -> Self {
        Self(Certified::of(&[HOST]))
    }

    /// Writes a new certificate into the files.
    pub(super) fn renew(&self) -> CertificateDer<'static> {
        self.0.renew()
    }

    /// Writes another file beside them.
    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        self.0.write(name, text)
    }

    pub(super) fn listener(&self, port: u16) -> HttpListener {
        let http3 = Http3 { alt_svc_port: 443, alt_svc_age: Duration::from_secs(86_400) };
        let tls = Some(self.0.tls());
        HttpListener { tls, http3: Some(http3), ..HttpListener::plain("127.0.0.1", port) }
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

/// A web tier with this listener, before `backends`.
pub(super) async fn start_at(
    listener: HttpListener,
    backends: impl IntoIterator<Item = OnConnection>,
) -> Cluster {
    Cluster::start_with(backends, |config| config.clusters[1].servers[0].http = vec![listener]).await
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
