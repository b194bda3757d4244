//! Signature checks of one token, with each key that may have signed it, and what a token costs that
//! none of them verifies.

use tensorgate_policy::policy::KeyMaterial;
use tensorgate_policy::request::Identity;

use super::{Claimed, Tokens, missing};
use crate::attempts::{Attempt, Attempts, CheckBudget};
use crate::cache::{TokenCache, TokenId, TokenRejection};
use crate::evidence::Identified;
use crate::jws::Parts;
use crate::key_sets::{KeyMark, KeySource};
use crate::verifier::{Verifier, VerifyFault};

/// Cached: the same token never gets a valid signature.
pub(super) const WRONG_SIGNATURE: &str = "token's signature is wrong";

/// The same for a token without `kid` that was tried against several keys.
const NO_KEY_VERIFIES: &str = "token names no key, and none that was tried verifies its signature";

/// The signature checks of a token.
pub(super) struct Tries {
    pub(super) outcome: Outcome,
    /// How many checks were made.
    pub(super) made: usize,
    /// The id of the first key, if it is fetched.
    first: Option<KeyMark>,
}

/// Result of the signature checks of a token.
pub(super) enum Outcome {
    /// A key verified it; the fetched key's id.
    Verified(Option<KeyMark>),
    /// No key did.
    Wrong,
    /// The check budget was used up before every key was tried.
    Unchecked,
    /// A check failed, and no key verified it.
    Fault(&'static str),
}

/// Tries keys in order, the first within the budget that the caller has, each other within its own.
pub(super) fn try_keys<P: Verifier + Attempts + ?Sized>(
    parts: &Parts<'_>,
    attempt: &Attempt,
    candidates: &[(Option<KeyMark>, &KeyMaterial)],
    port: &mut P,
) -> Tries {
    let mut tries = Tries {
        outcome: Outcome::Wrong,
        made: 0,
        first: candidates.first().and_then(|(mark, _)| *mark),
    };
    for (mark, key) in candidates {
        if tries.made > 0 && port.check_budget(attempt) != CheckBudget::Check {
            tries.outcome = Outcome::Unchecked;
            return tries;
        }
        tries.made = tries.made.saturating_add(1);
        match port.verify(key, parts.signed, &parts.signature) {
            Ok(true) => {
                tries.outcome = Outcome::Verified(*mark);
                return tries;
            }
            Ok(false) => {}
            Err(VerifyFault(cause)) => tries.outcome = Outcome::Fault(cause),
        }
    }
    tries
}

impl Tokens {
    /// The result for a token that no key verifies.
    pub(super) fn wrong<P: Verifier + Attempts + KeySource + ?Sized>(
        &self,
        claimed: &Claimed<'_, '_>,
        attempt: Attempt,
        id: TokenId,
        tries: &Tries,
        port: &mut P,
        cache: &mut TokenCache,
    ) -> Identified {
        let (issuer, parts) = (&claimed.rules.issuer, claimed.parts);
        let is_named = parts.kid.is_some();
        // The issuer may have published another key since.
        if !is_named && issuer.key_set().is_some() {
            let missing = missing(issuer, port);
            if !matches!(missing.identity, Identity::Refused(_)) {
                record_failures(&attempt, tries.made, port);
                return missing;
            }
        }
        self.finish_checks(parts, &attempt, tries.made, port, cache);
        // Its claims are untrusted, so it has no log name.
        let refusal = TokenRejection {
            cause: if tries.made > 1 {
                NO_KEY_VERIFIES
            } else {
                WRONG_SIGNATURE
            },
            credential: None,
            attempt,
            // Any change of the set may add the key of a token that names none.
            key: if is_named {
                tries.first
            } else {
                cache.keys().mark_of(issuer.name())
            },
        };
        cache.remember_bad(id, refusal.clone());
        refusal.into()
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
}

/// Counts each of these checks as a failure.
pub(super) fn record_failures<P: Attempts + ?Sized>(
    attempt: &Attempt,
    checks: usize,
    port: &mut P,
) {
    for _ in 0..checks {
        port.record_failure(attempt);
    }
}
