//! What a server shows on cluster ports: the cluster key, its certificate if it has one, and which connections are encrypted.

use crate::{
    handshake::{self, Binding, HandshakeError, Hello, MAGIC, Peer},
    key::ClusterKey,
    roster::Roster,
    stream::Stream,
    tls::{Tls, bears},
};
use arc_swap::ArcSwap;
use common::{
    config::{ClusterEncryption, ClusterTls, Config, Encryption},
    file_watch::{FileWatch, Look},
    id::ServerId,
    tls_files::TlsError,
};
use rustls::{CommonState, Error, pki_types::ServerName};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The exporter of a TLS connection that proofs are bound to (RFC 9266 §4.1).
const EXPORTER: &[u8] = b"EXPORTER-Channel-Binding";

/// The first byte of a TLS handshake record (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 22;

/// A server's credentials; clones are the same ones.
#[derive(Debug, Clone)]
pub struct Credentials(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The cluster key, then one that is taken as well, while it is changed.
    keys: Vec<ClusterKey>,
    encryption: ClusterEncryption,
    tls: ArcSwap<Tls>,
    files: Option<Files>,
}

/// The files of `cluster-tls`, and how they were seen last.
#[derive(Debug)]
struct Files {
    config: ClusterTls,
    me: ServerId,
    seen: Mutex<FileWatch>,
}

/// What reading the files of `cluster-tls` again came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reread {
    /// They hold what they held, or there are none.
    Same,
    /// New connections are made with what they hold now.
    New,
}

impl Credentials {
    /// Without certificates. Each process has a key for TLS of its own.
    pub fn new(key: ClusterKey, encryption: ClusterEncryption) -> Self {
        let tls = ArcSwap::from_pointee(Tls::ephemeral());
        Self(Arc::new(Shared { keys: vec![key], encryption, tls, files: None }))
    }

    /// Those that a configuration gives the server `me`; reads the files of `cluster-tls`.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub fn load(config: &Config, me: &ServerId) -> Result<Self, TlsError> {
        let also = Some(&config.cluster_key_also).filter(|also| !also.bytes().is_empty());
        let keys = std::iter::once(&config.cluster_key).chain(also).map(ClusterKey::new).collect();
        let (tls, files) = match &config.cluster_tls {
            None => (Tls::ephemeral(), None),
            Some(config) => {
                let seen = Mutex::new(FileWatch::reading(paths(config, me)));
                let files = Files { config: config.clone(), me: me.clone(), seen };
                (Tls::certified(config, me)?, Some(files))
            }
        };
        let (encryption, tls) = (config.cluster_encryption, ArcSwap::from_pointee(tls));
        Ok(Self(Arc::new(Shared { keys, encryption, tls, files })))
    }

    /// The cluster key.
    pub fn key(&self) -> &ClusterKey {
        &self.0.keys[0]
    }

    /// Reads the files of `cluster-tls` again. Connections keep what they have; new ones get the new certificates. Blocks on the file
    /// system.
    ///
    /// # Errors
    /// Everything that is wrong with them; nothing is changed then.
    pub fn reread(&self) -> Result<Reread, TlsError> {
        let Some(files) = &self.0.files else { return Ok(Reread::Same) };
        let mut seen = files.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.reading_again();
        let new = Tls::certified(&files.config, &files.me)?;
        if new.content == self.0.tls.load().content {
            return Ok(Reread::Same);
        }
        self.0.tls.store(Arc::new(new));
        Ok(Reread::New)
    }

    /// Whether the files have changed since they were read, and whoever writes them is done; never if there are none.
    pub(crate) fn look(&self) -> Look {
        let look = |files: &Files| files.seen.lock().unwrap_or_else(PoisonError::into_inner).look();
        self.0.files.as_ref().map_or(Look::Still, look)
    }

    /// Whether there are files to look at.
    pub(crate) fn has_files(&self) -> bool {
        self.0.files.is_some()
    }

    /// How connections to this address of the file are made.
    pub(crate) fn encryption(&self, address: &str) -> Encryption {
        self.0.encryption.of(address)
    }

    /// The dialler's side on a new socket.
    pub(crate) async fn connect(
        &self,
        mut socket: TcpStream,
        hello: &Hello,
        encrypted: bool,
    ) -> Result<Stream, HandshakeError> {
        let key = self.key();
        if !encrypted {
            handshake::connect(&mut socket, key, Binding::Challenge, hello).await?;
            return Ok(Stream::Plain(socket));
        }
        let tls = self.0.tls.load_full();
        let connecting = TlsConnector::from(tls.client.clone()).connect(name(&hello.to, &tls), socket);
        let mut stream = connecting.await.map_err(|cause| match cause.into() {
            HandshakeError::Closed => HandshakeError::NoTls,
            other => other,
        })?;
        let binding = exporter(|out| stream.get_ref().1.export_keying_material(out, EXPORTER, Some(&[])))?;
        handshake::connect(&mut stream, key, binding, hello).await?;
        Ok(Stream::Encrypted(Box::new(stream.into())))
    }

    /// The acceptor's side on a new socket, as server `me`.
    pub(crate) async fn accept(
        &self,
        mut socket: TcpStream,
        me: &ServerId,
        encryption: Encryption,
        roster: &Roster,
    ) -> Result<(Stream, Peer), HandshakeError> {
        let keys = &self.0.keys;
        if !starts_encrypted(&socket, encryption).await? {
            let peer = handshake::accept(&mut socket, keys, Binding::Challenge, me, roster, |_| true).await?;
            return Ok((Stream::Plain(socket), peer));
        }
        let tls = self.0.tls.load_full();
        let mut stream = TlsAcceptor::from(tls.server.clone()).accept(socket).await?;
        let session = stream.get_ref().1;
        let binding = exporter(|out| session.export_keying_material(out, EXPORTER, Some(&[])))?;
        let certificate = leaf(session);
        let bears = |id: &ServerId| !tls.certified || certificate.as_ref().is_some_and(|it| bears(it, id));
        let peer = handshake::accept(&mut stream, keys, binding, me, roster, bears).await?;
        Ok((Stream::Encrypted(Box::new(stream.into())), peer))
    }
}

/// The first certificate of the other side.
fn leaf(session: &CommonState) -> Option<rustls::pki_types::CertificateDer<'static>> {
    session.peer_certificates()?.first().map(|it| it.clone().into_owned())
}

pub(crate) fn exporter(
    export: impl FnOnce([u8; 32]) -> Result<[u8; 32], Error>,
) -> Result<Binding, HandshakeError> {
    export([0; 32]).map(Binding::Exporter).map_err(HandshakeError::Tls)
}

/// The name that the other side's certificate has to bear. Without certificates none is asked for, and any will do.
fn name(to: &ServerId, tls: &Tls) -> ServerName<'static> {
    let any = || ServerName::try_from("copal").expect("it is a host name");
    if !tls.certified {
        return any();
    }
    ServerName::try_from(to.as_str().to_owned()).unwrap_or_else(|_| any())
}

/// Whether the dialler begins with TLS, by its first byte, which is left where it is.
async fn starts_encrypted(socket: &TcpStream, encryption: Encryption) -> Result<bool, HandshakeError> {
    let mut first = [0];
    if socket.peek(&mut first).await? == 0 {
        return Err(HandshakeError::Silent);
    }
    match (first[0], encryption) {
        (TLS_HANDSHAKE, Encryption::Plain) => Err(HandshakeError::Encrypted),
        (TLS_HANDSHAKE, _) => Ok(true),
        (first, Encryption::Encrypted) if first == MAGIC[0] => Err(HandshakeError::NotEncrypted),
        // A stranger: the handshake says so.
        (_, Encryption::Encrypted) => stranger(socket).await,
        (_, Encryption::Plain | Encryption::Either) => Ok(false),
    }
}

/// Names one who speaks neither TLS nor our handshake.
async fn stranger(socket: &TcpStream) -> Result<bool, HandshakeError> {
    let mut first = [0; 7];
    let count = socket.peek(&mut first).await?;
    Err(HandshakeError::Stranger(String::from_utf8_lossy(&first[..count]).into_owned()))
}

fn paths(config: &ClusterTls, me: &ServerId) -> Vec<PathBuf> {
    let own = config.of(me);
    vec![config.ca.path.clone(), own.cert.path, own.key.path]
}
