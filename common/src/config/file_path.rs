//! Files that the configuration names. They are read by the servers that need them, not by the loader.

use super::problem::Location;
use std::path::PathBuf;

/// A file that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath {
    /// Where it is: absolute.
    pub path: PathBuf,
    /// Where its name stands.
    pub location: Location,
}

/// A certificate's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// `cert`: the certificate and the chain up to its root, in PEM.
    pub cert: FilePath,
    /// `key`: its private key, in PEM.
    pub key: FilePath,
}
