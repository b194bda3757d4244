//! Carries out the steps of a decision that spend: units from buckets, places in flight, and questions about limits that gateways share. Decides
//! nothing: what a filter has no duty to spend counts as spent.

use tensorgate_policy::decision::AcquireOutcome;
use tensorgate_policy::{Charge, ChargeOutcome, Decision, Denial, Now, Reason, Step};

use crate::enforced::Enforced;
use crate::filter::Duties;
use crate::host::{Level, Proxy};
use crate::places::{Taken, beyond, longest_ns, take};
use crate::reserved::Reserved;
use crate::root::GateRoot;
use crate::shared_limits::{Asking, Owed, ask};
use crate::spend::spend_and_tell;

/// Steps that one callback may take before it must have an end. The longest path, of a whole body that names its model, has eight: a charge of the
/// request here, places, a charge with other gateways, decode, check, a charge of what it carries here, one with other gateways, forward.
pub(crate) const MAX_STEPS: usize = 10;

/// A decision that took a step where its order has none, or more than there are. That is our own doing.
pub(crate) fn out_of_order() -> Denial {
    Denial::new(
        Reason::Overloaded,
        "internal: a decision took a step out of its order, or too many",
    )
}

/// What a request has of others: its places until the stream is over, of a reservation what it does not use until its answer is.
#[derive(Debug, Default)]
pub(crate) struct Dues {
    /// Places in flight, to be given back.
    pub(crate) places: Vec<Taken>,
    /// Tokens that were reserved, to be settled.
    pub(crate) reserved: Reserved,
    /// Charges of which the rate limit service has not said what they come to, of a request that has gone on.
    pub(crate) owed: Vec<Owed>,
    /// What its listener enforces, once it was asked for: it is one listener's to the end.
    enforced: Option<Enforced>,
}

/// What paying came to.
#[derive(Debug)]
pub(crate) enum Paid {
    /// The decision goes on.
    Step(Step),
    /// The rate limit service has been asked.
    Asked(Owed),
}

/// Spends, and tells the decision; any other step is handed back. What comes back is kept in `dues`. What the rate limit service reserves it knows by
/// the request's id.
pub(crate) fn pay(
    root: &GateRoot,
    proxy: &mut dyn Proxy,
    decision: &mut Decision,
    dues: &mut Dues,
    request_id: &str,
    now: Now,
    step: Step,
) -> Paid {
    let (policy, duties) = (&root.policy, root.filter.duties());
    Paid::Step(match step {
        Step::Charge(charge) if !pays(duties, &charge) => {
            decision.charged(policy, ChargeOutcome::SPENT)
        }
        Step::Charge(charge) if !charge.scope.is_local() => {
            match ask(policy, proxy, &charge, request_id, now, &mut dues.reserved) {
                Asking::Waits(sent) => return Paid::Asked(Owed { sent, charge }),
                Asking::Known(outcome) => decision.charged(policy, outcome),
            }
        }
        Step::Charge(charge) => {
            let outcome = spend_and_tell(proxy, &charge, now, &mut dues.reserved.own);
            decision.charged(policy, outcome)
        }
        Step::Acquire(_) if !duties.charge => decision.acquired(policy, &AcquireOutcome::Acquired),
        Step::Acquire(acquire) => {
            let acquire = beyond(acquire, &dues.places);
            if acquire.places.is_empty() {
                let acquired = decision.acquired(policy, &AcquireOutcome::Acquired);
                return Paid::Step(acquired);
            }
            let enforced = *dues.enforced.get_or_insert_with(|| Enforced::read(proxy));
            let longest_ns = longest_ns(root.policy.listen().limits(), enforced);
            let places = &mut dues.places;
            let (outcome, faults) = take(proxy, &acquire, now.monotonic_ns, longest_ns, places);
            for fault in faults {
                proxy.log(Level::Error, &format!("places in flight: {fault}"));
            }
            decision.acquired(policy, &outcome)
        }
        step => step,
    })
}

/// Whether a charge is this filter's to make. What a request carries is known to whoever has checked it, and charged there: in a chain that
/// is another filter than the one that counts requests.
fn pays(duties: Duties, charge: &Charge) -> bool {
    if charge.is_of_content() {
        duties.check
    } else {
        duties.charge
    }
}
