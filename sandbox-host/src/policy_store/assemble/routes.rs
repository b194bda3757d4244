//! Builds the routes of all models from a policy and its parts. It loads and opens nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tensorgate_base::payload::Role;
use tensorgate_judge::budget::beyond_budget;
use tensorgate_policy::Policy;
use tensorgate_policy::policy::{EnsembleStep, Grant, GrantId, Model, ModelId};
use tensorgate_telemetry::metrics::Metrics;

use super::PolicyFault;
use crate::pipeline::mirroring::{self, Mirrors};
use crate::pipeline::{HandlerChain, ModelRoute, Target};
use crate::policy_store::parts::{LoadedStage, Server};

/// The grants with handlers of their own for a model.
pub(super) fn grant_handlers(
    policy: &Policy,
    id: ModelId,
) -> impl Iterator<Item = (ModelId, GrantId, &Grant)> {
    let grants = policy.grants_by_id();
    grants
        .filter(move |(_, grant)| grant.has_own_handlers(id))
        .map(move |(grant_id, grant)| (id, grant_id, grant))
}

/// Every handler that a model or a grant uses, by name and role.
pub(in crate::policy_store) fn used(policy: &Policy) -> BTreeSet<(String, Role)> {
    let used = policy.models().iter().flat_map(|model| {
        let own = (policy.model_id(model.name()))
            .into_iter()
            .flat_map(|id| grant_handlers(policy, id))
            .map(move |(id, _, grant)| (grant.preprocess(id, model), grant.postprocess(id, model)));
        let own = own.chain([(model.preprocess(), model.postprocess())]);
        own.flat_map(|(before, after)| {
            let before = before.iter().map(|name| (name.clone(), Role::Preprocess));
            before.chain(after.iter().map(|name| (name.clone(), Role::Postprocess)))
        })
    });
    used.collect()
}

/// Backends by name, and handlers by name and role.
pub(super) type LoadedHandlers<'m> = (
    &'m HashMap<String, Arc<Server>>,
    &'m HashMap<(String, Role), LoadedStage>,
);

/// Builds the route of every model. `complete` says whether every part could be built.
pub(super) fn routes(
    policy: &Policy,
    parts: LoadedHandlers<'_>,
    complete: bool,
    (metrics, room): (&Metrics, &mirroring::MirrorSlots),
    faults: &mut Vec<PolicyFault>,
) -> HashMap<ModelId, ModelRoute> {
    faults.extend(beyond_budget(policy).into_iter().map(PolicyFault::from));
    let mut routes = HashMap::new();
    for model in policy.models() {
        let copies = Mirrors::for_model(model, room, metrics);
        match route(policy, model, parts, copies) {
            Ok((id, route)) => {
                routes.insert(id, route);
            }
            Err(fault) if complete => faults.push(fault),
            Err(_) => {}
        }
    }
    routes
}

fn route(
    policy: &Policy,
    model: &Model,
    (backends, handlers): LoadedHandlers<'_>,
    copies: Mirrors,
) -> Result<(ModelId, ModelRoute), PolicyFault> {
    let unresolved = |what, name: &str| PolicyFault::Unresolved {
        model: model.name().to_owned(),
        what,
        name: name.to_owned(),
    };
    let chain = |names: &[String], role| {
        let stage = |name: &String| {
            handlers
                .get(&(name.clone(), role))
                .map(|loaded| loaded.stage.clone())
                .ok_or_else(|| unresolved("handler", name))
        };
        names.iter().map(stage).collect::<Result<Vec<_>, _>>()
    };
    let backend = |of: &Model| {
        let found = backends.get(of.backend());
        found
            .map(|server| Arc::clone(&server.dispatcher))
            .ok_or_else(|| unresolved("backend", of.backend()))
    };
    let target = match model.ensemble() {
        None if model.is_guardrail() => Target::Handlers,
        None => Target::Backend(backend(model)?),
        Some(ensemble) => {
            let step = |step: &EnsembleStep| {
                let member = policy.model(step.model());
                backend(member.ok_or_else(|| unresolved("model", step.version()))?)
            };
            Target::Ensemble(
                ensemble
                    .steps()
                    .iter()
                    .map(step)
                    .collect::<Result<_, _>>()?,
            )
        }
    };
    let links = |before: &[String], after: &[String]| {
        let before = chain(before, Role::Preprocess)?;
        Ok::<_, PolicyFault>(HandlerChain::new(before, chain(after, Role::Postprocess)?))
    };
    let id = policy
        .model_id(model.name())
        .ok_or_else(|| unresolved("model", model.name()))?;
    let route = ModelRoute {
        links: links(model.preprocess(), model.postprocess())?,
        own: grant_handlers(policy, id)
            .map(|(model_id, id, grant)| {
                let before = grant.preprocess(model_id, model);
                Ok((id, links(before, grant.postprocess(model_id, model))?))
            })
            .collect::<Result<_, PolicyFault>>()?,
        target,
        mirrors: copies,
    };
    Ok((id, route))
}
