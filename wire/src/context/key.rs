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

/// Why a text is not a key. No message has a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// It has another form.
    #[error("is not 64 hex digits")]
    Form,
    /// A placeholder, such as zeros, which anyone can guess.
    #[error("repeats one byte: make a random key with `openssl rand -hex 32`")]
    OneByte,
}

impl Key {
    /// Parses 64 hex digits with optional surrounding white space.
    ///
    /// # Errors
    /// It has another form, or is easy to guess.
    pub fn from_hex(text: &str) -> Result<Self, KeyFault> {
        let digits = text.trim_ascii().to_ascii_lowercase();
        let key: [u8; 32] = unhex(digits.as_bytes()).ok_or(KeyFault::Form)?;
        let [first, others @ ..] = &key;
        if others.iter().all(|byte| byte == first) {
            return Err(KeyFault::OneByte);
        }
        // HMAC accepts keys of any length.
        let mac = Hmac::new_from_slice(&key);
        mac.map(Self).map_err(|_| KeyFault::Form)
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
