//! Signature checks of one token, with each key that may have signed it.

use tensorgate_policy::policy::KeyMaterial;

use crate::attempts::{Attempt, Attempts, CheckBudget};
use crate::jws::Parts;
use crate::key_sets::KeyMark;
use crate::verifier::{Verifier, VerifyFault};

/// Cached: the same token never gets a valid signature.
pub(super) const WRONG_SIGNATURE: &str = "token's signature is wrong";

/// The same for a token without `kid` that was tried against several keys.
pub(super) const NO_KEY_VERIFIES: &str =
    "token names no key, and none that was tried verifies its signature";

/// The signature checks of a token.
pub(super) struct Tries {
    pub(super) outcome: Outcome,
    /// How many checks were made.
    pub(super) made: usize,
    /// The id of the first key, if it is fetched.
    pub(super) first: Option<KeyMark>,
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
