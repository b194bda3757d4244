//! The loop of a driver: executes charges and returns their outcomes until another step is left.
//! Permits count as acquired: this is for drivers behind the one that acquires them.

use tensorgate_values::tensor::InferRequest;

use super::{AcquireOutcome, Addressee, Charge, ChargeOutcome, Decision, Step};
use crate::policy::Policy;
use crate::request::Head;

/// Evaluates a head with its charges. Ends in [`Step::Deny`], [`Step::Answer`], [`Step::ReadBody`]
/// or [`Step::ReadMessages`].
pub fn decide_head(
    policy: &Policy,
    head: &Head<'_>,
    spend: impl FnMut(&Charge) -> ChargeOutcome,
) -> (Decision, Step) {
    let (mut decision, step) = Decision::begin(policy, head);
    let step = pay(&mut decision, policy, step, spend);
    (decision, step)
}

/// Evaluates the addressee of a whole body after [`Step::ReadBody`]. Ends in [`Step::Deny`] or
/// [`Step::Decode`].
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

/// Evaluates a decoded message with its charges after [`Step::Decode`]. Ends in [`Step::Deny`] or
/// [`Step::Forward`].
pub fn decide_message(
    decision: &mut Decision,
    policy: &Policy,
    request: &InferRequest<'_>,
    spend: impl FnMut(&Charge) -> ChargeOutcome,
) -> Step {
    let mut spend = spend;
    let step = decision.message(policy, request);
    let step = pay(decision, policy, step, &mut spend);
    if !matches!(step, Step::Check) {
        return step;
    }
    let step = decision.check(policy, request);
    pay(decision, policy, step, spend)
}

/// Executes charges and acquisitions. Each stage occurs once, so the loop ends.
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
            Step::Deny(_)
            | Step::Answer(..)
            | Step::ReadBody(_)
            | Step::ReadMessages(_)
            | Step::Decode
            | Step::Check
            | Step::Forward => return step,
        };
    }
}
