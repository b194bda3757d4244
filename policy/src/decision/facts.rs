//! What a decision has established so far: for answers, logs and whoever decodes. Decides nothing.

use alloc::vec::Vec;

use super::Decision;
use crate::contract::TensorRule;
use crate::denial::Denial;
use crate::policy::{Accepts, ClientId, GrantId, Level, Model, ModelId, Policy, Template, Unit};
use crate::request::{Operation, Proofs, Protocol};

/// What a body is read by that does not say everything itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadBy<'p> {
    /// The model's input tensors, for datatypes; none where it takes a file.
    pub inputs: &'p [TensorRule],
    /// Where they sit in JSON of its own.
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

    /// By what the caller has proven that it is the client.
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

    /// The version, once granted: always an explicit one.
    pub fn version<'p>(&self, policy: &'p Policy) -> Option<&'p str> {
        let index = usize::try_from(self.version?).ok()?;
        Some(policy.model(self.model?)?.versions().get(index)?.as_str())
    }

    /// What is asked, once the route is known.
    pub const fn operation(&self) -> Option<Operation> {
        self.operation
    }

    /// The protocol in which to answer.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The body's declared length, bytes.
    pub const fn declared(&self) -> Option<u64> {
        self.declared
    }

    /// By what of the model a body is decoded that does not say everything itself, once the model is known.
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

    /// Why it was refused, if it was.
    pub const fn denial(&self) -> Option<&Denial> {
        self.denial.as_ref()
    }

    /// Why it would have been refused but for its grant's mode: the first denial of each reason.
    pub fn shadowed(&self) -> &[Denial] {
        &self.shadowed
    }

    /// What the limits had that were charged for the request, or for what it carries, in their order.
    pub fn levels(&self, content: bool) -> impl Iterator<Item = Level> + '_ {
        self.levels
            .iter()
            .filter(move |(allowance, _)| (allowance.unit != Unit::Requests) == content)
            .map(|(_, level)| *level)
    }
}
