//! The structure of a loaded policy: names are in order, and indices and names lead somewhere.

use alloc::collections::BTreeSet;

use crate::policy::{ClientId, GrantId, MAX_POLICY_SLOTS, Model, ModelId, Policy};

/// Checks the structure.
pub(super) fn check(policy: &Policy) -> Result<(), &'static str> {
    let ordered = policy.clients.is_sorted_by(|a, b| a.name() < b.name())
        && policy.models.is_sorted_by(|a, b| a.name() < b.name());
    require(ordered, "names are not in order")?;
    let digests = policy.api_keys.is_sorted_by(|a, b| a.sha256() < b.sha256())
        && policy.revoked.keys.is_sorted_by(|a, b| a < b);
    require(digests, "digests of keys are not in order")?;
    require(
        policy
            .api_keys
            .iter()
            .all(|key| has_client(policy, key.client)),
        "a key belongs to no client",
    )?;
    check_limits(policy)?;
    require(
        policy.granted.roles.len() == policy.clients.len(),
        "a client has no role",
    )?;
    require(
        policy.models.iter().all(|model| is_complete(policy, model)),
        "a model refers to what is not there",
    )?;
    require(
        policy.grants.iter().all(|grant| {
            grant.clients.iter().all(|id| has_client(policy, *id))
                && grant.handlers.iter().all(|(id, own)| {
                    let names = [&own.preprocess, &own.postprocess].into_iter().flatten();
                    policy.model(*id).is_some() && has_handlers(policy, names.flatten())
                })
        }),
        "a grant refers to what is not there",
    )?;
    require(
        policy
            .granted
            .by_role
            .iter()
            .all(|(&(_, model, version, _), &grant)| {
                has_version(policy, model, version) && has_grant(policy, grant)
            }),
        "a permission refers to what is not there",
    )
}

/// Limits that hosts and filters rely on.
fn check_limits(policy: &Policy) -> Result<(), &'static str> {
    let mut names = BTreeSet::new();
    require(
        policy.grants.iter().all(|grant| names.insert(grant.name())),
        "two grants have one name",
    )?;
    require(
        policy.listen.limits.connections > 0,
        "no connection is allowed",
    )?;
    require(
        policy.caller_slots() <= MAX_POLICY_SLOTS,
        "users and sources have too many counters",
    )
}

fn require(holds: bool, fault: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(fault) }
}

fn is_complete(policy: &Policy, model: &Model) -> bool {
    let backend = model.backend();
    let steps = model.ensemble().into_iter().flat_map(|it| it.steps());
    !model.versions().is_empty()
        && (backend.is_empty() || policy.backends.contains_key(backend))
        && has_handlers(policy, model.preprocess().iter().chain(model.postprocess()))
        && steps.enumerate().all(|(index, step)| {
            let member = policy.model(step.model());
            // A member is called without its own steps.
            member.is_some_and(|member| member.ensemble().is_none())
                && step.after().iter().all(|&it| it < index)
        })
}

fn has_handlers<'n>(
    policy: &Policy,
    mut names: impl Iterator<Item = &'n alloc::string::String>,
) -> bool {
    names.all(|name| policy.handlers.contains_key(name))
}

fn has_client(policy: &Policy, id: ClientId) -> bool {
    policy.client(id).is_some()
}

fn has_grant(policy: &Policy, id: GrantId) -> bool {
    policy.grant(id).is_some()
}

fn has_version(policy: &Policy, model: ModelId, version: u32) -> bool {
    let versions = policy
        .model(model)
        .map_or(0, |model| model.versions().len());
    usize::try_from(version).is_ok_and(|version| version < versions)
}
