//! The loop that every driver would write: carry charges out and hand their outcomes back, until something is left that only
//! the driver can do.

use super::{Charge, ChargeOutcome, Decision, Step};
use crate::policy::Policy;
use crate::request::Head;
use crate::tensor::InferRequest;

/// Judges a head, spending what it asks for. Ends in [`Step::Deny`], [`Step::Answer`] or [`Step::ReadBody`].
pub fn decide_head(
    policy: &Policy,
    head: &Head<'_>,
    mut spend: impl FnMut(&Charge) -> ChargeOutcome,
) -> (Decision, Step) {
    let (mut decision, step) = Decision::begin(policy, head);
    let step = match step {
        Step::Charge(charge) => decision.charged(policy, spend(&charge)),
        step => step,
    };
    (decision, step)
}

/// Judges a decoded message after [`Step::ReadBody`], spending what it asks for. Ends in [`Step::Deny`] or
/// [`Step::Forward`].
pub fn decide_message(
    decision: &mut Decision,
    policy: &Policy,
    request: &InferRequest<'_>,
    mut spend: impl FnMut(&Charge) -> ChargeOutcome,
) -> Step {
    let step = match decision.message(policy, request) {
        Step::Charge(charge) => decision.charged(policy, spend(&charge)),
        step => step,
    };
    match step {
        Step::Check => decision.check(policy, request),
        step => step,
    }
}
