//! The files of certificates and keys: read with bounds, errors that know the place in the configuration.

use common::config::{FilePath, Problem};
use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
};

/// The largest file that is read, in bytes: a whole system's bundle of authorities has some 200 KiB.
const SIZE_MAX: u64 = 4 << 20;

/// What is wrong with the files of a listener's `tls`; at least one fault.
#[derive(Debug)]
pub struct TlsError {
    faults: Vec<FileFault>,
}

/// What is wrong with one file.
#[derive(Debug, Clone)]
pub(super) struct FileFault(Box<(FilePath, String)>);

impl FileFault {
    pub(super) fn new(file: &FilePath, message: impl Into<String>) -> Self {
        Self(Box::new((file.clone(), message.into())))
    }

    /// The fault as an error at its place in the configuration.
    pub(super) fn error(&self) -> Problem {
        self.0.0.location.error(&self.to_string())
    }

    /// The fault as a warning at its place in the configuration.
    pub(super) fn warning(&self) -> Problem {
        self.0.0.location.warning(&self.to_string())
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.0.path.display(), self.0.1)
    }
}

impl TlsError {
    pub(super) fn new(faults: Vec<FileFault>) -> Self {
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

/// The bytes of a regular file; never waits on a pipe or a device.
pub(super) fn read(file: &FilePath) -> Result<Vec<u8>, FileFault> {
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
