//! A certificate in files, which a listener shows and its clients know.

use super::cluster::Cluster;
use common::config::{CertificateFiles, FilePath, ListenerTls, Location};
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use std::{path::PathBuf, sync::Arc};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The files.
pub(super) struct Certified {
    folder: TempDir,
    names: Vec<String>,
}

impl Certified {
    /// For these names; without a certificate until the first [`Self::renew`].
    pub(super) fn of(names: &[&str]) -> Self {
        let names = names.iter().map(|&it| it.to_owned()).collect();
        Self { folder: tempfile::tempdir().unwrap(), names }
    }

    /// Writes a new certificate into the files.
    pub(super) fn renew(&self) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(self.names.clone()).unwrap().self_signed(&key).unwrap();
        std::fs::write(self.path("c.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("k.pem"), key.serialize_pem()).unwrap();
        certificate.der().clone()
    }

    /// Writes another file beside them.
    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// TLS with it.
    pub(super) fn tls(&self) -> ListenerTls {
        let file = |name: &str| FilePath { path: self.path(name), location: Location::default() };
        ListenerTls::of(vec![CertificateFiles { cert: file("c.pem"), key: file("k.pem") }])
    }
}

/// A client's TLS that believes this certificate alone, by whichever version.
pub(super) fn believes(root: &CertificateDer<'static>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    config.unwrap().with_root_certificates(roots).with_no_client_auth()
}

/// A connection that asks for `name`, and speaks `protocol`.
pub(super) async fn connect(
    cluster: &Cluster,
    root: &CertificateDer<'static>,
    name: &'static str,
    protocol: &[u8],
) -> TlsStream<TcpStream> {
    let mut config = believes(root);
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(cluster.address()).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(name.try_into().unwrap(), stream).await.unwrap()
}
