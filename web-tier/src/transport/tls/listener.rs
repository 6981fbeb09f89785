//! A listener's TLS: what its files hold, ready for handshakes, and exchanged as a whole when they change.

use super::{
    certificate::{Certificate, Hash, end, hash},
    certificates::Certificates,
    tickets::{Context, TicketKeys, Ticketer},
    watched::{Changed, OfFiles, Watched},
};
use crate::transport::quic::{self, QuicKeys};
use common::{
    config::{ClientAuth, FilePath, ListenerTls, TlsVersion},
    tls_files::{FileFault, TlsError, chain},
};
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::CryptoProvider,
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// The TLS of one listener; its clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct TlsListener(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: ListenerTls,
    keys: Arc<TicketKeys>,
    h2: bool,
    /// It speaks HTTP/3 too.
    quic: Option<QuicKeys>,
    made: Watched<Current>,
}

/// What handshakes are made with from now on.
#[derive(Debug)]
pub(crate) struct Current {
    pub(super) config: Arc<ServerConfig>,
    /// For connections over QUIC.
    pub(crate) quic: Option<Arc<quinn::ServerConfig>>,
    pub(super) certificates: Arc<Certificates>,
    pub(super) asks_clients: bool,
    /// The file of each certificate, and the last second of its validity.
    ends: Vec<(String, i64)>,
    content: Hash,
}

impl OfFiles for Current {
    fn content(&self) -> &Hash {
        &self.content
    }
}

impl TlsListener {
    /// Reads the files of `config`. `h2` offers HTTP/2 by ALPN, before HTTP/1.1; `keys` are the process's; with keys of `quic` there is
    /// HTTP/3 too.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub(crate) fn load(
        config: &ListenerTls,
        keys: &Arc<TicketKeys>,
        h2: bool,
        quic: Option<&QuicKeys>,
    ) -> Result<Self, TlsError> {
        let made = Watched::load(files(config), || read(config, keys, h2, quic))?;
        let (config, keys, quic) = (config.clone(), keys.clone(), quic.cloned());
        Ok(Self(Arc::new(Shared { config, keys, h2, quic, made })))
    }

    /// Whether this is the same listener's.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What the next handshake is made with. Cheap, and without a lock.
    pub(crate) fn current(&self) -> Arc<Current> {
        self.0.made.current()
    }

    /// Reads the files again. Connections keep what they have; new ones get the new certificates.
    ///
    /// # Errors
    /// Everything that is wrong with the files; nothing is changed then.
    pub(crate) fn reload(&self) -> Result<Changed, TlsError> {
        self.0.made.reload(|| self.read())
    }

    /// Reads the files again if they changed: see [`Watched::look`].
    pub(crate) fn look(&self) -> Option<Result<Changed, TlsError>> {
        self.0.made.look(|| self.read())
    }

    fn read(&self) -> Result<Current, TlsError> {
        read(&self.0.config, &self.0.keys, self.0.h2, self.0.quic.as_ref())
    }

    /// The file of each certificate in use, and the last second of its validity.
    pub(crate) fn ends(&self) -> Vec<(String, i64)> {
        self.current().ends.clone()
    }

    /// What is to be said of certificates that have ended, or will within a week: the file, and what.
    pub(crate) fn ending(&self) -> Vec<(String, String)> {
        let (now, current) = (unix_now(), self.current());
        current.ends.iter().filter_map(|(file, at)| Some((file.clone(), end(*at, now)?))).collect()
    }

    /// The file of the first certificate, to name the listener by in logs.
    pub(crate) fn name(&self) -> String {
        self.0.config.certificates.first().map(|it| it.cert.path.display().to_string()).unwrap_or_default()
    }
}

/// All files that it names, in the order of the configuration.
fn files(config: &ListenerTls) -> Vec<PathBuf> {
    let pairs = config.certificates.iter().flat_map(|it| [&it.cert, &it.key]);
    pairs.chain(&config.client_ca).map(|file| file.path.clone()).collect()
}

/// Seconds since the Unix epoch, for validity.
pub(super) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Reads every certificate; all faults are told.
pub(super) fn certificates(
    config: &ListenerTls,
    provider: &CryptoProvider,
) -> Result<Vec<Certificate>, Vec<FileFault>> {
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    for files in &config.certificates {
        match Certificate::load(files, provider, unix_now()) {
            Ok(certificate) => found.push(certificate),
            Err(more) => faults.extend(more),
        }
    }
    if faults.is_empty() { Ok(found) } else { Err(faults) }
}

/// Who may sign client certificates.
#[derive(Debug)]
pub(super) struct Authorities {
    roots: Arc<RootCertStore>,
    /// What the file holds.
    bytes: Vec<u8>,
}

/// Reads who may sign client certificates; `None` when nobody is asked.
pub(super) fn authorities(config: &ListenerTls) -> Result<Option<Authorities>, FileFault> {
    let Some(file) = config.client_ca.as_ref().filter(|_| config.client_auth != ClientAuth::None) else {
        return Ok(None);
    };
    let (roots, bytes) = roots(file)?;
    Ok(Some(Authorities { roots: Arc::new(roots), bytes }))
}

/// The authorities of a file, and what the file holds.
pub(super) fn roots(file: &FilePath) -> Result<(RootCertStore, Vec<u8>), FileFault> {
    let (certificates, bytes) = chain(file)?;
    let mut roots = RootCertStore::empty();
    for (at, certificate) in certificates.into_iter().enumerate() {
        roots.add(certificate).map_err(|cause| {
            FileFault::new(file, format!("certificate {} in it is no authority's: {cause}", at + 1))
        })?;
    }
    Ok((roots, bytes))
}

/// The library's primitives, those of AWS's library, X25519MLKEM768 first.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn read(
    config: &ListenerTls,
    keys: &Arc<TicketKeys>,
    h2: bool,
    quic: Option<&QuicKeys>,
) -> Result<Current, TlsError> {
    let provider = provider();
    let (certificates, authorities) = match (certificates(config, &provider), authorities(config)) {
        (Ok(certificates), Ok(authorities)) => (certificates, authorities),
        (certificates, authorities) => {
            let mut faults = certificates.err().unwrap_or_default();
            faults.extend(authorities.err());
            return Err(TlsError::new(faults));
        }
    };
    let asks_clients = authorities.is_some();
    let authority_bytes = authorities.as_ref().map_or(&[][..], |it| &it.bytes);
    let parts: Vec<&[u8]> =
        certificates.iter().map(|it| it.content.as_slice()).chain([authority_bytes]).collect();
    let (content, context) = (hash(&parts), context(config.client_auth, authority_bytes));
    let files = config.certificates.iter().map(|it| it.cert.path.display().to_string());
    let ends = files.zip(&certificates).map(|(file, it)| (file, it.not_after)).collect();
    let certificates = Arc::new(Certificates::new(certificates));
    let verifier = match (&config.client_ca, authorities) {
        (Some(file), Some(it)) => Some(verifier(config, file, it.roots, &provider)?),
        _ => None,
    };
    let ticketer = Ticketer { keys: keys.clone(), context };
    let config = server_config(config, provider, verifier, certificates.clone(), ticketer, h2);
    let quic = quic.and_then(|keys| quic::server_config(config.clone(), keys));
    Ok(Current { config: Arc::new(config), quic, certificates, asks_clients, ends, content })
}

fn verifier(
    config: &ListenerTls,
    file: &FilePath,
    roots: Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    let builder =
        if config.client_auth == ClientAuth::Optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|cause| TlsError::new(vec![FileFault::new(file, cause.to_string())]))
}

fn server_config(
    config: &ListenerTls,
    provider: Arc<CryptoProvider>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    certificates: Arc<Certificates>,
    ticketer: Ticketer,
    h2: bool,
) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions(config.min_version))
        .expect("the library has TLS 1.2 and 1.3");
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut made = builder.with_cert_resolver(certificates);
    made.alpn_protocols =
        if h2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    made.ticketer = Arc::new(ticketer);
    // Tickets alone: a store of sessions would be written by every connection, and would be of one server.
    made.session_storage = Arc::new(NoServerSessionStorage {});
    // Requests that can be played back (RFC 8446 §8) are not taken.
    made.max_early_data_size = 0;
    made
}

/// Those of TLS that are spoken.
pub(super) fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    const BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    match min {
        TlsVersion::Tls12 => &BOTH,
        TlsVersion::Tls13 => &BOTH[..1],
    }
}

fn context(auth: ClientAuth, authorities: &[u8]) -> Context {
    let auth: &[u8] = match auth {
        ClientAuth::None => b"none",
        ClientAuth::Optional => b"optional",
        ClientAuth::Required => b"required",
    };
    hash(&[auth, authorities])
}
