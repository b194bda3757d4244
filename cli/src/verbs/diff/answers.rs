//! Who is told more of answers, and who less: what a grant that stays gives each of its clients of each output, before and after.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::Serialize;
use tensorgate_policy::release::{Given, given};
use tensorgate_policy::{Operation, Policy};

use super::limits::Allows;

/// An output of which a client gets another part.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Changed {
    pub(super) grant: String,
    pub(super) client: String,
    pub(super) model: String,
    pub(super) output: String,
    /// `None`: nothing of it.
    pub(super) before: Option<String>,
    /// `None`: nothing of it any more.
    pub(super) after: Option<String>,
    /// Which way it goes, if it is one way.
    pub(super) allows: Option<Allows>,
}

/// Grant, client and model.
type Key = (String, String, String);

/// Every output of which somebody gets another part who infers by the same grant before and after.
pub(super) fn changed(before: &Policy, after: &Policy) -> Vec<Changed> {
    let (was, is) = (outputs(before), outputs(after));
    let both = was
        .iter()
        .filter_map(|(key, was)| Some((key, was, is.get(key)?)));
    let mut changes = Vec::new();
    for ((grant, client, model), was, is) in both {
        let mut names: Vec<_> = was.keys().chain(is.keys()).collect();
        names.sort_unstable();
        names.dedup();
        for output in names {
            let (was, is) = (was.get(output), is.get(output));
            if was == is {
                continue;
            }
            changes.push(Changed {
                grant: grant.clone(),
                client: client.clone(),
                model: model.clone(),
                output: output.clone(),
                before: was.map(told),
                after: is.map(told),
                allows: allows(was, is),
            });
        }
    }
    changes
}

/// What everybody who infers is given.
fn outputs(policy: &Policy) -> BTreeMap<Key, BTreeMap<String, Given>> {
    policy
        .granted()
        .filter(|(_, _, _, operation, _)| *operation == Operation::Infer)
        .filter_map(|(client, model, _, _, grant)| {
            let (id, grant) = (model, policy.grant(grant)?);
            let model = policy.model(id)?;
            let client = policy.client(client)?.name().to_owned();
            let key = (grant.name().to_owned(), client, model.name().to_owned());
            let rules = grant.returns(id, model).iter();
            let given =
                rules.filter_map(|rule| Some((rule.name().to_owned(), given(rule, grant)?)));
            Some((key, given.collect()))
        })
        .collect()
}

fn allows(before: Option<&Given>, after: Option<&Given>) -> Option<Allows> {
    let (before, after) = match (before, after) {
        (None, None) => return None,
        (None, _) => return Some(Allows::More),
        (_, None) => return Some(Allows::Less),
        (Some(before), Some(after)) => (before, after),
    };
    // All is more than any number.
    let scores = |it: &Given| it.top_k.unwrap_or(usize::MAX);
    let decimals = |it: &Given| it.round_decimals.unwrap_or(u32::MAX);
    let both = (
        scores(after).cmp(&scores(before)),
        decimals(after).cmp(&decimals(before)),
    );
    match both {
        (Ordering::Greater, Ordering::Greater | Ordering::Equal)
        | (Ordering::Equal, Ordering::Greater) => Some(Allows::More),
        (Ordering::Less, Ordering::Less | Ordering::Equal) | (Ordering::Equal, Ordering::Less) => {
            Some(Allows::Less)
        }
        _ => None,
    }
}

fn told(given: &Given) -> String {
    match (given.top_k, given.round_decimals) {
        (None, None) => "all".into(),
        (Some(top), None) => format!("top {top}"),
        (None, Some(decimals)) => format!("{decimals} decimals"),
        (Some(top), Some(decimals)) => format!("top {top}, {decimals} decimals"),
    }
}
