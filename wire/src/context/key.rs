//! The key that gate and host share, and what is made with it. Never printed, never written.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use tensorgate_policy::unhex;

/// The HMAC-SHA256 key that gate and host share, 32 bytes. Never printed. Kept as HMAC's state after both of its paddings, which would
/// otherwise be half of a signature's cost.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// Reads 64 hex digits, surrounding white space apart.
    pub fn from_hex(text: &str) -> Option<Self> {
        let key: [u8; 32] = unhex(text.trim_ascii().to_ascii_lowercase().as_bytes())?;
        // HMAC takes a key of any length.
        Hmac::new_from_slice(&key).ok().map(Self)
    }

    /// A name that nobody without the key can compute, for `parts` in their order. Contexts begin otherwise, so that none is ever such a name.
    pub fn name(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.mac("name");
        for part in parts {
            mac.update(&part.len().to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    pub(crate) fn mac(&self, signed: &str) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(signed.as_bytes());
        mac
    }
}
