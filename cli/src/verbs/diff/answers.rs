//! Differences in outputs: what a grant returns to each of its clients, before and after.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::Serialize;
use tensorgate_policy::release::{Given, given};
use tensorgate_policy::{Operation, Policy};

use super::limits::Allows;

/// An output whose returned part changes for a client.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Changed {
    pub(super) grant: String,
    pub(super) client: String,
    pub(super) model: String,
    pub(super) output: String,
    /// The returned part before; `None` for nothing.
    pub(super) before: Option<String>,
    /// The returned part after; `None` for nothing.
    pub(super) after: Option<String>,
    /// Direction of the change, if it has one.
    pub(super) allows: Option<Allows>,
}

/// Grant, client and model.
type Key = (String, String, String);

/// Every output that changes for a client with the same grant before and after.
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
                before: was.map(describe),
                after: is.map(describe),
                allows: allows(was, is),
            });
        }
    }
    changes
}

/// Returned outputs of every client that may infer.
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
    // No limit allows more than any number.
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

fn describe(given: &Given) -> String {
    match (given.top_k, given.round_decimals) {
        (None, None) => "all".into(),
        (Some(top), None) => format!("top {top}"),
        (None, Some(decimals)) => format!("{decimals} decimals"),
        (Some(top), Some(decimals)) => format!("top {top}, {decimals} decimals"),
    }
}
