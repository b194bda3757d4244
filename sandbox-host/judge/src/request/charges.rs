//! The outcomes of the gate's charges, as its context reports them. So the host comes to the same
//! decision. Denials of limits in shadow mode are recorded as in the gate.

use tensorgate_policy::policy::RemainingQuota;
use tensorgate_policy::{Charge, ChargeOutcome};

/// The outcome of the next charge if the gate has made it; `None`: the host makes it. The reported
/// limits are taken from the front. The gate's own limits come first, so that missing ones of the
/// rate-limit service cannot be confused with others. The limits of another policy cannot be
/// matched with this one's: `is_own_version` is whether the gate charged by this policy. Content is
/// charged by the host under any version, because only the host reads all of it.
pub(super) fn made_elsewhere(
    levels: &mut Vec<RemainingQuota>,
    charge: &Charge,
    is_own_version: bool,
) -> Option<ChargeOutcome> {
    if charge.is_of_content() {
        return None;
    }
    if !is_own_version {
        return Some(ChargeOutcome::CHARGED);
    }
    let own = levels.len().min(charge.limit_charges.len());
    Some(ChargeOutcome::from_quotas(levels.drain(..own).collect()))
}
