//! Facts that a decision has established: for responses, logs and decoders.

use alloc::vec::Vec;

use super::Decision;
use crate::contract::TensorRule;
use crate::denial::Denial;
use crate::policy::{
    Accepts, ClientId, GrantId, Model, ModelId, Policy, RemainingQuota, Template, Unit,
};
use crate::request::{Operation, Proofs, Protocol};

/// Information of the model that a decoder needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadBy<'p> {
    /// The model's input tensors, for their datatypes; empty for a model that takes a file.
    pub inputs: &'p [TensorRule],
    /// Locations of tensors in the model's own JSON.
    pub template: Option<&'p Template>,
}

impl<'p> From<&'p [TensorRule]> for ReadBy<'p> {
    fn from(inputs: &'p [TensorRule]) -> Self {
        Self {
            inputs,
            template: None,
        }
    }
}

impl<'p, const N: usize> From<&'p [TensorRule; N]> for ReadBy<'p> {
    fn from(inputs: &'p [TensorRule; N]) -> Self {
        Self::from(inputs.as_slice())
    }
}

impl<'p> From<&'p Vec<TensorRule>> for ReadBy<'p> {
    fn from(inputs: &'p Vec<TensorRule>) -> Self {
        Self::from(inputs.as_slice())
    }
}

impl Decision {
    /// The client, once known.
    pub const fn client(&self) -> Option<ClientId> {
        self.client
    }

    /// Proofs that the caller has provided.
    pub const fn proofs(&self) -> Proofs {
        self.proofs
    }

    /// The grant, once found.
    pub const fn grant(&self) -> Option<GrantId> {
        self.grant
    }

    /// The model, once granted.
    pub const fn model(&self) -> Option<ModelId> {
        self.model
    }

    /// The version, once granted; always explicit.
    pub fn version<'p>(&self, policy: &'p Policy) -> Option<&'p str> {
        let index = usize::try_from(self.version?).ok()?;
        Some(policy.model(self.model?)?.versions().get(index)?.as_str())
    }

    /// The operation, once the route is known.
    pub const fn operation(&self) -> Option<Operation> {
        self.operation
    }

    /// Protocol of the response.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Declared length of the body, in bytes.
    pub const fn declared(&self) -> Option<u64> {
        self.declared
    }

    /// Information of the model that a decoder needs, once the model is known.
    pub fn read_by<'p>(&self, policy: &'p Policy) -> ReadBy<'p> {
        let model = self.model.and_then(|id| policy.model(id));
        ReadBy {
            inputs: match model.map(Model::accepts) {
                Some(Accepts::Tensors(contract)) => contract.inputs(),
                Some(Accepts::Raw { .. } | Accepts::OpenAi(_)) | None => &[],
            },
            template: model.and_then(Model::template).map(|template| &**template),
        }
    }

    /// The denial, if any.
    pub const fn denial(&self) -> Option<&Denial> {
        self.denial.as_ref()
    }

    /// Denials that the grant's shadow mode let pass: the first of each reason.
    pub fn shadowed(&self) -> &[Denial] {
        &self.shadowed
    }

    /// Quotas of the charged limits in order: those on content, or those on requests.
    pub fn remaining_quotas(&self, content: bool) -> impl Iterator<Item = RemainingQuota> + '_ {
        self.charged_quotas
            .iter()
            .filter(move |(allowance, _)| (allowance.unit != Unit::Requests) == content)
            .map(|(_, quota)| *quota)
    }
}
