//! The key that gate and host share, and what is made with it. Never printed, never written.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

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
        let mut key = [0; 32];
        let (pairs, rest) = text.trim_ascii().as_bytes().as_chunks::<2>();
        if pairs.len() != key.len() || !rest.is_empty() {
            return None;
        }
        for (byte, &[high, low]) in key.iter_mut().zip(pairs) {
            let digit = |digit: u8| {
                char::from(digit)
                    .to_digit(16)
                    .and_then(|value| u8::try_from(value).ok())
            };
            *byte = digit(high)? << 4 | digit(low)?;
        }
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

    pub(super) fn mac(&self, signed: &str) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(signed.as_bytes());
        mac
    }
}
