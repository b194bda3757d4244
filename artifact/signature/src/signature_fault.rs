//! Why a signature of a component is rejected.

use crate::key::KeyFault;

/// Maximum size of a signature file. The usual size is about 800 bytes.
pub const MAX_SIGNATURE_BYTES: usize = 16 << 10;
/// Maximum length of quoted foreign text, in characters.
const MAX_QUOTED_CHARS: usize = 200;

/// Why a signature is rejected. All texts are for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// The file is too large.
    #[error("the signature is larger than {MAX_SIGNATURE_BYTES} bytes")]
    TooLarge,
    /// The file is not in the form that `sign` writes.
    #[error("not a signature: {0}")]
    Form(String),
    /// An invalid key in the policy.
    #[error("key {0} {1}")]
    Key(String, KeyFault),
    /// Not signed by a trusted key.
    #[error("signed by none of the keys that count ({0})")]
    Unsigned(String),
    /// Signed, but for other bytes.
    #[error("signs another component: sha256 {signed}, the policy says {expected}")]
    Digest {
        /// The signed digest, hex.
        signed: String,
        /// The component's digest, hex.
        expected: String,
    },
    /// Signed with another name or version.
    #[error("signs {signed}, the policy says {expected}")]
    Name {
        /// The signed name.
        signed: String,
        /// The expected name.
        expected: String,
    },
}

impl SignatureFault {
    /// A JSON error, truncated because it may quote the file.
    pub fn unread(what: &str, error: &serde_json::Error) -> Self {
        let error: String = error.to_string().chars().take(MAX_QUOTED_CHARS).collect();
        Self::Form(format!("{what}: {error}"))
    }
}
