//! Models that clients reach through an ensemble, without a grant of their own.

use std::collections::BTreeSet;

use serde::Serialize;
use tensorgate_policy::Policy;
use tensorgate_policy::policy::{Ensemble, EnsembleStep};

use super::proofs::ProofsOfClients;

/// A model version that a client's requests reach.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Reached {
    pub(super) client: String,
    pub(super) model: String,
    pub(super) version: String,
    /// Name of the ensemble.
    pub(super) through: String,
    pub(super) grant: String,
}

/// Models that only the new policy reaches, and those that only the old policy reaches.
pub(super) fn changed(before: &Policy, after: &Policy) -> (Vec<Reached>, Vec<Reached>) {
    let (was, is) = (reached(before), reached(after));
    let only = |one: &BTreeSet<Reached>, other| one.difference(other).cloned().collect();
    (only(&is, &was), only(&was, &is))
}

fn reached(policy: &Policy) -> BTreeSet<Reached> {
    let proofs = ProofsOfClients::of(policy);
    let granted = policy
        .granted()
        .filter(|(.., operation, _)| operation.infers());
    let reached = granted.filter_map(|(client_id, id, _, _, grant)| {
        let (client, ensemble) = (policy.client(client_id)?, policy.model(id)?);
        let grant = policy.grant(grant)?;
        let steps = ensemble.ensemble().map_or(&[][..], Ensemble::steps);
        let of_step = |step: &EnsembleStep| {
            Some(Reached {
                client: client.name().to_owned(),
                model: policy.model(step.model())?.name().to_owned(),
                version: step.version().to_owned(),
                through: ensemble.name().to_owned(),
                grant: grant.name().to_owned(),
            })
        };
        let can_meet = proofs.can_meet(client_id, ensemble);
        can_meet.then(|| steps.iter().filter_map(of_step).collect::<Vec<_>>())
    });
    reached.flatten().collect()
}
