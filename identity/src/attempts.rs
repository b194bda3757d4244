//! The port behind which wrong credentials are counted, and what a credential is called there. It counts nothing and keeps nothing.

use sha2::{Digest as _, Sha256};
use tensorgate_policy::request::Credential;

/// Characters of an API key, or of whatever came in its place, that make its prefix: `tg_` and five more.
const KEY_PREFIX_CHARS: usize = 8;

/// A credential that is not known to be right, as its failures are counted. Digests: what came is an attacker's to choose, or a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Of what is tried again and again with other secrets: a key's first characters; a token's issuer, key and subject, as far as it says them.
    pub prefix: [u8; 32],
    /// Of the whole.
    pub whole: [u8; 32],
}

/// What a credential that nobody knows may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It may be checked.
    Check,
    /// It may not, and is to cost as much: whoever sent it is not to learn that.
    Decoy,
    /// Nothing: too many came from there of late, and their sender knows how many.
    Nothing,
}

/// Counts wrong credentials by where they come from.
pub trait Attempts {
    /// What a credential that nobody knows may cost.
    fn worth(&mut self, _: &Attempt) -> Worth {
        Worth::Check
    }

    /// It cost something, and was right.
    fn was_right(&mut self, _: &Attempt) {}

    /// It was wrong. Whether it came from where too many came before.
    fn was_wrong(&mut self, _: &Attempt) -> bool {
        false
    }
}

impl Attempt {
    /// What came in the header fields, as far as it is nothing more than a text; `None` if nothing came.
    pub(crate) fn of(credential: Credential<'_>) -> Option<Self> {
        let (kind, text) = match credential {
            Credential::None => return None,
            Credential::Unknown => ("unknown", ""),
            Credential::ApiKey(text) => ("key", text),
            // One that says what it is gets a prefix of its own.
            Credential::Token(text) => return Some(Self::token(text, [None; 3])),
        };
        let end = text.floor_char_boundary(KEY_PREFIX_CHARS);
        Some(Self {
            prefix: digest(kind, &[text.get(..end)]),
            whole: digest(kind, &[Some(text)]),
        })
    }

    /// A token, and its `iss`, `kid` and `sub` as it says them: nobody has to believe them to count by them.
    pub(crate) fn token(text: &str, says: [Option<&str>; 3]) -> Self {
        Self {
            prefix: digest("token", &says),
            whole: digest("token", &[Some(text)]),
        }
    }
}

/// Texts in an order, none of which can run into another.
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
