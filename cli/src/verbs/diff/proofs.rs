//! Who has to prove more of who it is, and who less: by which of its credentials a client may use a model, before and after.

use std::collections::BTreeMap;

use serde::Serialize;
use tensorgate_policy::Policy;
use tensorgate_policy::policy::{Client, Model};
use tensorgate_policy::request::{Proof, Proofs, Requires};

use super::limits::Allows;

/// A model that asks a client for other proofs.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Changed {
    pub(super) client: String,
    pub(super) model: String,
    pub(super) before: String,
    pub(super) after: String,
    /// Which way it goes, if it is one way.
    pub(super) allows: Option<Allows>,
}

/// Whether a client can prove by its credentials what a model asks for.
pub(super) fn can_meet(client: &Client, model: &Model) -> bool {
    model
        .requires()
        .is_none_or(|requires| requires.met_by(client.proofs()))
}

/// Every model that is granted to somebody before and after, and asks it for other proofs.
pub(super) fn changed(before: &Policy, after: &Policy) -> Vec<Changed> {
    let (was, is) = (enough(before), enough(after));
    was.iter()
        .filter_map(|(key, (was, before))| {
            let (is, after) = is.get(key)?;
            // What its credentials come to changes with them too; that is told where they stand.
            if was == is || before == after {
                return None;
            }
            let more = was.iter().all(|one| is.contains(one));
            let less = is.iter().all(|one| was.contains(one));
            let (client, model) = key.clone();
            Some(Changed {
                client,
                model,
                before: told(*before),
                after: told(*after),
                allows: match (more, less) {
                    (true, false) => Some(Allows::More),
                    (false, true) => Some(Allows::Less),
                    _ => None,
                },
            })
        })
        .collect()
}

/// Sets of a client's proofs that are enough, and what is asked for, by client and model.
type Enough = BTreeMap<(String, String), (Vec<u8>, Option<Requires>)>;

fn enough(policy: &Policy) -> Enough {
    policy
        .granted()
        .filter_map(|(client, model, ..)| {
            let (client, model) = (policy.client(client)?, policy.model(model)?);
            let requires = model.requires();
            let sets = (1..=u8::MAX).map_while(Proofs::from_bits);
            let enough = sets
                .filter(|set| client.proofs().holds(*set))
                .filter(|set| requires.is_none_or(|it| it.met_by(*set)))
                .map(Proofs::to_bits)
                .collect::<Vec<_>>();
            let key = (client.name().to_owned(), model.name().to_owned());
            (!enough.is_empty()).then_some((key, (enough, requires)))
        })
        .collect()
}

fn told(requires: Option<Requires>) -> String {
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
