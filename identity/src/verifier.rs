//! The port behind which signatures are checked: in Rust everywhere, by the proxy's own library where that is faster.

use tensorgate_policy::policy::KeyMaterial;

/// The verifier could not do its work: nothing is known of the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signature cannot be checked: {0}")]
pub struct VerifyFault(pub &'static str);

/// Checks signatures. The key says which algorithm: there is no way to ask for one that is not the key's.
pub trait Verifier {
    /// Whether `signature`, in the form that JWS gives it (RFC 7518, 3.3 and 3.4; RFC 8037, 3.1), is the key's over `signed`.
    ///
    /// # Errors
    /// Nothing is known. A signature of the wrong length or form is `Ok(false)`.
    fn verify(
        &mut self,
        key: &KeyMaterial,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, VerifyFault>;
}
