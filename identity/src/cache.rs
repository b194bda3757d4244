//! Cache of token verification results, and the fetched key sets. Pure: time is an argument.
//!
//! A token's key is the SHA-256 of the policy version and its whole text. Results of other policies
//! are therefore never found. Valid and rejected tokens have separate limits, so a flood of invalid
//! tokens evicts no valid ones. Only permanent rejections are stored as such. Other rejections are
//! stored as already charged, so that repeating them costs the same. A result from a fetched key is
//! valid as long as the issuer publishes that key.

use alloc::collections::BTreeMap;

use crate::attempts::Attempt;
use crate::claim_headers::Fields;
use crate::claims::EndUser;
use crate::confirmation::Confirmation;
use crate::key_sets::{KeyMark, KeySets};
use sha2::{Digest as _, Sha256};
use tensorgate_policy::SmolStr;
use tensorgate_policy::request::Operations;

/// Maximum number of valid tokens: about 2 MiB, plus up to 4 KiB each for forwarded claims.
const MAX_VERIFIED: usize = 4096;
/// Maximum number of rejected tokens: about 2 MiB; log names are as long as their subjects.
const MAX_REJECTED: usize = 4096;

/// Key of a token in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenId([u8; 32]);

impl TokenId {
    /// Computes the key of a token under a policy.
    pub fn new(policy_version: &str, token: &str) -> Self {
        let mut hash = Sha256::new();
        // The length first, so that the boundary is unambiguous.
        hash.update(policy_version.len().to_be_bytes());
        hash.update(policy_version);
        hash.update(token);
        Self(hash.finalize().into())
    }
}

/// A token with a valid signature.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedToken {
    /// Its client.
    pub client: SmolStr,
    /// Its log name.
    pub credential: SmolStr,
    /// Start of validity, in Unix seconds.
    pub from_unix_s: f64,
    /// End of validity, in Unix seconds.
    pub until_unix_s: f64,
    /// Operations whose scope it lacks.
    pub withheld: Operations,
    /// Claims to forward as header fields.
    pub claims: Fields,
    /// The end user that it names.
    pub user: Option<EndUser>,
    /// What it is bound to.
    pub confirmation: Confirmation,
    /// The fetched key that verified it, if any.
    pub key: Option<KeyMark>,
}

/// A token that was checked or charged before, and the result.
#[derive(Clone, Debug, PartialEq, Eq)]
enum RejectedToken {
    /// Permanently rejected.
    Bad(TokenRejection),
    /// Rejected without a signature check, at the same cost.
    Unknown,
}

/// Known result of a token.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// It was verified; its validity period still matters.
    Verified(VerifiedToken),
    /// Permanently rejected under this policy.
    Rejected(TokenRejection),
}

/// A permanent rejection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRejection {
    /// Cause, for the log.
    pub cause: &'static str,
    /// Its log name, if its signature is valid.
    pub credential: Option<SmolStr>,
    /// The key for counting its failures.
    pub attempt: Attempt,
    /// The fetched key that verified it, if any.
    pub key: Option<KeyMark>,
}

/// Tokens of one worker, and its fetched key sets.
#[derive(Debug)]
pub struct TokenCache {
    verified: Recent<TokenId, VerifiedToken>,
    /// Rejected and charged tokens together, so that they are evicted alike.
    rejected: Recent<TokenId, RejectedToken>,
    keys: KeySets,
}

impl Default for TokenCache {
    fn default() -> Self {
        Self {
            verified: Recent::new(MAX_VERIFIED),
            rejected: Recent::new(MAX_REJECTED),
            keys: KeySets::default(),
        }
    }
}

impl TokenCache {
    /// Fetched key sets.
    pub const fn keys(&self) -> &KeySets {
        &self.keys
    }

    /// Fetched key sets, mutable.
    pub const fn keys_mut(&mut self) -> &mut KeySets {
        &mut self.keys
    }

    /// The known result of a token. An expired token is returned once more and removed.
    pub fn get(&mut self, id: TokenId, now_unix_s: u64) -> Option<Known> {
        if let Some(proven) = self.verified.get(id) {
            if !self.keys.counts(proven.key) {
                self.verified.remove(id);
                return None;
            }
            let proven = proven.clone();
            if now_unix_s as f64 >= proven.until_unix_s {
                self.verified.remove(id);
            }
            return Some(Known::Verified(proven));
        }
        let RejectedToken::Bad(refusal) = self.rejected.get(id)? else {
            return None;
        };
        if !self.keys.counts(refusal.key) {
            self.rejected.remove(id);
            return None;
        }
        Some(Known::Rejected(refusal.clone()))
    }

    /// Whether a token was rejected and charged before.
    pub fn was_rejected(&mut self, id: TokenId) -> bool {
        self.rejected.get(id).is_some()
    }

    /// Stores that a token was rejected and charged without a check.
    pub fn remember_rejected(&mut self, id: TokenId) {
        self.rejected.put(id, RejectedToken::Unknown);
    }

    /// Stores a verified token.
    pub fn remember(&mut self, id: TokenId, proven: VerifiedToken) {
        self.verified.put(id, proven);
    }

    /// Stores a permanent rejection.
    pub fn remember_bad(&mut self, id: TokenId, refusal: TokenRejection) {
        self.rejected.put(id, RejectedToken::Bad(refusal));
    }
}

/// A bounded cache of recently used entries: an entry survives three quarters of its capacity of
/// newer entries.
#[derive(Debug)]
pub(crate) struct Recent<K, T> {
    most: usize,
    /// Counts insertions and refreshing uses.
    clock: u64,
    entries: BTreeMap<K, (u64, T)>,
    by_use: BTreeMap<u64, K>,
}

impl<K: Copy + Ord, T> Recent<K, T> {
    pub(crate) const fn new(most: usize) -> Self {
        Self {
            most,
            clock: 0,
            entries: BTreeMap::new(),
            by_use: BTreeMap::new(),
        }
    }

    pub(crate) fn get(&mut self, id: K) -> Option<&T> {
        let (used, value) = self.entries.get_mut(&id)?;
        // An entry of the newest quarter is not moved, so that repeated use without insertions
        // moves nothing.
        let fresh = u64::try_from(self.most / 4).unwrap_or(u64::MAX);
        if self.clock.saturating_sub(*used) > fresh {
            self.by_use.remove(used);
            self.clock = self.clock.saturating_add(1);
            *used = self.clock;
            self.by_use.insert(self.clock, id);
        }
        Some(value)
    }

    pub(crate) fn put(&mut self, id: K, value: T) {
        self.remove(id);
        while self.entries.len() >= self.most {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                return;
            };
            self.entries.remove(&oldest);
        }
        self.clock = self.clock.saturating_add(1);
        self.by_use.insert(self.clock, id);
        self.entries.insert(id, (self.clock, value));
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn remove(&mut self, id: K) {
        if let Some((used, _)) = self.entries.remove(&id) {
            self.by_use.remove(&used);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "tests")]

    use super::*;
    use alloc::format;

    fn id(number: usize) -> TokenId {
        TokenId::new("g", &format!("{number}"))
    }

    fn proven(until_unix_s: f64) -> VerifiedToken {
        VerifiedToken {
            client: "c".into(),
            credential: "jwt:i:s".into(),
            from_unix_s: 0.0,
            until_unix_s,
            withheld: Operations::default(),
            claims: Fields::new(),
            user: None,
            confirmation: Confirmation::Nothing,
            key: None,
        }
    }

    fn refusal() -> TokenRejection {
        TokenRejection {
            cause: "bad",
            credential: Some("jwt:i:s".into()),
            attempt: Attempt::token("t", [None; 3]),
            key: None,
        }
    }

    #[test]
    fn a_flood_of_invalid_tokens_evicts_no_valid_one() {
        let mut cache = TokenCache::default();
        cache.remember(id(0), proven(100.0));
        for number in 1..=3 * MAX_REJECTED {
            cache.remember_bad(id(number), refusal());
        }
        assert_eq!(cache.get(id(0), 50), Some(Known::Verified(proven(100.0))));
        assert_eq!(cache.rejected.entries.len(), MAX_REJECTED);
        assert_eq!(cache.rejected.by_use.len(), MAX_REJECTED);
        assert_eq!(cache.get(id(1), 50), None);
        assert_eq!(
            cache.get(id(3 * MAX_REJECTED), 50),
            Some(Known::Rejected(refusal()))
        );
    }

    #[test]
    fn the_least_recently_used_valid_token_is_evicted_first() {
        let mut cache = TokenCache::default();
        for number in 0..MAX_VERIFIED {
            cache.remember(id(number), proven(100.0));
        }
        assert!(cache.get(id(0), 1).is_some());
        cache.remember(id(MAX_VERIFIED), proven(100.0));
        assert!(cache.get(id(0), 1).is_some());
        assert_eq!(cache.get(id(1), 1), None);
        assert_eq!(cache.verified.entries.len(), MAX_VERIFIED);
        assert_eq!(cache.verified.by_use.len(), MAX_VERIFIED);
    }

    #[test]
    fn a_token_in_use_is_not_evicted() {
        let mut cache = TokenCache::default();
        cache.remember(id(0), proven(100.0));
        for number in 1..=5 * MAX_VERIFIED {
            cache.remember(id(number), proven(100.0));
            if number % (MAX_VERIFIED / 2) == 0 {
                assert!(cache.get(id(0), 1).is_some(), "{number}");
            }
        }
        assert_eq!(cache.verified.entries.len(), MAX_VERIFIED);
        assert_eq!(cache.verified.by_use.len(), MAX_VERIFIED);
        let clock = cache.verified.clock;
        for _ in 0..3 * MAX_VERIFIED {
            assert!(cache.get(id(5 * MAX_VERIFIED), 1).is_some());
        }
        assert_eq!(cache.verified.clock, clock);
    }

    #[test]
    fn an_expired_token_is_removed() {
        let mut cache = TokenCache::default();
        cache.remember(id(0), proven(100.0));
        assert!(cache.get(id(0), 99).is_some());
        assert!(cache.get(id(0), 100).is_some());
        assert_eq!(cache.get(id(0), 100), None);
        assert_eq!(cache.verified.by_use.len(), 0);
    }

    #[test]
    fn a_token_is_cached_for_its_own_policy_version_only() {
        for (policy_version, token) in [("g", "ab"), ("ga", "b"), ("", "gab"), ("h", "ab")] {
            for (other_generation, other) in [("g", "ab"), ("ga", "b"), ("", "gab"), ("h", "ab")] {
                assert_eq!(
                    TokenId::new(policy_version, token) == TokenId::new(other_generation, other),
                    (policy_version, token) == (other_generation, other)
                );
            }
        }
    }
}
