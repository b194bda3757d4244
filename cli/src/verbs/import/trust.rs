//! TLS trust of the command's own HTTPS requests: the system's authorities, or those of a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tensorgate_cli_common::bounded_file::read_at_most;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Largest file of certificate authorities, bytes.
const MAX_CA_BYTES: u64 = 4 << 20;
/// Usual paths of the system's certificate authorities.
const SYSTEM: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// TLS configuration with the trusted authorities.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// Trusts the authorities in a file, by default the system's.
    ///
    /// # Errors
    /// There are no usable certificates.
    pub fn from_file(file: Option<&Path>) -> Result<Self, String> {
        let named = file.map(Path::to_owned).or_else(|| {
            let set = std::env::var_os("SSL_CERT_FILE").filter(|value| !value.is_empty());
            set.map(PathBuf::from)
        });
        let file = match named {
            Some(file) => file,
            None => (SYSTEM.iter().map(PathBuf::from))
                .find(|file| file.is_file())
                .ok_or("this system has no file of certificate authorities: name one with --ca")?,
        };
        let bad = |why: String| format!("{}: {why}", file.display());
        let pem = read_at_most(&file, MAX_CA_BYTES)
            .map_err(|error| bad(error.to_string()))?
            .ok_or_else(|| bad("is too large".to_owned()))?;
        let mut roots = RootCertStore::empty();
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let certificates = certificates.map_err(|error| bad(error.to_string()))?;
        let (taken, _) = roots.add_parsable_certificates(certificates);
        if taken == 0 {
            return Err(bad("contains no certificate of an authority".to_owned()));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// The TLS settings.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }
}
