//! Lists of models that a client may see.

use super::{Model, ModelId, Policy};
use crate::request::{Operation, Proofs, Protocol, Requires};

impl Policy {
    /// Models on which a client with these proofs may perform an operation over a protocol, in name
    /// order.
    pub fn models_of(
        &self,
        client: &str,
        proofs: Proofs,
        protocol: Protocol,
        operation: Operation,
    ) -> impl Iterator<Item = &str> {
        let client = self.client_id(client);
        let may = move |id: &ModelId, model: &Model| {
            let versions = 0..u32::try_from(model.versions().len()).unwrap_or(0);
            client.is_some_and(|client| {
                let mut grants =
                    versions.map(|version| self.grant_for(client, *id, version, operation));
                grants.any(|grant| grant.is_some())
            })
        };
        self.models_by_name.values().filter_map(move |id| {
            let model = self.model(*id).filter(|model| may(id, model))?;
            let proven = |requires: Requires| requires.met_by(proofs);
            if !model.requires().is_none_or(proven) {
                return None;
            }
            model
                .protocols()
                .contains(&protocol)
                .then_some(model.name())
        })
    }
}
