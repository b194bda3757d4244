//! The loop that every driver would write: carry charges out and hand their outcomes back, until something is left that only
//! the driver can do. Places in flight count as taken: these are for drivers behind the one that takes them.

use super::{AcquireOutcome, Addressee, Charge, ChargeOutcome, Decision, Step};
use crate::policy::Policy;
use crate::request::Head;
use crate::tensor::InferRequest;

/// Judges a head, spending what it asks for. Ends in [`Step::Deny`], [`Step::Answer`] or [`Step::ReadBody`].
pub fn decide_head(
    policy: &Policy,
    head: &Head<'_>,
    spend: impl FnMut(&Charge) -> ChargeOutcome,
) -> (Decision, Step) {
    let (mut decision, step) = Decision::begin(policy, head);
    let step = pay(&mut decision, policy, step, spend);
    (decision, step)
}

/// Judges whom a whole body is for after [`Step::ReadBody`]. Ends in [`Step::Deny`] or [`Step::Decode`].
pub fn decide_body(
    decision: &mut Decision,
    policy: &Policy,
    bytes: usize,
    addressee: Option<Addressee<'_>>,
    spend: impl FnMut(&Charge) -> ChargeOutcome,
) -> Step {
    let step = decision.body(policy, bytes, addressee);
    pay(decision, policy, step, spend)
}

/// Judges a decoded message after [`Step::Decode`], spending what it asks for. Ends in [`Step::Deny`] or
/// [`Step::Forward`].
pub fn decide_message(
    decision: &mut Decision,
    policy: &Policy,
    request: &InferRequest<'_>,
    spend: impl FnMut(&Charge) -> ChargeOutcome,
) -> Step {
    let mut spend = spend;
    let step = decision.message(policy, request);
    match pay(decision, policy, step, &mut spend) {
        Step::Check => {
            let step = decision.check(policy, request);
            pay(decision, policy, step, spend)
        }
        step => step,
    }
}

/// Charges and places, until something else is left. The machine goes through each of its stages once, so that this ends.
fn pay(
    decision: &mut Decision,
    policy: &Policy,
    step: Step,
    mut spend: impl FnMut(&Charge) -> ChargeOutcome,
) -> Step {
    let mut step = step;
    loop {
        step = match step {
            Step::Charge(charge) => decision.charged(policy, spend(&charge)),
            Step::Acquire(_) => decision.acquired(policy, &AcquireOutcome::Acquired),
            step => return step,
        };
    }
}
