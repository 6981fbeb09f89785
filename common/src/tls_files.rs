//! The files of certificates and keys: read with bounds, errors that know the place in the configuration.

use crate::config::{FilePath, Problem};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{Error as PemError, PemObject},
};
use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The largest file that is read, in bytes: a whole system's bundle of authorities has some 200 KiB.
const SIZE_MAX: u64 = 4 << 20;

/// What is wrong with the files of a listener's `tls`, or of `cluster-tls`; at least one fault.
#[derive(Debug)]
pub struct TlsError {
    faults: Vec<FileFault>,
}

/// What is wrong with one file.
#[derive(Debug, Clone)]
pub struct FileFault(Box<(FilePath, String)>);

impl FileFault {
    /// Of this file.
    pub fn new(file: &FilePath, message: impl Into<String>) -> Self {
        Self(Box::new((file.clone(), message.into())))
    }

    /// The fault as an error at its place in the configuration.
    pub fn error(&self) -> Problem {
        self.0.0.location.error(&self.to_string())
    }

    /// The fault as a warning at its place in the configuration.
    pub fn warning(&self) -> Problem {
        self.0.0.location.warning(&self.to_string())
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.0.path.display(), self.0.1)
    }
}

impl TlsError {
    /// Of at least one fault.
    pub fn new(faults: Vec<FileFault>) -> Self {
        debug_assert!(!faults.is_empty(), "an error has a fault");
        Self { faults }
    }

    /// Each fault with its place in the configuration.
    pub fn problems(&self) -> Vec<Problem> {
        self.faults.iter().map(FileFault::error).collect()
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.faults.iter().enumerate() {
            write!(f, "{}{fault}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for TlsError {}

/// The bytes of a regular file of 4 MiB at most; never waits on a pipe or a device.
///
/// # Errors
/// It can't be read, or is no regular file, or larger.
pub fn read(file: &FilePath) -> Result<Vec<u8>, FileFault> {
    let bytes = || -> io::Result<Vec<u8>> {
        let kind = fs::metadata(&file.path)?;
        if !kind.is_file() {
            let what = if kind.is_dir() {
                "it is a folder, a file was expected"
            } else {
                "it is not a regular file"
            };
            return Err(io::Error::other(what));
        }
        let mut bytes = Vec::new();
        File::open(&file.path)?.take(SIZE_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match bytes() {
        Ok(bytes) if bytes.len() as u64 > SIZE_MAX => Err(FileFault::new(file, "it is larger than 4 MiB")),
        Ok(bytes) => Ok(bytes),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            Err(FileFault::new(file, "there is no such file"))
        }
        Err(cause) => Err(FileFault::new(file, format!("can't read it: {cause}"))),
    }
}

/// Where systems keep the authorities that they believe: Debian and Alpine, Fedora, SUSE, BSD and macOS.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The file with the authorities that this machine believes, if it is at a place that is known.
pub fn system_authorities() -> Option<PathBuf> {
    BUNDLES.map(PathBuf::from).into_iter().find(|path| path.exists())
}

/// The certificates of a file, as far as they can be read.
///
/// # Errors
/// The file can't be read.
pub fn authorities(file: &Path) -> Result<impl Iterator<Item = CertificateDer<'static>> + use<>, PemError> {
    Ok(CertificateDer::pem_file_iter(file)?.filter_map(Result::ok))
}

/// Every certificate of a file, at least one, and the file's bytes.
///
/// # Errors
/// It can't be read, or holds something else.
pub fn chain(file: &FilePath) -> Result<(Vec<CertificateDer<'static>>, Vec<u8>), FileFault> {
    let bytes = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|cause| FileFault::new(file, format!("it is not valid PEM: {cause}")))?;
    if found.is_empty() {
        let hint = match () {
            () if bytes.is_empty() => "it is empty",
            () if bytes.starts_with(&[0x30]) => {
                "it is DER; convert it with `openssl x509 -inform der -outform pem`"
            }
            () if contains(&bytes, "PRIVATE KEY-----") => "it holds a private key",
            () => "expected `-----BEGIN CERTIFICATE-----`",
        };
        return Err(FileFault::new(file, format!("no certificate in it: {hint}")));
    }
    Ok((found, bytes))
}

/// The first private key of a file, and the file's bytes.
///
/// # Errors
/// It can't be read, holds something else, or the key is encrypted.
pub fn private_key(file: &FilePath) -> Result<(PrivateKeyDer<'static>, Vec<u8>), FileFault> {
    let bytes = read(file)?;
    let encrypted =
        contains(&bytes, "BEGIN ENCRYPTED PRIVATE KEY") || contains(&bytes, "Proc-Type: 4,ENCRYPTED");
    let key = PrivateKeyDer::from_pem_slice(&bytes);
    match key {
        _ if encrypted => Err(FileFault::new(
            file,
            "the private key is encrypted, and there is nobody to ask for its password: decrypt it with `openssl pkey`",
        )),
        Ok(key) => Ok((key, bytes)),
        Err(PemError::NoItemsFound) => {
            let hint = match () {
                () if bytes.is_empty() => "it is empty",
                () if bytes.starts_with(&[0x30]) => "it is DER; convert it with `openssl pkey -inform der`",
                () if contains(&bytes, "BEGIN CERTIFICATE-----") => "it holds a certificate",
                () => "expected `-----BEGIN PRIVATE KEY-----`",
            };
            Err(FileFault::new(file, format!("no private key in it: {hint}")))
        }
        Err(cause) => Err(FileFault::new(file, format!("it is not valid PEM: {cause}"))),
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
