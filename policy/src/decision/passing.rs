//! The steps for a body that is too large to be held: its head is checked, then every part of it that passes, then its end.

use super::content::answered_in_json;
use super::shadow::hold;
use super::{Decision, Stage, Step, foreign_policy, out_of_order};
use crate::contract::{Contract, Elements, Part};
use crate::denial::Denial;
use crate::policy::{Accepts, Model, ModelId, Policy};
use crate::tensor::InferRequest;

impl Decision {
    /// Checks the head of a message whose elements are still to pass: where each input's are is in `elements`. What it carries is charged
    /// then, and not given back if one of them is refused: a fault is no way to send more for less.
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

    /// Checks elements that pass. [`Step::Forward`]: these may go on.
    pub fn pass(&mut self, policy: &Policy, part: Part<'_>) -> Step {
        let shadow = self.shadow(policy);
        let step = match (self.stage, self.passing.as_mut()) {
            (Stage::Passing, Some(passing)) => contract(policy, self.model)
                .and_then(|contract| {
                    contract.check_part(passing, part, &mut |denial| {
                        hold(shadow, &mut self.shadowed, denial)
                    })
                })
                .map(|()| Step::Forward),
            _ => Err(out_of_order("pass")),
        };
        self.latch(Some(policy), step)
    }

    /// All has passed, and every charge is told. [`Step::Forward`]: the request is allowed.
    pub fn passed(&mut self) -> Step {
        let over = self.passing.take().is_some_and(|passing| passing.is_over());
        let step = if self.stage == Stage::Passing && over && self.later.is_empty() {
            self.stage = Stage::Over;
            Ok(Step::Forward)
        } else {
            Err(out_of_order("passed"))
        };
        self.latch(None, step)
    }

    /// What the head of a message says.
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
            hold(shadow, &mut self.shadowed, denial)
        })?;
        self.passing = Some(passing);
        let carried = contract.cost_of_head(request, elements, self.body_bytes);
        self.pay_content(policy, carried)
    }
}

/// The contract of a model that takes tensors.
fn contract(policy: &Policy, model: Option<ModelId>) -> Result<&Contract, Denial> {
    match model.and_then(|id| policy.model(id)).map(Model::accepts) {
        Some(Accepts::Tensors(contract)) => Ok(contract),
        _ => Err(foreign_policy()),
    }
}
