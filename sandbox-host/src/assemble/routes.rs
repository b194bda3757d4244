//! Where each model's requests go: its backend and its handlers, found by the names that the policy gives them.

use std::collections::HashMap;
use std::sync::Arc;

use tensorgate_policy::Policy;
use tensorgate_policy::policy::{Accepts, Model, ModelId};

use super::{LoadedStage, PolicyFault, Server};
use crate::backends::openai::room::ANSWER_COPIES;
use crate::backends::question::Dialect;
use crate::budget::Budget;
use crate::copies::{self, Copies};
use crate::metrics::Metrics;
use crate::pipeline::ModelRoute;
use crate::sandbox::Role;

/// Backends by name, and handlers by name and role.
type Made<'m> = (
    &'m HashMap<String, Arc<Server>>,
    &'m HashMap<(String, Role), LoadedStage>,
);

/// Every model's route. `complete`: every part that the policy names was made.
pub(super) fn of(
    policy: &Policy,
    parts: Made<'_>,
    complete: bool,
    metrics: &Metrics,
    faults: &mut Vec<PolicyFault>,
) -> HashMap<ModelId, ModelRoute> {
    let room = Budget::new(copies::MAX_BYTES);
    let gives = policy.listen().limits().buffered_bytes;
    let mut routes = HashMap::new();
    for model in policy.models() {
        let needs = match model.accepts() {
            Accepts::OpenAi(rules) => rules.max_answer_bytes().saturating_mul(ANSWER_COPIES),
            Accepts::Tensors(_) | Accepts::Raw { .. } => {
                let backend = policy.backends().get(model.backend());
                backend.map_or(0, |rule| Dialect::of(rule.kind()).answer_room(model))
            }
        };
        if needs > gives {
            faults.push(PolicyFault::Budget {
                model: model.name().to_owned(),
                needs,
                gives,
            });
        }
        let copies = Copies::of(model, &room, metrics);
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
    (backends, handlers): Made<'_>,
    copies: Copies,
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
    let backend = backends
        .get(model.backend())
        .ok_or_else(|| unresolved("backend", model.backend()))?;
    let id = policy
        .model_id(model.name())
        .ok_or_else(|| unresolved("model", model.name()))?;
    let route = ModelRoute {
        preprocess: chain(model.preprocess(), Role::Preprocess)?,
        backend: Arc::clone(&backend.dispatcher),
        postprocess: chain(model.postprocess(), Role::Postprocess)?,
        copies,
    };
    Ok((id, route))
}
