//! Settlement of a token reservation, signed by the sandbox host for the filter.
//!
//! `s1.<fields>.<mac>`, in the form of [`crate::context`] with the same key. The version prefixes
//! differ, so neither can be used as the other.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac as _;

use crate::context::Key;

/// Response trailer with the settlement, or with the release of a host that rejects the request
/// because it does not understand the filter ([`crate::context::Release`]). The filter removes it.
pub const TRAILER: &str = "x-tensorgate-settlement";

/// Version prefix.
const VERSION: &str = "s1.";

/// Maximum size: a request id is a UUID.
const MAX_BYTES: usize = 512;

/// Tokens that a request used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The gate's request id.
    pub request_id: String,
    /// Tokens of request and response.
    pub tokens: u64,
}

/// Why a settlement is rejected; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SettlementFault {
    #[error("settlement is not in the form that a host writes")]
    Form,
    #[error("settlement's signature does not verify")]
    Signature,
}

impl Settlement {
    /// Encodes and signs the trailer's value.
    pub fn sign(&self, key: &Key) -> String {
        let mut fields = self.tokens.to_be_bytes().to_vec();
        fields.extend_from_slice(self.request_id.as_bytes());
        let mut value = String::from(VERSION);
        URL_SAFE_NO_PAD.encode_string(fields, &mut value);
        let mac = key.mac(&value).finalize().into_bytes();
        value.push('.');
        URL_SAFE_NO_PAD.encode_string(mac, &mut value);
        value
    }

    /// Verifies a trailer's value. The signature is compared in constant time first.
    ///
    /// # Errors
    /// The failure.
    pub fn verify(value: &str, key: &Key) -> Result<Self, SettlementFault> {
        if value.len() > MAX_BYTES {
            return Err(SettlementFault::Form);
        }
        let (signed, mac) = value.rsplit_once('.').ok_or(SettlementFault::Form)?;
        let fields = signed.strip_prefix(VERSION).ok_or(SettlementFault::Form)?;
        let mac = URL_SAFE_NO_PAD
            .decode(mac)
            .map_err(|_| SettlementFault::Form)?;
        key.mac(signed)
            .verify_slice(&mac)
            .map_err(|_| SettlementFault::Signature)?;
        let fields = URL_SAFE_NO_PAD
            .decode(fields)
            .map_err(|_| SettlementFault::Form)?;
        let (tokens, request_id) = fields.split_first_chunk().ok_or(SettlementFault::Form)?;
        Ok(Self {
            request_id: String::from_utf8(request_id.to_vec())
                .map_err(|_| SettlementFault::Form)?,
            tokens: u64::from_be_bytes(*tokens),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::context::{Context, RemainingQuotas};
    use tensorgate_policy::request::Proofs;

    fn key(byte: u8) -> Key {
        Key::from_hex(&(format!("{byte:02x}").repeat(31) + "f0")).unwrap()
    }

    fn settlement() -> Settlement {
        Settlement {
            request_id: "0f3c".into(),
            tokens: 1_234,
        }
    }

    #[test]
    fn only_signed_settlements_are_read() {
        let value = settlement().sign(&key(7));
        assert_eq!(Settlement::verify(&value, &key(7)), Ok(settlement()));
        let check = |value: &str, fault| {
            assert_eq!(Settlement::verify(value, &key(7)), Err(fault), "{value}");
        };
        assert_eq!(
            Settlement::verify(&value, &key(8)),
            Err(SettlementFault::Signature)
        );
        let other = Settlement {
            tokens: 1,
            ..settlement()
        };
        let (fields, _) = value.rsplit_once('.').unwrap();
        let forged = other.sign(&key(8));
        let (_, mac) = forged.rsplit_once('.').unwrap();
        check(&format!("{fields}.{mac}"), SettlementFault::Signature);
        check(fields, SettlementFault::Form);
        check("", SettlementFault::Form);
        check(&format!("{value},{value}"), SettlementFault::Signature);
        check(&"s1.".repeat(200), SettlementFault::Form);
        check(&value.replacen("s1.", "s2.", 1), SettlementFault::Form);
    }

    #[test]
    fn a_context_is_no_settlement_and_a_settlement_no_context() {
        let context = Context {
            client: None,
            credential: None,
            proofs: Proofs::NONE,
            request_id: "0f3c".into(),
            method: "POST".into(),
            path: "/".into(),
            generation: "ab12".into(),
            issued_unix_s: 1,
            checked: true,
            verdicts: 0,
            quotas: RemainingQuotas::default(),
            claims: Vec::new(),
        };
        let value = context.sign(&key(7));
        assert_eq!(
            Settlement::verify(&value, &key(7)),
            Err(SettlementFault::Form)
        );
        let value = settlement().sign(&key(7));
        assert!(Context::verify(&value, &key(7), "POST", "/", 1, 30).is_err());
    }
}
