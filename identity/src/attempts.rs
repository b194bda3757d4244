//! The port for counting failed credentials, and their keys there. This module counts nothing
//! itself.

use sha2::{Digest as _, Sha256};
use tensorgate_policy::request::Credential;

use crate::confirmation::ConfirmationFault;

/// Characters of an API key's prefix for counting: `tg_` and five more. Keys of one provider may
/// share a prefix; a lock never rejects a valid key, so that does no harm.
const KEY_PREFIX_CHARS: usize = 8;

/// A credential that is not known to be valid, as its failures are counted. It contains digests
/// only, because the credential is secret or chosen by an attacker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Digest of the part that stays the same over many attempts: a key's first characters; a
    /// token's issuer, key and subject.
    pub prefix: [u8; 32],
    /// Digest of the whole credential.
    pub credential: [u8; 32],
}

/// How much work an unknown credential may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckBudget {
    /// It may be checked.
    Check,
    /// It may not be checked, but must take as long, so that the response time reveals nothing.
    Decoy,
    /// No work: the source has failed too often, and knows that.
    Nothing,
}

/// Counts failed credentials by source.
pub trait Attempts {
    /// How much work an unknown credential may cost.
    fn check_budget(&mut self, _: &Attempt) -> CheckBudget {
        CheckBudget::Check
    }

    /// Records a valid credential that was checked.
    fn record_valid(&mut self, _: &Attempt) {}

    /// Records a failure. Returns whether the source was locked before.
    fn record_failure(&mut self, _: &Attempt) -> bool {
        false
    }

    /// Counts a valid token whose sender has not proven that it is its own.
    fn record_unconfirmed(&mut self, _: ConfirmationFault) {}
}

impl Attempt {
    /// The credential in the header fields as plain text; `None` if there is none.
    pub(crate) fn of(credential: Credential<'_>) -> Option<Self> {
        let (kind, text) = match credential {
            Credential::None => return None,
            Credential::Unknown => ("unknown", ""),
            Credential::ApiKey(text) => ("key", text),
            // A token without claims gets its own prefix.
            Credential::Token(text) => return Some(Self::token(text, [None; 3])),
        };
        let end = text.floor_char_boundary(KEY_PREFIX_CHARS);
        Some(Self {
            prefix: digest(kind, &[text.get(..end)]),
            credential: digest(kind, &[Some(text)]),
        })
    }

    /// A token with its claimed `iss`, `kid` and `sub`, which need not be verified for counting.
    pub(crate) fn token(text: &str, claimed: [Option<&str>; 3]) -> Self {
        Self {
            prefix: digest("token", &claimed),
            credential: digest("token", &[Some(text)]),
        }
    }
}

/// Hashes texts in order, with unambiguous boundaries.
fn digest(kind: &str, texts: &[Option<&str>]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(kind);
    for text in texts {
        let text = text.unwrap_or_default();
        hash.update(text.len().to_be_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}
