//! Carries out the steps of a decision that spend: units from buckets, places in flight. Decides nothing: what a filter has no duty to
//! spend counts as spent.

use tensorgate_policy::decision::AcquireOutcome;
use tensorgate_policy::policy::Unit;
use tensorgate_policy::{Charge, ChargeOutcome, Decision, Now, Step};

use crate::enforced::Enforced;
use crate::filter::Duties;
use crate::host::{Level, Proxy};
use crate::places::{Taken, beyond, longest_ns, take};
use crate::root::GateRoot;
use crate::spend::spend;

/// Steps that one callback may take before it must have an end; the longest path has seven (body, charge, acquire, decode, check, charge,
/// forward).
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
    let duties = root.filter.duties();
    let charges = duties.charge;
    match step {
        Step::Charge(charge) if !pays(duties, &charge) => {
            decision.charged(&root.policy, ChargeOutcome::SPENT)
        }
        Step::Charge(charge) => {
            let (outcome, fault) = spend(proxy, &charge, now);
            if let Some(fault) = fault {
                let Charge { grant, client, .. } = &charge;
                let line = format!("limits of grant {grant:?}, client {client:?}: {fault}");
                proxy.log(Level::Error, &line);
            }
            decision.charged(&root.policy, outcome)
        }
        Step::Acquire(_) if !charges => decision.acquired(&AcquireOutcome::Acquired),
        Step::Acquire(acquire) => {
            let acquire = beyond(acquire, places);
            if acquire.places.is_empty() {
                return decision.acquired(&AcquireOutcome::Acquired);
            }
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

/// Whether a charge is this filter's to make. What a request carries is known to whoever has checked it, and charged there: in a chain that
/// is another filter than the one that counts requests.
fn pays(duties: Duties, charge: &Charge) -> bool {
    let by_request = charge
        .debits
        .iter()
        .all(|debit| debit.allowance.unit == Unit::Requests);
    if by_request {
        duties.charge
    } else {
        duties.check
    }
}
