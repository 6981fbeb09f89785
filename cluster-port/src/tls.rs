//! TLS 1.3 beneath the handshake. Without a PKI each process has a key of its own, made at its start, which nobody knows (a raw public
//! key, RFC 7250): it makes a secret channel to *somebody*, and the proof that is bound to the channel says to whom. With `cluster-tls`
//! both sides show certificates as well.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use common::{
    config::{CertificateFiles, ClusterTls, FilePath},
    id::ServerId,
    tls_files::{FileFault, TlsError, chain, private_key},
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, InconsistentKeys, RootCertStore,
    ServerConfig, SignatureScheme,
    client::{
        Resumption, VerifierBuilderError, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
    },
    server::{
        AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier,
    },
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// What is spoken inside (RFC 7301): nobody takes a connection of another service, or another version, for one of ours.
const ALPN: &[u8] = b"copal/2";

/// A SHA-256.
pub(crate) type Hash = [u8; 32];

/// What connections are made and accepted with.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
    /// Whether both sides show certificates.
    pub(crate) certified: bool,
    /// The hash of what the files hold, if there are any: equal content needs no exchange.
    pub(crate) content: Hash,
}

/// The library's primitives, X25519MLKEM768 first: what is recorded today is not to be read by tomorrow's machines.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl Tls {
    /// With a key of this process alone.
    pub(crate) fn ephemeral() -> Self {
        let provider = provider();
        let key = own_key(&provider).expect("a key that was just made is one");
        let resolver = AlwaysResolvesServerRawPublicKeys::new(Arc::new(key));
        let algorithms = provider.signature_verification_algorithms;
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites of TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyKey(algorithms)))
            .with_no_client_auth();
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites of TLS 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        Self::new(client, server, false, Hash::default())
    }

    /// With the files of `cluster-tls`, as the server `me`.
    ///
    /// # Errors
    /// Everything that is wrong with them, also that the authority has not signed the certificate for this server, to be shown to
    /// both sides.
    pub(crate) fn certified(config: &ClusterTls, me: &ServerId) -> Result<Self, TlsError> {
        let (provider, files) = (provider(), config.of(me));
        let read = (chain(&config.ca), chain(&files.cert), private_key(&files.key));
        let (authorities, certificates, private) = match read {
            (Ok(authorities), Ok(certificates), Ok(private)) => (authorities, certificates, private),
            (one, two, three) => {
                let faults = [one.err(), two.err(), three.err()];
                return Err(TlsError::new(faults.into_iter().flatten().collect()));
            }
        };
        let content = hash([&authorities.1, &certificates.1, &private.1]);
        let of = |file: &FilePath, cause: String| TlsError::new(vec![FileFault::new(file, cause)]);
        let mut roots = RootCertStore::empty();
        for (at, authority) in authorities.0.into_iter().enumerate() {
            let add = roots.add(authority);
            add.map_err(|cause| {
                of(&config.ca, format!("certificate {} in it is no authority's: {cause}", at + 1))
            })?;
        }
        let key = CertifiedKey::from_der(certificates.0, private.0, &provider)
            .map_err(|cause| not_a_pair(&files, cause))?;
        let wrong = |cause: String| of(&files.cert, cause);
        let own = Own::new(roots, key, &provider).map_err(|cause| wrong(cause.to_string()))?;
        own.check(me).map_err(wrong)?;
        let (client, server) = own.configs(provider);
        Ok(Self::new(client, server, true, content))
    }

    fn new(mut client: ClientConfig, mut server: ServerConfig, certified: bool, content: Hash) -> Self {
        client.alpn_protocols = vec![ALPN.to_vec()];
        server.alpn_protocols = vec![ALPN.to_vec()];
        // Who listens is not told whom the dialler wants: that is said inside.
        client.enable_sni = false;
        // Each connection has a key exchange of its own; they are few, and live long.
        client.resumption = Resumption::disabled();
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Self { client: Arc::new(client), server: Arc::new(server), certified, content }
    }
}

/// The hash of some files; each one's length goes first, so that they don't run into each other.
fn hash(files: [&[u8]; 3]) -> Hash {
    let mut hash = Sha256::new();
    for file in files {
        hash.update((file.len() as u64).to_be_bytes());
        hash.update(file);
    }
    hash.finalize().into()
}

/// A key that lives as long as this process.
fn own_key(provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let failed = |_| Error::General("no key can be made".to_owned());
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(failed)?;
    let document = pair.to_pkcs8v1().map_err(failed)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(document.as_ref().to_vec()));
    let key = provider.key_provider.load_private_key(private)?;
    let public = key.public_key().ok_or(Error::InconsistentKeys(InconsistentKeys::Unknown))?;
    Ok(CertifiedKey::new(vec![CertificateDer::from(public.to_vec())], key))
}

fn not_a_pair(files: &CertificateFiles, cause: Error) -> TlsError {
    let fault = match cause {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => FileFault::new(
            &files.key,
            format!("it is not the key of the certificate in {}", files.cert.path.display()),
        ),
        cause => FileFault::new(&files.key, format!("the key can't be used: {cause}")),
    };
    TlsError::new(vec![fault])
}

/// This server's certificate, and who is believed.
struct Own {
    key: Arc<CertifiedKey>,
    servers: Arc<WebPkiServerVerifier>,
    clients: Arc<dyn rustls::server::danger::ClientCertVerifier>,
}

impl Own {
    fn new(
        roots: RootCertStore,
        key: CertifiedKey,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let roots = Arc::new(roots);
        let servers = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
        let clients = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build()?;
        Ok(Self { key: Arc::new(key), servers, clients })
    }

    /// Looks at our own certificate as the others will.
    fn check(&self, me: &ServerId) -> Result<(), String> {
        let Some((leaf, chain)) = self.key.cert.split_first() else { return Err("it is empty".to_owned()) };
        let name = ServerName::try_from(me.as_str().to_owned())
            .map_err(|_| format!("no certificate bears the name `{me}`: it is no host name"))?;
        let now = UnixTime::now();
        let served = self.servers.verify_server_cert(leaf, chain, &name, &[], now).map(drop);
        let shown = self.clients.verify_client_cert(leaf, chain, now).map(drop);
        served.and(shown).map_err(|cause| match cause {
            Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => format!("it does not bear this server's name: expected `DNS:{me}` among its subjectAltName"),
            Error::InvalidCertificate(
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
            ) => {
                "it is not for both ends of a connection: expected extendedKeyUsage serverAuth and clientAuth"
                    .to_owned()
            }
            cause => format!("the other servers will not take it: {cause}"),
        })
    }

    fn configs(self, provider: Arc<CryptoProvider>) -> (ClientConfig, ServerConfig) {
        let resolver = Arc::new(SingleCertAndKey::from(self.key));
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites of TLS 1.3")
            .with_webpki_verifier(self.servers)
            .with_client_cert_resolver(resolver.clone());
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites of TLS 1.3")
            .with_client_cert_verifier(self.clients)
            .with_cert_resolver(resolver);
        (client, server)
    }
}

/// Whether a certificate that the authority has signed bears a server's name.
pub(crate) fn bears(certificate: &CertificateDer<'_>, id: &ServerId) -> bool {
    let (parsed, name) = (ParsedCertificate::try_from(certificate), ServerName::try_from(id.as_str()));
    matches!((parsed, name), (Ok(parsed), Ok(name)) if verify_server_name(&parsed, &name).is_ok())
}

/// Takes any key of which the other side shows that it has it. Who that is, is for the proof to say.
#[derive(Debug)]
struct AnyKey(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        _key: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken between servers".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
