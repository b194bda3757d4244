//! What the gate's limits came to, as its context tells it: the host charges nothing, and so comes to the same decision. What a limit in shadow
//! would have refused is noted here as it is there.

use tensorgate_policy::policy::{Grant, Wait};
use tensorgate_policy::{Charge, ChargeOutcome};
use tensorgate_wire::context::Levels;

/// The outcome of the next charge that the gate has made, on requests or on what they carry: what is told of its limits is taken off the front.
/// The gate's own limits come first in each, so that where those of the rate limit service are not told, nothing else is taken for them.
pub(super) fn charged(levels: &mut Levels, charge: &Charge) -> ChargeOutcome {
    let told = if charge.is_of_content() {
        &mut levels.content
    } else {
        &mut levels.request
    };
    let own = told.len().min(charge.debits.len());
    ChargeOutcome::told(told.drain(..own).collect())
}

/// Whether the gate says that it has charged what the request carries.
pub(super) fn has_charged_content(levels: &Levels) -> bool {
    !levels.content.is_empty() && levels.content.iter().all(|level| level.wait == Wait::None)
}

/// Whether what a grant's requests carry is charged in tokens, of which the gate may be told how many were used.
pub(super) fn reserves_tokens(grant: &Grant) -> bool {
    grant.per_content().any(|limit| limit.is_reserved())
}
