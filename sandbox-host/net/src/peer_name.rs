//! Names of peers in their certificates.

use tokio_rustls::rustls::pki_types::DnsName;

/// The scheme of SPIFFE IDs.
pub const SPIFFE: &str = "spiffe://";

/// Whether a name can be a peer's in its certificate: a SPIFFE ID or a DNS name. A pattern is none:
/// names are compared exactly.
pub fn is_peer_name(name: &str) -> bool {
    match name.strip_prefix(SPIFFE) {
        Some(rest) => {
            let graphic = rest.bytes().all(|byte| byte.is_ascii_graphic());
            let parts = rest.split_once('/');
            graphic && parts.is_some_and(|(domain, path)| !domain.is_empty() && !path.is_empty())
        }
        None => DnsName::try_from(name).is_ok(),
    }
}
