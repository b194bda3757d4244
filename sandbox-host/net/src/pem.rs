//! Certificates and keys in PEM files.

use std::io;
use std::path::{Path, PathBuf};

use tensorgate_base::files::{at_most, open};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The largest file of certificates or keys in bytes: hundreds of authorities.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", path.display())]
pub struct TlsError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub cause: String,
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// Returns an error if the file cannot be read, or has no complete certificate.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |cause: String| TlsError {
        path: path.to_owned(),
        cause,
    };
    let read: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(&bytes(path, MAX_FILE_BYTES)?).collect();
    let read = read.map_err(|error| failed(error.to_string()))?;
    if read.is_empty() {
        return Err(failed("contains no certificate".to_owned()));
    }
    Ok(read)
}

/// The first private key of a PEM file.
///
/// # Errors
/// Returns an error if the file cannot be read or has no key.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let private_key = PrivateKeyDer::from_pem_slice(&bytes(path, MAX_FILE_BYTES)?);
    private_key.map_err(|error| TlsError {
        path: path.to_owned(),
        cause: error.to_string(),
    })
}

/// Reads a file of at most this many bytes.
///
/// # Errors
/// Returns an error if the path cannot be read, is no file, or is larger.
pub fn bytes(path: &Path, max_bytes: u64) -> Result<Vec<u8>, TlsError> {
    let read = || -> io::Result<Vec<u8>> {
        let file = open(path)?;
        let content = if file.metadata()?.is_file() {
            at_most(file, max_bytes)?
        } else {
            None
        };
        let mib = max_bytes >> 20;
        content.ok_or_else(|| io::Error::other(format!("not a file of at most {mib} MiB")))
    };
    read().map_err(|error| TlsError {
        path: path.to_owned(),
        cause: error.to_string(),
    })
}
