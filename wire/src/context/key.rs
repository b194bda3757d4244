//! The key that filter and host share, and values derived from it. Never printed or stored.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use tensorgate_policy::unhex;

/// The shared HMAC-SHA256 key, 32 bytes. Never printed. Stored as HMAC's state after both paddings,
/// which saves half of the cost of a signature.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// Parses 64 hex digits with optional surrounding white space.
    pub fn from_hex(text: &str) -> Option<Self> {
        let key: [u8; 32] = unhex(text.trim_ascii().to_ascii_lowercase().as_bytes())?;
        // HMAC accepts keys of any length.
        Hmac::new_from_slice(&key).ok().map(Self)
    }

    /// A name for `parts` that only holders of the key can compute. Its input differs from that of
    /// every context.
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
