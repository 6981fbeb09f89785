//! A listener's TLS: what its files hold, ready for handshakes, and exchanged as a whole when they change.

use super::{
    TlsContext,
    certificate::{Certificate, Hash, end, hash},
    certificates::{ACME_TLS, Certificates},
    staples::{Asked, Staples},
    tickets::{Context, Ticketer},
    watched::{Changed, OfFiles, Watched},
};
use crate::transport::quic::{self, QuicKeys};
use acme::Live;
use common::{
    config::{ClientAuth, FilePath, ListenerTls, TlsChoices, TlsVersion},
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
    context: TlsContext,
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
    ends: Vec<End>,
    /// Those of whose certificates somebody can be asked, and how many have an answer.
    asked: Vec<Asked>,
    stapled: usize,
    content: Hash,
}

/// When a certificate ends.
#[derive(Debug)]
struct End {
    /// Its file, or the name of one that ACME has brought.
    name: String,
    by_acme: bool,
    /// The last second of its validity.
    at: i64,
}

impl OfFiles for Current {
    fn content(&self) -> &Hash {
        &self.content
    }
}

impl TlsListener {
    /// Reads the files of `config`. `h2` offers HTTP/2 by ALPN, before HTTP/1.1; with keys of `quic` there is HTTP/3 too.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub(crate) fn load(
        config: &ListenerTls,
        context: &TlsContext,
        h2: bool,
        quic: Option<&QuicKeys>,
    ) -> Result<Self, TlsError> {
        let made = Watched::load(files(config), || read(config, context, h2, quic))?;
        let (config, context, quic) = (config.clone(), context.clone(), quic.cloned());
        Ok(Self(Arc::new(Shared { config, context, h2, quic, made })))
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
        read(&self.0.config, &self.0.context, self.0.h2, self.0.quic.as_ref())
    }

    /// What responders have said.
    pub(super) fn staples(&self) -> Staples {
        self.0.context.staples.clone()
    }

    /// The certificates of which one can be asked.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.current().asked.clone()
    }

    /// Whether more is said of its certificates than it shows.
    pub(super) fn lacks_staples(&self) -> bool {
        let current = self.current();
        let said = current.asked.iter().filter(|it| self.0.context.staples.staple(it).is_some()).count();
        said != current.stapled
    }

    /// The certificates that ACME brings, if it shows them.
    pub(crate) fn acme(&self) -> Option<&Live> {
        self.0.config.acme.then_some(&self.0.context.acme)
    }

    /// The file of each certificate in use, and the last second of its validity; those of ACME apart.
    pub(crate) fn ends(&self) -> Vec<(String, i64)> {
        self.current().ends.iter().filter(|it| !it.by_acme).map(|it| (it.name.clone(), it.at)).collect()
    }

    /// What is to be said of certificates that have ended, or will within a week: the file, and what.
    pub(crate) fn ending(&self) -> Vec<(String, String)> {
        let (now, current) = (unix_now(), self.current());
        current.ends.iter().filter_map(|it| Some((it.name.clone(), end(it.at, now)?))).collect()
    }

    /// The file of the first certificate, to name the listener by in logs.
    pub(crate) fn name(&self) -> String {
        let first = self.0.config.certificates.first();
        first.map_or_else(|| "acme".to_owned(), |it| it.cert.path.display().to_string())
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

/// The primitives that are spoken with clients: of all, what the file says.
fn chosen(choices: &TlsChoices) -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|it| choices.has_cipher(it.suite().into()));
    if !choices.curves.is_empty() {
        let known = rustls::crypto::aws_lc_rs::ALL_KX_GROUPS;
        let group = |number: &u16| known.iter().find(|it| u16::from(it.name()) == *number).copied();
        provider.kx_groups = choices.curves.iter().filter_map(group).collect();
    }
    Arc::new(provider)
}

fn read(
    config: &ListenerTls,
    shared: &TlsContext,
    h2: bool,
    quic: Option<&QuicKeys>,
) -> Result<Current, TlsError> {
    let provider = chosen(&config.choices);
    let (mut certificates, authorities) = match (certificates(config, &provider), authorities(config)) {
        (Ok(certificates), Ok(authorities)) => (certificates, authorities),
        (certificates, authorities) => {
            let mut faults = certificates.err().unwrap_or_default();
            faults.extend(authorities.err());
            return Err(TlsError::new(faults));
        }
    };
    // After those of files: the first is for clients that name no host.
    let issued = if config.acme { shared.acme.certificates() } else { Arc::default() };
    let issued: Vec<_> = issued.iter().cloned().collect();
    certificates.extend(issued.iter().filter_map(|it| Certificate::issued(it, &provider)));
    if config.ocsp_stapling {
        certificates = certificates.into_iter().map(|it| it.stapled(&shared.staples)).collect();
    }
    let asked = certificates.iter().filter_map(|it| it.asked.clone()).collect();
    let stapled = certificates.iter().filter(|it| it.key.ocsp.is_some()).count();
    let asks_clients = authorities.is_some();
    let authority_bytes = authorities.as_ref().map_or(&[][..], |it| &it.bytes);
    let parts: Vec<&[u8]> =
        certificates.iter().map(|it| it.content.as_slice()).chain([authority_bytes]).collect();
    let (content, context) = (hash(&parts), context(config.client_auth, authority_bytes));
    let files = config.certificates.iter().map(|it| (it.cert.path.display().to_string(), false));
    let issued = issued.iter().map(|it| (it.name.clone(), true));
    let names = files.chain(issued).zip(&certificates);
    let ends = names.map(|((name, by_acme), it)| End { name, by_acme, at: it.not_after }).collect();
    let acme = config.acme.then(|| shared.acme.clone());
    let certificates = Arc::new(Certificates::new(certificates, acme));
    let verifier = match (&config.client_ca, authorities) {
        (Some(file), Some(it)) => Some(verifier(config, file, it.roots, &provider)?),
        _ => None,
    };
    let ticketer = Ticketer { keys: shared.tickets.clone(), context };
    let config = server_config(config, provider, verifier, certificates.clone(), ticketer, h2);
    let quic = quic.and_then(|keys| quic::server_config(config.clone(), keys));
    Ok(Current { config: Arc::new(config), quic, certificates, asks_clients, ends, asked, stapled, content })
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
    let protocols: [(&[u8], bool); 3] = [(b"h2", h2), (b"http/1.1", true), (ACME_TLS, config.acme)];
    let spoken = protocols.into_iter().filter(|(_, is_spoken)| *is_spoken);
    made.alpn_protocols = spoken.map(|(protocol, _)| protocol.to_vec()).collect();
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
