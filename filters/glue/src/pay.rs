//! Carries out the steps of a decision that spend: units from buckets, places in flight. Decides nothing: what a filter has no duty to
//! spend counts as spent.

use tensorgate_policy::decision::AcquireOutcome;
use tensorgate_policy::{ChargeOutcome, Decision, Now, Step};

use crate::enforced::Enforced;
use crate::host::{Level, Proxy};
use crate::places::{Taken, longest_ns, take};
use crate::root::GateRoot;
use crate::spend::spend;

/// Steps that one callback may take before it must have an end; the longest path has six (body, charge, acquire, decode, check, forward).
pub(crate) const MAX_STEPS: usize = 8;

/// Spends, and tells the decision; any other step is handed back. Places are kept in `places`, to be given back when the stream is over.
pub(crate) fn pay(
    root: &GateRoot,
    proxy: &mut dyn Proxy,
    decision: &mut Decision,
    places: &mut Vec<Taken>,
    now: Now,
    step: Step,
) -> Step {
    let charges = root.filter.duties().charge;
    match step {
        Step::Charge(_) if !charges => decision.charged(&root.policy, ChargeOutcome::Spent),
        Step::Charge(charge) => {
            let (outcome, fault) = spend(proxy, &charge, now.monotonic_ns);
            if let Some(fault) = fault {
                proxy.log(Level::Error, &format!("bucket {:?}: {fault}", charge.key()));
            }
            decision.charged(&root.policy, outcome)
        }
        Step::Acquire(_) if !charges => decision.acquired(&AcquireOutcome::Acquired),
        Step::Acquire(acquire) => {
            let enforced = Enforced::read(proxy);
            let longest_ns = longest_ns(root.policy.listen().limits(), enforced);
            let (outcome, faults) = take(proxy, &acquire, now.monotonic_ns, longest_ns, places);
            for fault in faults {
                proxy.log(Level::Error, &format!("places in flight: {fault}"));
            }
            decision.acquired(&outcome)
        }
        step => step,
    }
}
