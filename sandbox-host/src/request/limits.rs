//! What the gate's limits came to, as its context tells it: the host charges nothing, and so comes to the same decision. What a limit in shadow
//! would have refused is noted here as it is there.

use tensorgate_policy::policy::Unit;
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
