//! A client's certificate as applications get to know it: header fields.

use aws_lc_rs::digest;
use std::fmt::Write;
use x509::{X509, date, distinguished_name};

/// The fields begin with it. HAProxy's and nginx's users write them by hand under these names.
const PREFIX: &[u8] = b"x-ssl-client-";

/// Fields of RFC 9440, which say the same: we don't send them, and nobody else may.
const OTHERS: [&[u8]; 2] = [b"client-cert", b"client-cert-chain"];

/// `X-SSL-Client-Verify`: `SUCCESS`, or `NONE` for a client without a certificate where one is optional.
pub(super) const VERIFY: &str = "X-SSL-Client-Verify";

/// Whether a client's own field of this name would be believed to be ours: such fields are taken off every request, on every
/// listener. What is no letter or digit counts as `-`: CGI and its kin can't tell them apart.
pub(crate) fn is_client_certificate_field(name: &[u8]) -> bool {
    let same = |byte: &u8, expected: &u8| {
        byte.to_ascii_lowercase() == *expected || (!byte.is_ascii_alphanumeric() && *expected == b'-')
    };
    let begins = |prefix: &[u8]| {
        name.len() >= prefix.len() && name.iter().zip(prefix).all(|(it, as_in)| same(it, as_in))
    };
    begins(PREFIX) || OTHERS.iter().any(|other| name.len() == other.len() && begins(other))
}

/// A verified client certificate. Made once a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    fields: Box<[(&'static str, Box<str>)]>,
}

impl ClientCertificate {
    pub(super) fn new(der: &[u8]) -> Self {
        let mut fields: Vec<(&'static str, String)> = vec![(VERIFY, "SUCCESS".to_owned())];
        if let Some(x509) = X509::parse(der) {
            let subject = distinguished_name(x509.subject).map(|name| ("X-SSL-Client-S-DN", name));
            let issuer = distinguished_name(x509.issuer).map(|name| ("X-SSL-Client-I-DN", name));
            fields.extend(subject.into_iter().chain(issuer));
            fields.push(("X-SSL-Client-Serial", hex(x509.serial)));
            fields.push(("X-SSL-Client-Not-After", date(x509.not_after)));
        }
        let fingerprint = hex(digest::digest(&digest::SHA256, der).as_ref());
        fields.push(("X-SSL-Client-Fingerprint", fingerprint));
        Self { fields: fields.into_iter().map(|(name, value)| (name, value.into_boxed_str())).collect() }
    }

    /// The header fields that tell of it: names, and values of printable ASCII.
    ///
    /// `X-SSL-Client-Verify` (`SUCCESS`), `X-SSL-Client-S-DN` and `X-SSL-Client-I-DN` (subject and issuer, RFC 4514),
    /// `X-SSL-Client-Serial` (hex), `X-SSL-Client-Not-After` (`2026-01-31`), `X-SSL-Client-Fingerprint` (SHA-256, hex).
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.fields.iter().map(|(name, value)| (*name, &**value))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_could_pass_for_our_fields_is_known() {
        for name in [
            "X-SSL-Client-Verify",
            "x-ssl-client-s-dn",
            "X_SSL_CLIENT_VERIFY",
            "X-SSL-Client-",
            "X-SSL-Client-Anything",
            "Client-Cert",
            "client_cert_chain",
            "X.SSL.Client.Verify",
        ] {
            assert!(is_client_certificate_field(name.as_bytes()), "{name}");
        }
        for name in
            ["", "X-SSL-Client", "X-SSL", "Client-Cert-Chains", "Client-Certificate", "XX-SSL-Client-Verify"]
        {
            assert!(!is_client_certificate_field(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn bytes_that_are_no_certificate_have_a_fingerprint() {
        let fields: Vec<_> =
            ClientCertificate::new(b"abc").fields().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(
            fields,
            [
                "X-SSL-Client-Verify: SUCCESS",
                "X-SSL-Client-Fingerprint: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
            ]
        );
    }
}
