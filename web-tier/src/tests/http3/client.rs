//! A client of HTTP/3.

use super::site::HOST;
use bytes::{Buf, Bytes, BytesMut};
use h3::client::{RequestStream, SendRequest};
use h3::error::StreamError;
use h3_quinn::{BidiStream, OpenStreams};
use http::{HeaderMap, Request, Response};
use quinn::{ClientConfig, Endpoint, crypto::rustls::QuicClientConfig};
use rustls::pki_types::CertificateDer;
use std::{future::poll_fn, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{task::JoinHandle, time::timeout};

/// Nothing in a test takes this long.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// What an answer came to.
pub(super) struct Answer {
    pub(super) head: Response<()>,
    pub(super) text: String,
    pub(super) trailers: HeaderMap,
}

/// A client's connection.
pub(super) struct Client {
    pub(super) endpoint: Endpoint,
    pub(super) quic: quinn::Connection,
    pub(super) h3: SendRequest<OpenStreams, Bytes>,
    /// Why the connection ended.
    pub(super) driver: JoinHandle<String>,
}

/// TLS that believes this certificate.
pub(super) fn tls(certificate: &CertificateDer<'static>) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13]);
    config.unwrap().with_root_certificates(roots).with_no_client_auth()
}

/// QUIC over it.
pub(super) fn config(certificate: &CertificateDer<'static>) -> ClientConfig {
    quic(tls(certificate))
}

/// QUIC over this TLS.
pub(super) fn quic(mut config: rustls::ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h3".to_vec()];
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()))
}

/// Shakes hands.
pub(super) async fn dial(
    to: SocketAddr,
    certificate: &CertificateDer<'static>,
) -> Result<(Endpoint, quinn::Connection), quinn::ConnectionError> {
    dial_from([127, 0, 0, 1], to, certificate).await
}

/// Shakes hands, from this address.
pub(super) async fn dial_from(
    from: [u8; 4],
    to: SocketAddr,
    certificate: &CertificateDer<'static>,
) -> Result<(Endpoint, quinn::Connection), quinn::ConnectionError> {
    dial_with(from, to, config(certificate)).await
}

/// The same, with all else that a client may want.
pub(super) async fn dial_with(
    from: [u8; 4],
    to: SocketAddr,
    config: ClientConfig,
) -> Result<(Endpoint, quinn::Connection), quinn::ConnectionError> {
    let mut endpoint = Endpoint::client((from, 0).into()).unwrap();
    endpoint.set_default_client_config(config);
    let connecting = endpoint.connect(to, HOST).unwrap();
    let quic = timeout(PATIENCE, connecting).await.expect("a handshake in time")?;
    Ok((endpoint, quic))
}

impl Client {
    pub(super) async fn connect(to: SocketAddr, certificate: &CertificateDer<'static>) -> Self {
        Self::over(dial(to, certificate).await.unwrap()).await
    }

    /// On a connection that stands.
    pub(super) async fn over((endpoint, quic): (Endpoint, quinn::Connection)) -> Self {
        let (mut connection, h3) = h3::client::new(h3_quinn::Connection::new(quic.clone())).await.unwrap();
        let driver = tokio::spawn(async move { poll_fn(|cx| connection.poll_close(cx)).await.to_string() });
        Self { endpoint, quic, h3, driver }
    }

    /// Asks, and sends a body.
    pub(super) async fn begin(
        &mut self,
        request: Request<()>,
        body: &[&'static [u8]],
    ) -> Result<RequestStream<BidiStream<Bytes>, Bytes>, StreamError> {
        let mut stream = self.h3.send_request(request).await?;
        for piece in body {
            stream.send_data(Bytes::from_static(piece)).await?;
        }
        stream.finish().await?;
        Ok(stream)
    }

    /// Asks, and reads the answer to its end.
    pub(super) async fn ask(
        &mut self,
        request: Request<()>,
        body: &[&'static [u8]],
    ) -> Result<Answer, StreamError> {
        let asking = async {
            let mut stream = self.begin(request, body).await?;
            answer(&mut stream).await
        };
        timeout(PATIENCE, asking).await.expect("an answer in time")
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.ask(get(path).body(()).unwrap(), &[]).await.unwrap()
    }
}

/// Reads an answer.
pub(super) async fn answer(
    stream: &mut RequestStream<BidiStream<Bytes>, Bytes>,
) -> Result<Answer, StreamError> {
    let head = stream.recv_response().await?;
    let mut body = BytesMut::new();
    while let Some(mut data) = stream.recv_data().await? {
        body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    let trailers = stream.recv_trailers().await?.unwrap_or_default();
    Ok(Answer { head, text: String::from_utf8(body.into()).unwrap(), trailers })
}

pub(super) fn get(path: &str) -> http::request::Builder {
    Request::get(format!("https://{HOST}{path}"))
}
