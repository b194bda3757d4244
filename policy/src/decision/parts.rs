//! Validates a complete body in the parts in which it is in memory. Nothing is noted or charged
//! before the last part: a body with a fault is then validated as a whole, which tells the fault.

use tensorgate_values::tensor::InferRequest;

use super::content::answered_in_json;
use super::{Decision, Stage, contract};
use crate::contract::{Elements, Part, RequestCost, StreamingCheck};
use crate::decision::Step;
use crate::policy::Policy;

/// A check in progress.
#[derive(Debug)]
pub struct PartsCheck {
    streaming: StreamingCheck,
    /// The cost of what the parts so far have.
    cost: RequestCost,
}

impl PartsCheck {
    /// Begins the check in place of [`Decision::check`]; `elements` says where each input's are.
    /// `None`, here and later: the body has a fault.
    pub fn begin(
        decision: &Decision,
        policy: &Policy,
        request: &InferRequest<'_>,
        elements: &[Elements],
    ) -> Option<Self> {
        if decision.stage != Stage::Check || decision.denial.is_some() {
            return None;
        }
        let model = decision.granted(policy).ok()?;
        let contract = contract(policy, decision.model).ok()?;
        let scope = decision.output_scope(policy);
        answered_in_json(decision.plan.format, &scope, model, request).ok()?;
        let head = contract.check_head(&scope, request, elements, &mut Err);
        Some(Self {
            streaming: head.ok()?,
            cost: contract.cost(request),
        })
    }

    /// Validates the next part.
    pub fn next(mut self, decision: &Decision, policy: &Policy, part: Part<'_>) -> Option<Self> {
        if let Part::Begin { bytes } = part {
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            self.cost.bytes = self.cost.bytes.saturating_add(bytes);
        }
        let contract = contract(policy, decision.model).ok()?;
        let checked = contract.check_part(&mut self.streaming, part, &mut Err);
        checked.is_ok().then_some(self)
    }

    /// Accepts the body, if all of its parts were validated.
    pub fn accept(self, decision: &mut Decision, policy: &Policy) -> Option<Step> {
        if !self.streaming.is_over() {
            return None;
        }
        let step = decision.charge_content(policy, self.cost);
        Some(decision.latch(Some(policy), step))
    }
}
