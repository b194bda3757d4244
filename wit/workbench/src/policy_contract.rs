//! A model's contract in a policy, to which a handler's result is held as the host does it.

use std::path::Path;

use tensorgate_base::payload::{Payload, Role};
use tensorgate_cli_common::Failure;
use tensorgate_policy::contract::check_tensors;
use tensorgate_policy::contract::guardrail::{check_answer, text_characters};
use tensorgate_policy::{Policy, Tensor};
use tensorgate_policy_load::load::load;

/// The contract of one model, for handlers of one role.
pub struct PolicyContract {
    policy: Policy,
    model: String,
    role: Role,
}

impl PolicyContract {
    /// Reads the contract of a model from a policy file. The model's handlers are not compared:
    /// the tested handler need not be in the policy yet.
    ///
    /// # Errors
    /// The policy has faults, or has no such model.
    pub fn load(file: &Path, model: &str, role: Role) -> Result<Self, Failure> {
        let policy = load(file)?.version.policy;
        if policy.model_id(model).is_none() {
            let names: Vec<&str> = policy.models().iter().map(|model| model.name()).collect();
            return Err(Failure::Input(format!(
                "{} has no model {model:?}; it has {}",
                file.display(),
                names.join(", ")
            )));
        }
        Ok(Self {
            policy,
            model: model.to_owned(),
            role,
        })
    }

    /// What the host would log about these tensors of a handler for this input, or `None` if they
    /// keep the contract. A rule in shadow mode counts like any other.
    pub fn fault(&self, handler: &str, input: &Payload, tensors: &[Tensor<'_>]) -> Option<String> {
        let model = self.policy.model(self.policy.model_id(&self.model)?)?;
        let rules = match self.role {
            Role::Preprocess => model.backend_inputs(),
            Role::Postprocess => model.returns(),
        };
        if let Err(denial) = check_tensors(rules, tensors, &mut Err) {
            return Some(format!(
                "handler {handler:?}'s output breaks the contract: {}: {}",
                denial.reason, denial.cause
            ));
        }
        let Payload::Tensors(inputs) = input else {
            return None;
        };
        let characters = model.is_guardrail().then(|| text_characters(inputs))?;
        let cause = check_answer(characters, tensors).err()?;
        Some(format!(
            "handler {handler:?}'s output breaks the guardrail contract: {cause}"
        ))
    }
}
