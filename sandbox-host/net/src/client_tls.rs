//! TLS to servers of the policy: whose certificates are trusted.

use std::path::Path;
use std::sync::Arc;

use tensorgate_policy::policy::BackendTls;

use crate::pem::TlsError;
use crate::tls::Tls;

/// The usual paths of a system's trust anchors.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// TLS of a client of HTTP/1.1. Without `trust`, the system's trust anchors vouch for servers.
/// Files are relative to `root`.
///
/// # Errors
/// Returns an error if a file cannot be used.
pub fn client_tls(root: &Path, trust: Option<BackendTls>) -> Result<Arc<Tls>, TlsError> {
    let trust = trust.unwrap_or_else(|| BackendTls::of_authorities(system_authorities()));
    Tls::new(root, &trust, b"http/1.1").map(Arc::new)
}

/// The system's trust anchors.
fn system_authorities() -> &'static str {
    let [usual, others @ ..] = &SYSTEM_AUTHORITIES;
    let there = |file: &&&str| Path::new(file).is_file();
    let found = std::iter::once(usual).chain(others).find(there);
    found.unwrap_or(usual)
}
