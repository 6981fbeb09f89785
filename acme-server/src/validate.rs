//! Asks for challenges, as an authority does.

use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

const LIMIT: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) is_tls: bool,
    pub(crate) at: SocketAddr,
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) expected: String,
}

/// Whether the answer is the one that is expected; else why it is not.
pub(crate) async fn validate(question: &Question) -> Result<(), String> {
    let asked = async { if question.is_tls { tls_alpn(question).await } else { http(question).await } };
    timeout(LIMIT, asked).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

async fn http(question: &Question) -> Result<(), String> {
    let Question { at, name, token, expected, .. } = question;
    let mut stream = TcpStream::connect(at).await.map_err(|cause| cause.to_string())?;
    let request = format!(
        "GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|cause| cause.to_string())?;
    let mut answer = Vec::new();
    stream.take(64 << 10).read_to_end(&mut answer).await.map_err(|cause| cause.to_string())?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.starts_with("HTTP/1.1 200") && body.trim_end() == expected {
        return Ok(());
    }
    Err(format!("{at} answered `{status}` and {} bytes that are not the key authorization", body.len()))
}

async fn tls_alpn(question: &Question) -> Result<(), String> {
    let Question { at, name, expected, .. } = question;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|cause| cause.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let stream = TcpStream::connect(at).await.map_err(|cause| cause.to_string())?;
    let to = ServerName::try_from(name.clone()).map_err(|cause| cause.to_string())?;
    let connected = TlsConnector::from(Arc::new(config)).connect(to, stream).await;
    let mut stream = connected.map_err(|cause| format!("{at}: {cause}"))?;
    let session = stream.get_ref().1;
    if session.alpn_protocol() != Some(b"acme-tls/1") {
        return Err("acme-tls/1 was not chosen".to_owned());
    }
    let shown = session.peer_certificates().and_then(<[_]>::first).ok_or("no certificate")?.to_vec();
    // id-pe-acmeIdentifier, critical, and an OCTET STRING in an OCTET STRING.
    let digest = digest(&SHA256, expected.as_bytes());
    let extension = [
        &[
            0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x1f, 0x01, 0x01, 0xff, 0x04, 0x22, 0x04,
            0x20,
        ][..],
        digest.as_ref(),
    ]
    .concat();
    let has = |bytes: &[u8]| shown.windows(bytes.len()).any(|it| it == bytes);
    if !has(&extension) || !has(name.as_bytes()) {
        return Err("the certificate does not bear the digest of the key authorization".to_owned());
    }
    // Nothing is spoken after it.
    let mut rest = Vec::new();
    stream
        .read_to_end(&mut rest)
        .await
        .map_err(|cause| format!("the connection did not end well: {cause}"))?;
    if rest.is_empty() { Ok(()) } else { Err("something was spoken after the handshake".to_owned()) }
}

/// Any certificate: it proves nothing but what is in it.
#[derive(Debug)]
struct Anyone(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // The library does not look into a certificate with a critical extension that it does not know.
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // The library does not look into a certificate with a critical extension that it does not know.
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
