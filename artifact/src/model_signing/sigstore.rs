//! Signatures by Sigstore identities, verified offline against a given trusted root.
//!
//! A signer proves an identity to a certificate authority, which issues a certificate for ten
//! minutes. A transparency log takes in the signature and signs when it did. Verified are, in this
//! order: the log's entry, the certificate at the time of the log, the certificate's own log, the
//! identity and who vouches for it, and that the entry is about this very signature.
//!
//! Its modules, from bottom to top: `fault`, `trusted_root`, `merkle`, `checkpoint`, `entry`,
//! `body`, `certificate_log`, `identity`.

mod body;
mod certificate_log;
mod checkpoint;
mod entry;
mod fault;
mod identity;
mod merkle;
mod trusted_root;

pub use fault::IdentityFault;
pub use trusted_root::{MAX_TRUSTED_ROOT_BYTES, TrustedRoot, TrustedRootFault};

use super::bundle::IdentityMaterial;

/// The identity that must have signed, and the services that are trusted to know it.
#[derive(Clone, Debug)]
pub struct TrustedIdentity {
    /// Authorities and logs.
    pub root: TrustedRoot,
    /// A mail address or a URI, compared exactly.
    pub identity: String,
    /// The URL of the provider of identities that vouches for it, compared exactly.
    pub provider: String,
}

impl TrustedIdentity {
    /// Checks that a log had the signature while the identity's certificate was valid. Returns
    /// when the log took it in, in seconds since 1970.
    pub(super) fn check(
        &self,
        material: &IdentityMaterial,
        payload: &[u8],
        signature: &[u8],
    ) -> Result<u64, IdentityFault> {
        let IdentityMaterial { certificate, entry } = material;
        let logged = entry::check(entry, &self.root)?;
        let issuer = self.root.issuer(certificate, logged.time_s)?;
        certificate_log::check(certificate, issuer, &self.root)?;
        identity::check(certificate, &self.identity, &self.provider)?;
        body::check(&logged.body, certificate, payload, signature)?;
        Ok(logged.time_s)
    }
}

#[cfg(test)]
mod tests;
