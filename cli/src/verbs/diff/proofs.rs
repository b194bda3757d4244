//! Differences in required proofs: which credentials of a client suffice for a model, before and
//! after.

use std::collections::BTreeMap;

use serde::Serialize;
use tensorgate_policy::Policy;
use tensorgate_policy::policy::{ClientId, Model, proofs_of};
use tensorgate_policy::request::{Proof, Proofs, Requires};

use super::limits::Allows;

/// A model whose required proofs change for a client.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Changed {
    pub(super) client: String,
    pub(super) model: String,
    pub(super) before: String,
    pub(super) after: String,
    /// Direction of the change, if it has one.
    pub(super) allows: Option<Allows>,
}

/// The kinds of proof that each client can give.
pub(super) struct ProofsOfClients(Vec<Proofs>);

impl ProofsOfClients {
    pub(super) fn of(policy: &Policy) -> Self {
        Self(proofs_of(policy.clients(), policy.api_keys()))
    }

    fn get(&self, client: ClientId) -> Proofs {
        let client = usize::try_from(client.0).ok();
        let proofs = client.and_then(|client| self.0.get(client));
        proofs.copied().unwrap_or(Proofs::NONE)
    }

    /// Whether a client's credentials can provide the proofs that a model requires.
    pub(super) fn can_meet(&self, client: ClientId, model: &Model) -> bool {
        let requires = model.requires();
        requires.is_none_or(|requires| requires.met_by(self.get(client)))
    }
}

/// Every model whose required proofs change for a client that is granted it before and after.
pub(super) fn changed(before: &Policy, after: &Policy) -> Vec<Changed> {
    let (was, is) = (sufficient(before), sufficient(after));
    was.iter()
        .filter_map(|(key, (was, before))| {
            let (is, after) = is.get(key)?;
            // Changes of the client's credentials also change these sets. They are reported
            // separately.
            if was == is || before == after {
                return None;
            }
            let more = was.iter().all(|one| is.contains(one));
            let less = is.iter().all(|one| was.contains(one));
            let (client, model) = key.clone();
            Some(Changed {
                client,
                model,
                before: describe(*before),
                after: describe(*after),
                allows: match (more, less) {
                    (true, false) => Some(Allows::More),
                    (false, true) => Some(Allows::Less),
                    _ => None,
                },
            })
        })
        .collect()
}

/// Sufficient sets of proofs, and the requirement, by client and model.
type Sufficient = BTreeMap<(String, String), (Vec<u8>, Option<Requires>)>;

fn sufficient(policy: &Policy) -> Sufficient {
    let proofs = ProofsOfClients::of(policy);
    policy
        .granted()
        .filter_map(|(id, model, ..)| {
            let (client, model) = (policy.client(id)?, policy.model(model)?);
            let requires = model.requires();
            let sets = (1..=u8::MAX).map_while(Proofs::from_bits);
            let enough = sets
                .filter(|set| proofs.get(id).holds(*set))
                .filter(|set| requires.is_none_or(|it| it.met_by(*set)))
                .map(Proofs::to_bits)
                .collect::<Vec<_>>();
            let key = (client.name().to_owned(), model.name().to_owned());
            (!enough.is_empty()).then_some((key, (enough, requires)))
        })
        .collect()
}

fn describe(requires: Option<Requires>) -> String {
    let names = |wanted: Proofs, between: &str| {
        let wanted = Proof::ALL
            .into_iter()
            .filter(|proof| wanted.holds(Proofs::NONE.with(*proof)));
        wanted.map(Proof::name).collect::<Vec<_>>().join(between)
    };
    match requires {
        None => "any proof".into(),
        Some(Requires::AnyOf(wanted)) => names(wanted, " or "),
        Some(Requires::AllOf(wanted)) => names(wanted, " and "),
    }
}
