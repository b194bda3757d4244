//! Decoy checks: a token that is rejected without a signature check costs as many checks with an
//! unrelated key as a wrong one. Response times therefore do not reveal known issuers, keys,
//! audiences and claims, expired valid tokens, or a lock.
//!
//! The result of a decoy check is discarded, so it can never accept a token. It costs as much as
//! the check of a wrong token: the key has the token's algorithm and belongs to the policy. Without
//! such a key, no token of that algorithm is ever checked. A repeated token costs nothing, like a
//! repeated wrong one.
//!
//! A token without `kid` is tried against each key that fits. The issuer with the most such keys
//! says how many checks any of these tokens costs. Each check after the first asks for the check
//! budget again, and counts as a failure of its own.

use core::ops::Range;

use tensorgate_policy::policy::{KeyMaterial, PublicKey};

use super::tries::record_failures;
use super::{Rules, Tokens};
use crate::attempts::{Attempt, Attempts, CheckBudget};
use crate::cache::{TokenCache, TokenId};
use crate::jws::{self, Parts};
use crate::key_sets::KeySets;
use crate::verifier::Verifier;

impl Tokens {
    /// Charges a token the cost of a wrong one, within its check budget.
    pub(super) fn charge_decoys<P: Verifier + Attempts + ?Sized>(
        &self,
        parts: &Parts<'_>,
        attempt: &Attempt,
        id: TokenId,
        port: &mut P,
        cache: &mut TokenCache,
    ) {
        if !cache.was_rejected(id) && port.check_budget(attempt) != CheckBudget::Nothing {
            self.run_decoys(parts, attempt, id, port, cache);
        }
    }

    /// Runs all decoy checks of a token, whose budget allows the first.
    pub(super) fn run_decoys<P: Verifier + Attempts + ?Sized>(
        &self,
        parts: &Parts<'_>,
        attempt: &Attempt,
        id: TokenId,
        port: &mut P,
        cache: &mut TokenCache,
    ) {
        if cache.was_rejected(id) {
            return;
        }
        cache.remember_rejected(id);
        if let Some(key) = self.decoy(parts, cache.keys()) {
            // A fault is discarded too.
            let _ = port.verify_anew(key, parts.signed, &parts.signature);
        }
        let checks = self.checks(parts, cache.keys());
        self.run_further_decoys(parts, attempt, 1..checks, port, cache.keys());
    }

    /// Runs the decoy checks after the first that a token has not cost yet, within its budget.
    pub(super) fn run_further_decoys<P: Verifier + Attempts + ?Sized>(
        &self,
        parts: &Parts<'_>,
        attempt: &Attempt,
        left: Range<usize>,
        port: &mut P,
        fetched: &KeySets,
    ) {
        for _ in left {
            if port.check_budget(attempt) == CheckBudget::Nothing {
                return;
            }
            if let Some(key) = self.decoy(parts, fetched) {
                let _ = port.verify_anew(key, parts.signed, &parts.signature);
            }
            port.record_failure(attempt);
        }
    }

    /// Brings the cost of a token that is rejected after some checks to that of every other. The
    /// caller counts one failure.
    pub(super) fn finish_checks<P: Verifier + Attempts + ?Sized>(
        &self,
        parts: &Parts<'_>,
        attempt: &Attempt,
        made: usize,
        port: &mut P,
        cache: &TokenCache,
    ) {
        record_failures(attempt, made.saturating_sub(1), port);
        let left = made..self.checks(parts, cache.keys());
        self.run_further_decoys(parts, attempt, left, port, cache.keys());
    }

    /// How many signature checks a wrong token costs: one, or without a `kid` the most that any
    /// issuer's keys need.
    pub(super) fn checks(&self, parts: &Parts<'_>, fetched: &KeySets) -> usize {
        if parts.kid.is_some() {
            return 1;
        }
        let fitting = |rules: &Rules| {
            let keys = fetched.keys_of(&rules.issuer);
            jws::candidates(keys, None, parts.algorithm).map_or(1, |keys| keys.len())
        };
        self.issuers.iter().map(fitting).max().unwrap_or(1)
    }

    /// A key of the token's algorithm: of its claimed issuer, or else of any.
    fn decoy<'k>(&'k self, parts: &Parts<'_>, fetched: &'k KeySets) -> Option<&'k KeyMaterial> {
        let named = self.issuer(&parts.claims).ok();
        let of = |rules: &'k Rules| fetched.keys_of(&rules.issuer).map(|(_, key)| key);
        let all = || self.issuers.iter().flat_map(of);
        named
            .and_then(|rules| as_dear(parts, || of(rules)))
            .or_else(|| as_dear(parts, all))
    }
}

/// Prefers a key for which the check costs time: RSA signatures of another length than the modulus
/// are rejected at once.
fn as_dear<'k, K: Iterator<Item = &'k PublicKey>>(
    parts: &Parts<'_>,
    keys: impl Fn() -> K,
) -> Option<&'k KeyMaterial> {
    let fitting = || {
        keys()
            .map(PublicKey::material)
            .filter(|key| key.algorithm() == parts.algorithm)
    };
    let long = |key: &&KeyMaterial| match key {
        KeyMaterial::Rsa { n, .. } => n.len() == parts.signature.len(),
        _ => true,
    };
    fitting().find(long).or_else(|| fitting().next())
}
