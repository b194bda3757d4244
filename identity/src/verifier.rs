//! The port for signature verification: in Rust, or by the proxy's library if that is faster.

use tensorgate_policy::policy::KeyMaterial;

/// The verifier failed: nothing is known about the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signature cannot be checked: {0}")]
pub struct VerifyFault(pub &'static str);

/// Verifies signatures. The key determines the algorithm; no other can be requested.
pub trait Verifier {
    /// Whether `signature`, in JWS form (RFC 7518, 3.3 and 3.4; RFC 8037, 3.1), is the key's over
    /// `signed`.
    ///
    /// # Errors
    /// Nothing is known. A signature with a wrong length or form is `Ok(false)`.
    fn verify(
        &mut self,
        key: &KeyMaterial,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, VerifyFault>;

    /// The same for a result that is discarded: it takes the time of a verification, also where
    /// earlier results are known.
    ///
    /// # Errors
    /// As above.
    fn verify_anew(
        &mut self,
        key: &KeyMaterial,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, VerifyFault> {
        self.verify(key, signed, signature)
    }
}
