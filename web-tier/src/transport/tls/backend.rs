//! TLS to backends: by what they are known, and what they are shown. docs/tls.md is for those who run it.
//!
//! A [`BackendTls`] is made of the files of one `tls` of the configuration, and shared by all backends of rules that say the same. Each
//! backend has a [`TlsConnector`], which keeps the sessions that it may resume with this backend and no other.

use super::{
    certificate::{Certificate, Hash, hash},
    listener::{provider, roots, unix_now, versions},
    watched::{Changed, OfFiles, Watched},
};
use arc_swap::ArcSwapOption;
use cluster_port::Stream;
use common::{
    config::{self, Authorities, Backend, BackendAddress, BackendProtocol, FilePath},
    tls_files::{FileFault, TlsError, chain, system_authorities},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::SingleCertAndKey,
};
use std::{io, path::PathBuf, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector as Handshake, TlsStream};

/// Sessions that are kept of one backend: it has one name, and a session serves once (RFC 8446 §C.4).
const SESSIONS: usize = 8;

/// TLS as one `tls` of the configuration says.
#[derive(Debug)]
pub(crate) struct BackendTls {
    config: config::BackendTls,
    made: Watched<Current>,
}

/// What handshakes are made with from now on, but for the backend's own.
#[derive(Debug)]
struct Current {
    client: ClientConfig,
    content: Hash,
}

impl OfFiles for Current {
    fn content(&self) -> &Hash {
        &self.content
    }
}

impl BackendTls {
    /// Reads the files. Blocks on the file system.
    ///
    /// # Errors
    /// Everything that is wrong with them; that this machine has no authorities where the file names none.
    pub(crate) fn load(config: &config::BackendTls) -> Result<Arc<Self>, TlsError> {
        let made = Watched::load(files(config), || read(config))?;
        Ok(Arc::new(Self { config: config.clone(), made }))
    }

    /// Whether it was made of just this.
    pub(crate) fn is_of(&self, config: &config::BackendTls) -> bool {
        self.config == *config
    }

    /// Reads the files again if they changed: see [`Watched::look`].
    pub(crate) fn look(&self) -> Option<Result<Changed, TlsError>> {
        self.made.look(|| read(&self.config))
    }

    /// A file to name it by in logs.
    pub(crate) fn name(&self) -> String {
        files(&self.config).last().map(|it| it.display().to_string()).unwrap_or_default()
    }
}

/// Makes connections to one backend.
#[derive(Debug)]
pub(crate) struct TlsConnector {
    tls: Arc<BackendTls>,
    /// `None` for one that no certificate can bear, which the configuration does not take.
    name: Option<ServerName<'static>>,
    protocol: BackendProtocol,
    /// What the next handshake is made with, and what of the files it was made of.
    own: ArcSwapOption<Own>,
}

#[derive(Debug)]
struct Own {
    of: Arc<Current>,
    client: Arc<ClientConfig>,
}

impl TlsConnector {
    /// To a backend of a rule that says `tls`.
    pub(crate) fn new(tls: Arc<BackendTls>, backend: &Backend) -> Self {
        let host = match &backend.at {
            BackendAddress::Host { host, .. } => Some(host),
            BackendAddress::Socket(_) | BackendAddress::Service(_) => None,
        };
        let name = tls.config.server_name.as_ref().or(host);
        let name = name.and_then(|name| ServerName::try_from(name.clone()).ok());
        Self { tls, name, protocol: backend.protocol, own: ArcSwapOption::empty() }
    }

    /// Shakes hands on a connection. The caller bounds the time.
    ///
    /// # Errors
    /// The connection broke, the backend's certificate is not valid for its name, there is nothing that both sides speak.
    pub(crate) async fn connect(&self, stream: TcpStream) -> io::Result<Stream> {
        let name = self.name.as_ref().ok_or_else(|| io::Error::other("no certificate can bear its name"))?;
        let stream = Handshake::from(self.client()).connect(name.clone(), stream).await;
        let stream = stream
            .map_err(|cause| io::Error::new(cause.kind(), format!("TLS with {}: {cause}", name.to_str())))?;
        if self.protocol == BackendProtocol::Http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            let text = "TLS: the backend does not choose HTTP/2 (`h2`) by ALPN, as RFC 9113 §3.2 wants it";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(Stream::Encrypted(Box::new(TlsStream::from(stream))))
    }

    /// Sessions from before the files changed are not resumed: they stand for what was shown and believed then.
    fn client(&self) -> Arc<ClientConfig> {
        let current = self.tls.made.current();
        if let Some(own) = self.own.load().as_ref().filter(|own| Arc::ptr_eq(&own.of, &current)) {
            return own.client.clone();
        }
        let mut client = current.client.clone();
        client.alpn_protocols = match self.protocol {
            BackendProtocol::Http1 => vec![b"http/1.1".to_vec()],
            BackendProtocol::Http2 => vec![b"h2".to_vec()],
            BackendProtocol::Tcp => Vec::new(),
        };
        client.resumption = Resumption::in_memory_sessions(SESSIONS);
        let client = Arc::new(client);
        self.own.store(Some(Arc::new(Own { of: current, client: client.clone() })));
        client
    }
}

/// All files that it names or means.
fn files(config: &config::BackendTls) -> Vec<PathBuf> {
    let authorities = match &config.authorities {
        Authorities::System(_) => system_authorities(),
        Authorities::File(file) => Some(file.path.clone()),
        Authorities::Nobody => None,
    };
    let own = config.certificate.iter().flat_map(|it| [it.cert.path.clone(), it.key.path.clone()]);
    authorities.into_iter().chain(own).collect()
}

fn read(config: &config::BackendTls) -> Result<Current, TlsError> {
    let provider = provider();
    let (verifier, certificate) = (verifier(config, &provider), certificate(config, &provider));
    let ((verifier, authorities), certificate) = match (verifier, certificate) {
        (Ok(verifier), Ok(certificate)) => (verifier, certificate),
        (verifier, certificate) => {
            let faults = verifier.err().into_iter().chain(certificate.err().into_iter().flatten());
            return Err(TlsError::new(faults.collect()));
        }
    };
    let content = hash(&[&authorities, certificate.as_ref().map_or(&[], |it| it.content.as_slice())]);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions(config.min_version))
        .expect("the library has TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let client = match certificate {
        Some(Certificate { key, .. }) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Current { client, content })
}

/// Reads what this server shows.
pub(super) fn certificate(
    config: &config::BackendTls,
    provider: &CryptoProvider,
) -> Result<Option<Certificate>, Vec<FileFault>> {
    config.certificate.as_ref().map(|files| Certificate::load(files, provider, unix_now())).transpose()
}

/// Who says whether a certificate is valid, and the bytes of the file that he goes by.
pub(super) fn verifier(
    config: &config::BackendTls,
    provider: &Arc<CryptoProvider>,
) -> Result<(Arc<dyn ServerCertVerifier>, Vec<u8>), FileFault> {
    let file = match &config.authorities {
        Authorities::Nobody => {
            let any = AnyCertificate(provider.signature_verification_algorithms);
            return Ok((Arc::new(any), Vec::new()));
        }
        Authorities::File(file) => file.clone(),
        Authorities::System(location) => {
            let path = system_authorities();
            let location = location.clone();
            FilePath { path: path.unwrap_or_else(|| PathBuf::from("ca-certificates")), location }
        }
    };
    let (roots, bytes) = match &config.authorities {
        Authorities::System(_) => system_roots(&file)?,
        _ => roots(&file)?,
    };
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let verifier = builder.build().map_err(|cause| FileFault::new(&file, cause.to_string()))?;
    Ok((verifier, bytes))
}

/// Of this machine's own authorities those that can be read: one that is odd is not the operator's fault.
fn system_roots(file: &FilePath) -> Result<(RootCertStore, Vec<u8>), FileFault> {
    if !file.path.is_absolute() {
        let message = "this machine has no file of authorities where it is looked for: install ca-certificates, or name a file with `ca`";
        return Err(FileFault::new(file, message));
    }
    let (certificates, bytes) = chain(file)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    Ok((roots, bytes))
}

/// `verify: off`: takes any certificate of which the other side shows that it has the key.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
