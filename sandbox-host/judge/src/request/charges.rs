//! The outcomes of the gate's charges, as its context reports them. The host charges nothing, and
//! so comes to the same decision. Denials of limits in shadow mode are recorded as in the gate.

use tensorgate_policy::policy::{Grant, Wait};
use tensorgate_policy::{Charge, ChargeOutcome};
use tensorgate_wire::context::RemainingQuotas;

/// The outcome of the next charge, on requests or on request content. The reported limits are taken
/// from the front. The gate's own limits come first in each list, so that missing ones of the
/// rate-limit service cannot be confused with others. The limits of another policy cannot be
/// matched with this one's: `is_own_version` is whether the gate charged by this policy. `None`: the
/// host makes this charge; there is none so far.
pub(super) fn next_outcome(
    levels: &mut RemainingQuotas,
    charge: &Charge,
    is_own_version: bool,
) -> Option<ChargeOutcome> {
    if !is_own_version {
        return Some(ChargeOutcome::CHARGED);
    }
    let told = if charge.is_of_content() {
        &mut levels.content
    } else {
        &mut levels.request
    };
    let own = told.len().min(charge.limit_charges.len());
    Some(ChargeOutcome::from_quotas(told.drain(..own).collect()))
}

/// Whether the gate has charged the content of the request.
pub(super) fn has_charged_content(levels: &RemainingQuotas) -> bool {
    !levels.content.is_empty() && levels.content.iter().all(|level| level.wait == Wait::None)
}

/// Whether a grant charges request content in tokens, of which the gate can refund some.
pub(super) fn reserves_tokens(grant: &Grant) -> bool {
    grant.per_content().any(|limit| limit.is_reserved())
}
