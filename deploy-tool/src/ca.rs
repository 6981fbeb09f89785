//! Whom to believe for https: the authorities of a given file, or this machine's.

use anyhow::{Context, bail};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::path::{Path, PathBuf};

/// Where systems keep the authorities that they believe: Debian and Alpine, Fedora, SUSE, BSD and macOS.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The authorities of `file`, else of `SSL_CERT_FILE`, else of this machine's bundle.
///
/// # Errors
/// There is none, or it has no certificate.
pub(crate) fn authorities(file: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let named = file.map(Path::to_owned).or_else(|| std::env::var_os("SSL_CERT_FILE").map(PathBuf::from));
    let bundle = || BUNDLES.map(PathBuf::from).into_iter().find(|path| path.exists());
    let Some(file) = named.or_else(bundle) else {
        bail!("this machine has no list of authorities that is known here: give one with --ca-file");
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(&file)
        .with_context(|| format!("the authorities in {} can't be read", file.display()))?;
    // A machine's list may hold some that are too old to be understood.
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    if roots.is_empty() {
        bail!("{} holds no certificate (PEM) of an authority", file.display());
    }
    Ok(roots)
}
