//! Handshakes with rustls's client, over memory: certificates of an authority made for the test, in files, named by a
//! configuration.

mod backend;
mod certificates;
mod clients;
mod credulous;
mod files;
mod handshake;
mod reload;
mod resumption;
mod stapling;

use super::*;
use common::{
    clock::{Clock, ManualClock},
    config::{Config, ListenerTls, LoadOptions, Secret, load_str},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{
    fs,
    io::Write,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsConnector, client, server};

/// Longer than any handshake takes.
const LIMIT: Duration = Duration::from_secs(60);

/// An authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
}

/// A certificate and its key.
struct Issued {
    der: CertificateDer<'static>,
    pem: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "An authority");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { der: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, &KeyPair::generate().unwrap(), |_| {})
    }

    fn issue_with(
        &self,
        names: &[&str],
        key: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        Issued { der: certificate.der().clone(), pem: certificate.pem(), key: key.serialize_pem() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        roots
    }

    /// A client that takes this authority's certificates, without one of its own; `change` is for what else it is.
    fn client(&self, change: impl FnOnce(&mut ClientConfig)) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(listener::provider());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(self.roots()).with_no_client_auth();
        change(&mut config);
        Arc::new(config)
    }

    /// The same of TLS 1.2 alone.
    fn client12(&self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(listener::provider());
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
        Arc::new(builder.with_root_certificates(self.roots()).with_no_client_auth())
    }

    /// A client that shows a certificate.
    fn client_with(&self, own: &Issued) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(listener::provider());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
        let builder = builder.with_root_certificates(self.roots());
        Arc::new(builder.with_client_auth_cert(vec![own.der.clone()], key).unwrap())
    }
}

/// A folder with certificates, and configurations that name them.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file whose time of change is no other's, and long ago.
    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        static WRITTEN: AtomicU64 = AtomicU64::new(1_000_000_000);
        let time = UNIX_EPOCH + Duration::from_secs(WRITTEN.fetch_add(10, Relaxed));
        self.write_at(name, text, time);
    }

    fn write_at(&self, name: &str, text: impl AsRef<[u8]>, time: SystemTime) {
        let mut file = fs::File::create(self.path(name)).unwrap();
        file.write_all(text.as_ref()).unwrap();
        file.set_modified(time).unwrap();
    }

    /// `name.pem` and `name.key`.
    fn put(&self, name: &str, issued: &Issued) {
        self.write(&format!("{name}.pem"), &issued.pem);
        self.write(&format!("{name}.key"), &issued.key);
    }

    /// A configuration with a listener whose `tls` this is.
    fn config(&self, tls: &str) -> Config {
        let text = format!(
            "clusters:\n- id: web\n  servers:\n  - id: web-a\n    address: 127.0.0.1\n    http:\n    - port: 8443\n      \
             tls: {{{tls}}}\n  hosts: [{{id: '', web-apps: [{{id: '', root-directory: .}}]}}]\n"
        );
        load_str(&text, &self.path("copal.yaml"), &LoadOptions::default())
            .unwrap_or_else(|it| panic!("{it}"))
            .config
    }

    fn tls(&self, tls: &str) -> ListenerTls {
        self.config(tls).clusters[0].servers[0].http[0].tls.clone().unwrap()
    }

    /// A listener with the certificates `names`, and what else its `tls` says.
    fn listener(&self, names: &[&str], more: &str) -> TlsListener {
        self.listener_of(names, more, &keys("the cluster's key of the tests"))
    }

    fn listener_of(&self, names: &[&str], more: &str, keys: &Arc<TicketKeys>) -> TlsListener {
        TlsListener::load(&self.tls(&certs(names, more)), &context(keys), true, None).unwrap()
    }

    /// A text without the folder's changing name.
    fn shown(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn certs(names: &[&str], more: &str) -> String {
    let files: Vec<String> =
        names.iter().map(|name| format!("{{cert: {name}.pem, key: {name}.key}}")).collect();
    format!("certs: [{}], {more}", files.join(", "))
}

/// Of these keys, and without ACME.
fn context(tickets: &Arc<TicketKeys>) -> TlsContext {
    TlsContext { tickets: tickets.clone(), acme: Live::default(), staples: Staples::default() }
}

fn keys(cluster_key: &str) -> Arc<TicketKeys> {
    keys_at(cluster_key, Arc::new(ManualClock::new(1_800_000_000_000)))
}

fn keys_at(cluster_key: &str, clock: Arc<dyn Clock>) -> Arc<TicketKeys> {
    Arc::new(TicketKeys::new(&Secret::from(cluster_key.as_bytes()), clock))
}

/// A connection that both sides think well of.
#[derive(Debug)]
struct Connected {
    client: client::TlsStream<DuplexStream>,
    server: server::TlsStream<DuplexStream>,
    connection: TlsConnection,
}

impl Connected {
    /// The certificate that the client was shown.
    fn shown(&self) -> &CertificateDer<'_> {
        &self.client.get_ref().1.peer_certificates().unwrap()[0]
    }

    fn resumed(&self) -> bool {
        let client = self.client.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        assert_eq!(client, self.connection.resumed, "both sides see the same");
        client
    }

    /// A byte each way; the client takes its tickets with it.
    async fn exchange(&mut self) {
        self.server.write_all(b"s").await.unwrap();
        self.server.flush().await.unwrap();
        assert_eq!(self.client.read_u8().await.unwrap(), b's');
        self.client.write_all(b"c").await.unwrap();
        self.client.flush().await.unwrap();
        assert_eq!(self.server.read_u8().await.unwrap(), b'c');
    }
}

/// Connects to `name`; both sides' errors when one has any.
async fn try_connect(
    listener: &TlsListener,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Result<Connected, (Option<std::io::Error>, Option<HandshakeError>)> {
    let (near, far) = duplex(64 << 10);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connect = async {
        let mut client = TlsConnector::from(client.clone()).connect(name, near).await?;
        // In TLS 1.3 the client is done before the server has looked at its certificate.
        let mut byte = [0];
        client.read_exact(&mut byte).await?;
        Ok(client)
    };
    let serve = async {
        let (mut server, connection) = accept(listener.current(), far, LIMIT).await?;
        server.write_all(b"!").await.unwrap();
        server.flush().await.unwrap();
        Ok((server, connection))
    };
    match tokio::join!(connect, serve) {
        (Ok(client), Ok((server, connection))) => Ok(Connected { client, server, connection }),
        (client, server) => Err((client.err(), server.err())),
    }
}

async fn connect(listener: &TlsListener, client: &Arc<ClientConfig>, name: &str) -> Connected {
    let mut connected = try_connect(listener, client, name).await.unwrap();
    connected.exchange().await;
    connected
}
