//! A client that believes any certificate, and says what it was shown.

use super::*;
use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::UnixTime,
};
use std::sync::Mutex;

/// Takes any certificate that is signed by one of some schemes.
#[derive(Debug)]
pub(super) struct Credulous {
    schemes: Vec<SignatureScheme>,
    /// What was stapled to the last one.
    pub(super) staple: Mutex<Vec<u8>>,
}

impl Credulous {
    pub(super) fn of(schemes: Vec<SignatureScheme>) -> Arc<Self> {
        Arc::new(Self { schemes, staple: Mutex::default() })
    }

    /// One that takes any scheme.
    pub(super) fn of_all() -> Arc<Self> {
        Self::of(listener::provider().signature_verification_algorithms.supported_schemes())
    }
}

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        staple: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.staple.lock().unwrap() = staple.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
