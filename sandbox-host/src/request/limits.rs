//! What the gate's limits came to, as its context tells it: the host charges nothing, and so comes to the same decision. What a limit in shadow
//! would have refused is noted here as it is there.

use tensorgate_policy::policy::{Grant, Unit, Wait};
use tensorgate_policy::{Charge, ChargeOutcome};
use tensorgate_wire::context::Levels;

/// The outcome of a charge that the gate has made.
pub(super) fn charged(levels: &Levels, charge: &Charge) -> ChargeOutcome {
    let by_request = |unit| unit == Unit::Requests;
    let of_request = charge
        .debits
        .iter()
        .all(|debit| by_request(debit.allowance.unit));
    ChargeOutcome::told(if of_request {
        levels.request.clone()
    } else {
        levels.content.clone()
    })
}

/// Whether the gate has reserved tokens, of which it may be told how many were used.
pub(super) fn reserved(levels: &Levels, grant: Option<&Grant>) -> bool {
    let tokens = |grant: &Grant| {
        let mut limits = grant.per_content();
        limits.any(|limit| limit.unit == Unit::Tokens)
    };
    let spent = levels.content.iter().all(|level| level.wait == Wait::None);
    !levels.content.is_empty() && spent && grant.is_some_and(tokens)
}
