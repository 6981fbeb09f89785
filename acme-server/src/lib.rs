//! A small ACME authority (RFC 8555) for tests: signatures and nonces are checked, challenges are asked for by connections that are really made,
//! and certificates are signed by an authority that it makes for itself. Not for anything else.

mod jws;
mod state;
mod validate;

pub use state::{Refusal, Settings};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Collected, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use state::State;
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

/// A running authority; ends when it is dropped.
#[derive(Debug)]
pub struct AcmeServer {
    address: SocketAddr,
    root: CertificateDer<'static>,
    root_pem: String,
    state: Arc<Mutex<State>>,
    serving: AbortHandle,
}

impl Drop for AcmeServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl AcmeServer {
    /// Listens on a port of 127.0.0.1.
    ///
    /// # Panics
    /// It can't.
    pub async fn start() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "Authority of the tests");
        let root = params.self_signed(&key).expect("a certificate");
        let (root_pem, root_der) = (root.pem(), root.der().clone());
        let issuer = Issuer::new(params, key);

        let own = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
        let certificate = params.signed_by(&own, &issuer).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let private = PrivateKeyDer::try_from(own.serialize_der()).expect("a private key");
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .expect("its own certificate");

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::new(format!("https://{address}"), issuer, root_pem.clone())));
        let serving = tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), state.clone()));
        Self { address, root: root_der, root_pem, state, serving: serving.abort_handle() }
    }

    /// Where its directory is.
    pub fn directory(&self) -> String {
        format!("https://{}/directory", self.address)
    }

    /// Who has signed its own certificate, and signs all others.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The same in DER.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// Changes how it is.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.state().settings);
    }

    /// Orders that were made, refused ones included.
    pub fn orders(&self) -> usize {
        self.state().orders_asked
    }

    /// Accounts that were made.
    pub fn accounts(&self) -> usize {
        self.state().accounts.len()
    }

    /// Loses all accounts.
    pub fn forget_accounts(&self) {
        self.state().accounts.clear();
    }

    /// Keys that accounts have ever had.
    pub fn account_keys(&self) -> usize {
        self.state().keys.len()
    }

    /// Whom it has asked for challenges.
    pub fn asked(&self) -> Vec<SocketAddr> {
        self.state().asked.clone()
    }

    /// A connection by TLS to a server that shows a certificate of this authority for `name`.
    ///
    /// # Errors
    /// It shows none, or another's.
    ///
    /// # Panics
    /// `name` is none.
    pub async fn connect(&self, to: &str, name: &str) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a host name");
        TlsConnector::from(Arc::new(client)).connect(name, TcpStream::connect(to).await?).await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), state.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request| serve(state.clone(), request));
            let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn serve(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let body = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
    let mut answer = match method {
        Method::POST => lock(&state).post(&state, &path, &body),
        _ => lock(&state).get(&path),
    };
    if method == Method::HEAD {
        *answer.body_mut() = Full::default();
    }
    let nonce = lock(&state).nonce();
    answer.headers_mut().insert("replay-nonce", nonce.parse().expect("a nonce"));
    if answer.status() == StatusCode::TOO_MANY_REQUESTS || answer.status().is_server_error() {
        let after = lock(&state).retry_after;
        answer.headers_mut().insert(header::RETRY_AFTER, after.into());
    }
    Ok(answer)
}
