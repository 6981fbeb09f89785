//! Whom to believe for https: the authorities of a given file, or this machine's.

use anyhow::{Context, bail};
use common::tls_files::{self, system_authorities};
use rustls::RootCertStore;
use std::path::{Path, PathBuf};

/// The authorities of `file`, else of `SSL_CERT_FILE`, else of this machine's bundle.
///
/// # Errors
/// There is none, or it has no certificate.
pub(crate) fn authorities(file: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let named = file.map(Path::to_owned).or_else(|| std::env::var_os("SSL_CERT_FILE").map(PathBuf::from));
    let Some(file) = named.or_else(system_authorities) else {
        bail!("this machine has no list of authorities that is known here: give one with --ca-file");
    };
    let mut roots = RootCertStore::empty();
    let certificates = tls_files::authorities(&file)
        .with_context(|| format!("the authorities in {} can't be read", file.display()))?;
    // A machine's list may hold some that are too old to be understood.
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        bail!("{} holds no certificate (PEM) of an authority", file.display());
    }
    Ok(roots)
}
