//! The handshake of one connection, and what it came to.

use super::{
    certificates::ACME_TLS,
    client::{ClientCertificate, VERIFY},
    listener::Current,
};
use quinn::crypto::rustls::HandshakeData;
use rustls::{ProtocolVersion, ServerConnection, pki_types::CertificateDer};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// What a handshake came to.
#[derive(Debug)]
pub(crate) struct TlsConnection {
    /// Whether the client chose HTTP/2 by ALPN; HTTP/1.1 otherwise, also when it named nothing.
    pub(crate) h2: bool,
    /// The host name that the client asked for (SNI), in lower case.
    pub(crate) server_name: Option<Box<str>>,
    /// The client's certificate, verified; for the whole connection, resumed ones included.
    pub(crate) client: Option<Box<ClientCertificate>>,
    /// It was the authority of ACME, which has seen what it wanted: nothing is spoken.
    pub(crate) is_acme: bool,
    /// TLS 1.3; 1.2 otherwise.
    pub(crate) tls13: bool,
    /// Whether it resumed an earlier session.
    pub(crate) resumed: bool,
    /// It is one over QUIC.
    pub(crate) quic: bool,
    served: Arc<Current>,
}

impl TlsConnection {
    fn new(served: Arc<Current>, session: &ServerConnection) -> Self {
        let leaf = session.peer_certificates().and_then(|chain| chain.first());
        Self {
            h2: session.alpn_protocol() == Some(b"h2"),
            is_acme: session.alpn_protocol() == Some(ACME_TLS),
            server_name: session.server_name().map(|name| name.to_ascii_lowercase().into_boxed_str()),
            client: leaf.map(|der| Box::new(ClientCertificate::new(der))),
            tls13: session.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            resumed: session.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            quic: false,
            served,
        }
    }

    /// Of a connection over QUIC, whose TLS is 1.3. Whether it was resumed is not known.
    pub(crate) fn of_quic(served: Arc<Current>, quic: &quinn::Connection) -> Self {
        let data = quic.handshake_data().and_then(|it| it.downcast::<HandshakeData>().ok());
        let chain = quic.peer_identity().and_then(|it| it.downcast::<Vec<CertificateDer<'static>>>().ok());
        let leaf = chain.as_ref().and_then(|chain| chain.first());
        Self {
            h2: false,
            is_acme: false,
            server_name: data
                .and_then(|it| it.server_name)
                .map(|name| name.to_ascii_lowercase().into_boxed_str()),
            client: leaf.map(|der| Box::new(ClientCertificate::new(der))),
            tls13: true,
            resumed: false,
            quic: true,
            served,
        }
    }

    /// The header fields that tell applications of the client's certificate: names, and values of printable ASCII. None on a
    /// listener that does not ask for certificates.
    pub(crate) fn client_fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let none = (self.client.is_none() && self.served.asks_clients).then_some((VERIFY, "NONE"));
        self.client.iter().flat_map(|it| it.fields()).chain(none)
    }

    /// Whether a request for `host` (a name or address, without port) does not belong on this connection, and is to be
    /// answered 421 (RFC 9110 §15.5.20): the client asked for another name, and the certificate that it was shown does not
    /// cover this one, so it can't mean to speak to this host here. A client that named none, or that took a certificate which
    /// does not bear the name it asked for, is taken at its word.
    pub(crate) fn is_misdirected(&self, host: &str) -> bool {
        let Some(name) = self.server_name.as_deref() else { return false };
        let certificates = &self.served.certificates;
        !name.eq_ignore_ascii_case(host.strip_suffix('.').unwrap_or(host))
            && !certificates.cover(Some(name), host)
    }
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// It took too long.
    #[error("no TLS handshake within {0:?}")]
    Timeout(Duration),
    /// The peer went.
    #[error("the connection ended before the TLS handshake did")]
    Closed,
    /// The peer's fault, or that nothing suits both.
    #[error("TLS handshake: {0}")]
    Tls(rustls::Error),
    /// The socket failed.
    #[error("TLS handshake: {0}")]
    Io(io::Error),
    /// The same, or another one, over QUIC.
    #[error("QUIC handshake: {0}")]
    Quic(#[from] quinn::ConnectionError),
}

/// Kinds of failures, to count them by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Too slow.
    Timeout,
    /// Gone, or cut off.
    Closed,
    /// No TLS at all: plain HTTP, most often.
    NotTls,
    /// No version, cipher suite, group or application protocol in common.
    NothingInCommon,
    /// A client certificate that is missing or not valid.
    ClientCertificate,
    /// The client does not take what it was shown: an unknown authority, an expired certificate.
    RefusedByClient,
    /// Anything else that breaks the protocol.
    Protocol,
}

impl Failure {
    /// How many kinds there are.
    pub(crate) const COUNT: usize = 7;

    /// Every kind, in the order of their numbers (`failure as usize`): a worker counts in an array.
    pub(crate) const ALL: [Self; Self::COUNT] = [
        Self::Timeout,
        Self::Closed,
        Self::NotTls,
        Self::NothingInCommon,
        Self::ClientCertificate,
        Self::RefusedByClient,
        Self::Protocol,
    ];

    /// Its name in metrics and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::NotTls => "not-tls",
            Self::NothingInCommon => "nothing-in-common",
            Self::ClientCertificate => "client-certificate",
            Self::RefusedByClient => "refused-by-client",
            Self::Protocol => "protocol",
        }
    }
}

impl HandshakeError {
    /// What kind of failure it is.
    pub(crate) fn failure(&self) -> Failure {
        use rustls::{Error, InvalidMessage};
        match self {
            Self::Timeout(_) => Failure::Timeout,
            Self::Closed | Self::Io(_) => Failure::Closed,
            Self::Quic(cause) => failure_of_quic(cause),
            Self::Tls(Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            )) => Failure::NotTls,
            Self::Tls(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => Failure::NothingInCommon,
            Self::Tls(Error::InvalidCertificate(_) | Error::NoCertificatesPresented) => {
                Failure::ClientCertificate
            }
            Self::Tls(Error::AlertReceived(_)) => Failure::RefusedByClient,
            Self::Tls(_) => Failure::Protocol,
        }
    }
}

/// By the alert of TLS (RFC 8446 §6) that QUIC's error is made of (RFC 9001 §4.8), and by who has sent it.
fn failure_of_quic(cause: &quinn::ConnectionError) -> Failure {
    use quinn::ConnectionError;
    let alert = |code: u64| code.checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok());
    match cause {
        ConnectionError::TimedOut => Failure::Timeout,
        ConnectionError::ConnectionClosed(close) if alert(close.error_code.into()).is_some() => {
            Failure::RefusedByClient
        }
        ConnectionError::TransportError(error) => match alert(error.code.into()) {
            // handshake_failure, protocol_version, insufficient_security, no_application_protocol
            Some(40 | 70 | 71 | 120) => Failure::NothingInCommon,
            // What can be wrong with a certificate, and that there is none.
            Some(42..=46 | 48 | 116) => Failure::ClientCertificate,
            _ => Failure::Protocol,
        },
        _ => Failure::Closed,
    }
}

impl From<io::Error> for HandshakeError {
    fn from(cause: io::Error) -> Self {
        match cause.get_ref().and_then(|it| it.downcast_ref::<rustls::Error>()) {
            Some(tls) => Self::Tls(tls.clone()),
            None if cause.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            None => Self::Io(cause),
        }
    }
}

/// Shakes hands with a client, in `limit` at most.
///
/// # Errors
/// See [`HandshakeError`]; the client was told by an alert where TLS has one, and the connection is to be closed.
pub(crate) async fn accept<IO>(
    current: Arc<Current>,
    stream: IO,
    limit: Duration,
) -> Result<(TlsStream<IO>, TlsConnection), HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = TlsAcceptor::from(current.config.clone()).accept(stream);
    let stream = timeout(limit, handshake).await.map_err(|_| HandshakeError::Timeout(limit))??;
    let connection = TlsConnection::new(current, stream.get_ref().1);
    Ok((stream, connection))
}
