//! What tokens came to, so that a signature is checked once, and the keys that issuers published. Pure: the time is an argument.
//!
//! A token is known by the SHA-256 of the policy's generation and its whole text: nothing that differs in one bit is taken for it, and what another
//! policy said of it is never found. Good and bad ones have bounds of their own, so that a flood of bad ones drives no good one out. Only what time
//! cannot heal is remembered as bad; of the rest, that it cost what a bad one costs: none is dearer than others when it comes again. What a key that was fetched said of a token counts for as long as the issuer publishes that key.

use alloc::collections::BTreeMap;
use alloc::string::String;

use crate::attempts::Attempt;
use crate::claim_headers::Fields;
use crate::key_sets::{KeySets, Mark};
use sha2::{Digest as _, Sha256};
use tensorgate_policy::request::Operations;

/// Good tokens at once: as many callers with tokens as one worker serves in a while. About 2 MiB, and what their claims take that go on as
/// header fields: up to 4 KiB each.
const MAX_GOOD: usize = 4096;
/// Refused tokens at once. About 2 MiB: a name of one is as long as its subject may be.
const MAX_SPENT: usize = 4096;

/// A token's name in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenId([u8; 32]);

impl TokenId {
    /// Names a token under a policy.
    pub fn new(generation: &str, token: &str) -> Self {
        let mut hash = Sha256::new();
        // The length first, so that no generation and token run into each other.
        hash.update(generation.len().to_be_bytes());
        hash.update(generation);
        hash.update(token);
        Self(hash.finalize().into())
    }
}

/// A token whose signature was right.
#[derive(Clone, Debug, PartialEq)]
pub struct Proven {
    /// Whose it is.
    pub client: String,
    /// The log's name of it.
    pub credential: String,
    /// From when it counts, Unix seconds.
    pub from_unix_s: f64,
    /// Until when, Unix seconds; then no more.
    pub until_unix_s: f64,
    /// Operations whose scope it lacks.
    pub withheld: Operations,
    /// Its claims that go on as header fields.
    pub claims: Fields,
    /// The key that it was checked with, if that was fetched.
    pub key: Option<Mark>,
}

/// A token that was worth its work once, and whatever that came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Spent {
    /// It can never be good.
    Bad(Refusal),
    /// Nothing is known of it. It was refused without a look at its signature, and cost as much.
    Unknown,
}

/// What is known of a token.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// It was good. It counts now only if its time says so.
    Good(Proven),
    /// It can never be good under this policy.
    Bad(Refusal),
}

/// A token that can never be good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why, for the log.
    pub cause: &'static str,
    /// The log's name of it, if its signature was right.
    pub credential: Option<String>,
    /// What its failures are counted under.
    pub attempt: Attempt,
    /// The key that it was checked with, if that was fetched.
    pub key: Option<Mark>,
}

/// Tokens of one worker, and the keys that it has of issuers who publish them.
#[derive(Debug)]
pub struct TokenCache {
    good: Recent<Proven>,
    /// Those that are bad, and those that cost what a bad one does: in one place, so that each is forgotten as soon as the other.
    spent: Recent<Spent>,
    keys: KeySets,
}

impl Default for TokenCache {
    fn default() -> Self {
        Self {
            good: Recent::new(MAX_GOOD),
            spent: Recent::new(MAX_SPENT),
            keys: KeySets::default(),
        }
    }
}

impl TokenCache {
    /// Keys of issuers who publish them.
    pub const fn keys(&self) -> &KeySets {
        &self.keys
    }

    /// The same, to be changed.
    pub const fn keys_mut(&mut self) -> &mut KeySets {
        &mut self.keys
    }

    /// What is known of a token. A good one whose time is over is forgotten, and told once more.
    pub fn get(&mut self, id: TokenId, now_unix_s: u64) -> Option<Known> {
        if let Some(proven) = self.good.get(id) {
            if !self.keys.counts(proven.key) {
                self.good.remove(id);
                return None;
            }
            let proven = proven.clone();
            if now_unix_s as f64 >= proven.until_unix_s {
                self.good.remove(id);
            }
            return Some(Known::Good(proven));
        }
        let Spent::Bad(refusal) = self.spent.get(id)? else {
            return None;
        };
        if !self.keys.counts(refusal.key) {
            self.spent.remove(id);
            return None;
        }
        Some(Known::Bad(refusal.clone()))
    }

    /// Whether a token was refused before, and cost what one costs.
    pub fn is_spent(&mut self, id: TokenId) -> bool {
        self.spent.get(id).is_some()
    }

    /// Remembers that a token of which nothing is known was refused, and cost what one costs.
    pub fn spend(&mut self, id: TokenId) {
        self.spent.put(id, Spent::Unknown);
    }

    /// Remembers a good one.
    pub fn remember(&mut self, id: TokenId, proven: Proven) {
        self.good.put(id, proven);
    }

    /// Remembers one that time cannot heal.
    pub fn remember_bad(&mut self, id: TokenId, refusal: Refusal) {
        self.spent.put(id, Spent::Bad(refusal));
    }
}

/// The entries that were used last, up to a bound: one is there until three quarters as many others have come since it was used.
#[derive(Debug)]
struct Recent<T> {
    most: usize,
    /// Counts what came, and uses that moved something.
    clock: u64,
    entries: BTreeMap<TokenId, (u64, T)>,
    by_use: BTreeMap<u64, TokenId>,
}

impl<T> Recent<T> {
    const fn new(most: usize) -> Self {
        Self {
            most,
            clock: 0,
            entries: BTreeMap::new(),
            by_use: BTreeMap::new(),
        }
    }

    fn get(&mut self, id: TokenId) -> Option<&T> {
        let (used, value) = self.entries.get_mut(&id)?;
        // One of the youngest quarter is far from its end, and stays where it is: where nothing new comes, using one moves nothing.
        let fresh = u64::try_from(self.most / 4).unwrap_or(u64::MAX);
        if self.clock.saturating_sub(*used) > fresh {
            self.by_use.remove(used);
            self.clock = self.clock.saturating_add(1);
            *used = self.clock;
            self.by_use.insert(self.clock, id);
        }
        Some(value)
    }

    fn put(&mut self, id: TokenId, value: T) {
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

    fn remove(&mut self, id: TokenId) {
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

    fn proven(until_unix_s: f64) -> Proven {
        Proven {
            client: "c".into(),
            credential: "jwt:i:s".into(),
            from_unix_s: 0.0,
            until_unix_s,
            withheld: Operations::default(),
            claims: Fields::new(),
            key: None,
        }
    }

    fn refusal() -> Refusal {
        Refusal {
            cause: "bad",
            credential: Some("jwt:i:s".into()),
            attempt: Attempt::token("t", [None; 3]),
            key: None,
        }
    }

    #[test]
    fn a_flood_of_bad_tokens_drives_no_good_one_out() {
        let mut cache = TokenCache::default();
        cache.remember(id(0), proven(100.0));
        for number in 1..=3 * MAX_SPENT {
            cache.remember_bad(id(number), refusal());
        }
        assert_eq!(cache.get(id(0), 50), Some(Known::Good(proven(100.0))));
        assert_eq!(cache.spent.entries.len(), MAX_SPENT);
        assert_eq!(cache.spent.by_use.len(), MAX_SPENT);
        assert_eq!(cache.get(id(1), 50), None);
        assert_eq!(
            cache.get(id(3 * MAX_SPENT), 50),
            Some(Known::Bad(refusal()))
        );
    }

    #[test]
    fn the_good_token_that_was_used_longest_ago_goes_first() {
        let mut cache = TokenCache::default();
        for number in 0..MAX_GOOD {
            cache.remember(id(number), proven(100.0));
        }
        assert!(cache.get(id(0), 1).is_some());
        cache.remember(id(MAX_GOOD), proven(100.0));
        assert!(cache.get(id(0), 1).is_some());
        assert_eq!(cache.get(id(1), 1), None);
        assert_eq!(cache.good.entries.len(), MAX_GOOD);
        assert_eq!(cache.good.by_use.len(), MAX_GOOD);
    }

    #[test]
    fn a_token_in_use_outlives_any_number_of_others_and_moves_nothing_while_none_come() {
        let mut cache = TokenCache::default();
        cache.remember(id(0), proven(100.0));
        for number in 1..=5 * MAX_GOOD {
            cache.remember(id(number), proven(100.0));
            if number % (MAX_GOOD / 2) == 0 {
                assert!(cache.get(id(0), 1).is_some(), "{number}");
            }
        }
        assert_eq!(cache.good.entries.len(), MAX_GOOD);
        assert_eq!(cache.good.by_use.len(), MAX_GOOD);
        let clock = cache.good.clock;
        for _ in 0..3 * MAX_GOOD {
            assert!(cache.get(id(5 * MAX_GOOD), 1).is_some());
        }
        assert_eq!(cache.good.clock, clock);
    }

    #[test]
    fn a_token_whose_time_is_over_is_forgotten() {
        let mut cache = TokenCache::default();
        cache.remember(id(0), proven(100.0));
        assert!(cache.get(id(0), 99).is_some());
        assert!(cache.get(id(0), 100).is_some());
        assert_eq!(cache.get(id(0), 100), None);
        assert_eq!(cache.good.by_use.len(), 0);
    }

    #[test]
    fn a_token_is_known_under_its_own_generation_only() {
        for (generation, token) in [("g", "ab"), ("ga", "b"), ("", "gab"), ("h", "ab")] {
            for (other_generation, other) in [("g", "ab"), ("ga", "b"), ("", "gab"), ("h", "ab")] {
                assert_eq!(
                    TokenId::new(generation, token) == TokenId::new(other_generation, other),
                    (generation, token) == (other_generation, other)
                );
            }
        }
    }
}
