//! The key that filter and host share, and values derived from it. Never printed or stored.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use tensorgate_policy::unhex;

use super::fault::ContextFault;

/// Size of a signature: the first half of HMAC-SHA256, which RFC 2104 (5) allows.
const MAC_BYTES: usize = 16;

/// Size of a signature up to format 10.
const FULL_MAC_BYTES: usize = 32;

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
            // The same in a filter, which is compiled for 32 bits, and in a host.
            let bytes = u64::try_from(part.len()).unwrap_or(u64::MAX);
            mac.update(&bytes.to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Appends the signature of a text to it, behind a dot.
    pub(crate) fn sign(&self, text: &mut String) {
        self.sign_with(text, MAC_BYTES);
    }

    /// The same with the whole HMAC, which every release verifies.
    pub(crate) fn sign_for_all(&self, text: &mut String) {
        self.sign_with(text, FULL_MAC_BYTES);
    }

    fn sign_with(&self, text: &mut String, bytes: usize) {
        let mac = self.mac(text).finalize().into_bytes();
        text.push('.');
        let mac = mac.get(..bytes).unwrap_or(&mac);
        URL_SAFE_NO_PAD.encode_string(mac, text);
    }

    /// The part of a text that its end signs. `Err`: the end is no signature, or not of this key.
    /// Signatures are compared in constant time.
    pub(crate) fn signed<'t>(&self, text: &'t str) -> Result<&'t str, ContextFault> {
        let (signed, mac) = text.rsplit_once('.').ok_or(ContextFault::Form)?;
        let mac = URL_SAFE_NO_PAD.decode(mac);
        let mac = mac.map_err(|_| ContextFault::Form)?;
        if mac.len() != MAC_BYTES && mac.len() != FULL_MAC_BYTES {
            return Err(ContextFault::Form);
        }
        let verified = self.mac(signed).verify_truncated_left(&mac);
        verified.map_err(|_| ContextFault::Signature)?;
        Ok(signed)
    }

    pub(super) fn mac(&self, signed: &str) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(signed.as_bytes());
        mac
    }
}
