//! Signatures by Sigstore identities, verified offline against a given trusted root.
//!
//! A signer proves an identity to a certificate authority, which issues a certificate for ten
//! minutes. A transparency log takes in the signature and signs when it did. Rekor v2 signs no
//! time, so a time stamp authority does. Verified are, in this order: time stamps, the log's entry,
//! the certificate at each of these times, the certificate's own log, the identity and who vouches
//! for it, and that the entry is about this very signature.
//!
//! Its modules, from bottom to top: `fault`, `trusted_root`, `time_stamp`, `merkle`, `checkpoint`,
//! `entry`, `body`, `certificate_log`, `identity`.

mod body;
mod certificate_log;
mod checkpoint;
mod entry;
mod fault;
mod identity;
mod merkle;
mod time_stamp;
mod trusted_root;

pub use fault::{IdentityFault, TimeStampFault};
pub use trusted_root::{MAX_TRUSTED_ROOT_BYTES, TrustedRoot, TrustedRootFault};

use super::bundle::IdentityMaterial;
use super::requirements::SignedAt;
use body::Signed;
use entry::Logged;

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
    /// when it was signed, and who says so.
    pub(super) fn check(
        &self,
        material: &IdentityMaterial,
        payload: &[u8],
        signature: &[u8],
    ) -> Result<SignedAt, IdentityFault> {
        let IdentityMaterial {
            certificate, entry, ..
        } = material;
        let Logged { body, signed_at } = witnessed(&self.root, material, signature)?;
        identity::check(certificate, &self.identity, &self.provider)?;
        let signed = Signed {
            certificate,
            payload,
            signature,
        };
        body::check(&body, &entry.kind_version, signed)?;
        Ok(signed_at)
    }
}

/// Checks what the services of a trusted root say about a signature and its certificate.
///
/// A time stamp that cannot be verified counts for nothing, so it is a fault only where nothing
/// else says the time. The certificate must be valid at each time that is verified.
fn witnessed(
    root: &TrustedRoot,
    material: &IdentityMaterial,
    signature: &[u8],
) -> Result<Logged, IdentityFault> {
    let IdentityMaterial {
        certificate,
        entry,
        time_stamps,
    } = material;
    let mut stamped = Vec::new();
    let mut cause = None;
    for stamp in time_stamps {
        match time_stamp::check(stamp, signature, root) {
            Ok(time_s) => stamped.push(time_s),
            Err(fault) => cause = cause.or(Some(fault)),
        }
    }
    let earliest = stamped.iter().min().copied();
    let stamped_s = earliest.ok_or_else(|| cause.map_or(IdentityFault::NoTime, Into::into));
    let logged = entry::check(entry, root, stamped_s)?;
    let issuer = root.issuer(certificate, logged.signed_at.time_s)?;
    for time_s in stamped {
        root.issuer(certificate, time_s)?;
    }
    certificate_log::check(certificate, issuer, root)?;
    Ok(logged)
}

#[cfg(test)]
mod tests;
