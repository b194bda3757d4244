//! What a decision has established so far: for answers, logs and whoever decodes. Decides nothing.

use super::Decision;
use crate::contract::TensorRule;
use crate::denial::Denial;
use crate::policy::{Accepts, ClientId, GrantId, Level, Model, ModelId, Policy, Unit};
use crate::request::{Operation, Proofs, Protocol};

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

    /// The input tensors that the model's contract has, once the model is known: a body that names no datatypes is decoded by these.
    pub fn inputs<'p>(&self, policy: &'p Policy) -> &'p [TensorRule] {
        match self
            .model
            .and_then(|id| policy.model(id))
            .map(Model::accepts)
        {
            Some(Accepts::Tensors(contract)) => contract.inputs(),
            Some(Accepts::Raw { .. } | Accepts::OpenAi(_)) | None => &[],
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
