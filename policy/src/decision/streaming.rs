//! Steps for a body that is too large to buffer: its head is validated, then each part, then its
//! end.

use super::content::answered_in_json;
use super::shadow::deny_or_note;
use super::{Decision, Stage, Step, foreign_policy, out_of_order};
use crate::contract::{Contract, Elements, Part};
use crate::denial::Denial;
use crate::policy::{Accepts, Model, ModelId, Policy};
use crate::values::tensor::InferRequest;

impl Decision {
    /// Validates the head of a message whose elements follow; `elements` says where each input's
    /// are. The content is charged then. An invalid element later gives no refund, so faults do not
    /// make requests cheaper.
    pub fn check_head(
        &mut self,
        policy: &Policy,
        request: &InferRequest<'_>,
        elements: &[Elements],
    ) -> Step {
        let step = match self.stage {
            Stage::Check => self.head_of_content(policy, request, elements),
            _ => Err(out_of_order("check_head")),
        };
        self.latch(Some(policy), step)
    }

    /// Validates a part. [`Step::Forward`]: the part may be forwarded.
    pub fn pass(&mut self, policy: &Policy, part: Part<'_>) -> Step {
        let shadow = self.shadow(policy);
        let step = match (self.stage, self.streaming.as_mut()) {
            (Stage::Streaming, Some(passing)) => contract(policy, self.model)
                .and_then(|contract| {
                    contract.check_part(passing, part, &mut |denial| {
                        deny_or_note(shadow, &mut self.shadowed, denial)
                    })
                })
                .map(|()| Step::Forward),
            _ => Err(out_of_order("pass")),
        };
        self.latch(Some(policy), step)
    }

    /// Ends the body after every charge has its outcome. [`Step::Forward`]: the request is allowed.
    pub fn passed(&mut self) -> Step {
        let over = self
            .streaming
            .take()
            .is_some_and(|passing| passing.is_over());
        let step = if self.stage == Stage::Streaming && over && self.pending_charges.is_empty() {
            self.stage = Stage::Over;
            Ok(Step::Forward)
        } else {
            Err(out_of_order("passed"))
        };
        self.latch(None, step)
    }

    /// Validates the head of a message.
    fn head_of_content(
        &mut self,
        policy: &Policy,
        request: &InferRequest<'_>,
        elements: &[Elements],
    ) -> Result<Step, Denial> {
        let model = self.model.and_then(|id| policy.model(id));
        let (model, contract) = model
            .and_then(|model| match model.accepts() {
                Accepts::Tensors(contract) => Some((model, contract)),
                _ => None,
            })
            .ok_or_else(foreign_policy)?;
        let shadow = self.shadow(policy);
        let asked = self.asked(policy);
        answered_in_json(self.plan.format, &asked, model, request)?;
        let passing = contract.check_head(&asked, request, elements, &mut |denial| {
            deny_or_note(shadow, &mut self.shadowed, denial)
        })?;
        self.streaming = Some(passing);
        let cost = contract.cost_of_head(request, elements, self.body_bytes);
        self.charge_content(policy, cost)
    }
}

/// Contract of a model that takes tensors.
fn contract(policy: &Policy, model: Option<ModelId>) -> Result<&Contract, Denial> {
    match model.and_then(|id| policy.model(id)).map(Model::accepts) {
        Some(Accepts::Tensors(contract)) => Ok(contract),
        _ => Err(foreign_policy()),
    }
}
