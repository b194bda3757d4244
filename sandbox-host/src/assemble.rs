//! Turns a policy into the parts that run it: handlers loaded, backends addressed, every model routed. A policy that cannot be
//! served is refused here, before anything listens.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use tensorgate_policy::Policy;
use tensorgate_policy::policy::{Model, ModelId};
use tokio::task::JoinSet;

use crate::backends::answer;
use crate::backends::oip::Endpoint;
use crate::config;
use crate::dispatch::Dispatcher;
use crate::health::{self, BackendHealth};
use crate::host::StartError;
use crate::metrics::{BackendLabels, Metrics};
use crate::pipeline::{ModelRoute, Stage};
use crate::sandbox::{Role, Sandbox, SandboxConfig};

/// Handlers by name and role, and the sandbox that runs them; none for a policy that uses none.
pub(crate) type Handlers = (Option<Sandbox>, HashMap<(String, Role), Stage>);

/// Loads every handler that a model uses, in the roles in which it is used. Compiles, so it takes a while.
pub(crate) fn handlers(policy: &Policy, root: &Path) -> Result<Handlers, StartError> {
    let used = policy.models().iter().flat_map(|model| {
        let before = model
            .preprocess()
            .map(|name| (model, name, Role::Preprocess));
        before.into_iter().chain(
            model
                .postprocess()
                .map(|name| (model, name, Role::Postprocess)),
        )
    });
    let mut sandbox = None;
    let mut stages: HashMap<(String, Role), Stage> = HashMap::new();
    for (model, name, role) in used {
        let key = (name.to_owned(), role);
        if stages.contains_key(&key) {
            continue;
        }
        let rule = policy
            .handlers()
            .get(name)
            .ok_or_else(|| unresolved(model, "handler", name))?;
        let component = config::component(root, rule.component())?;
        let sandbox = match &mut sandbox {
            Some(sandbox) => sandbox,
            None => sandbox.insert(Sandbox::new(sandbox_config(policy))?),
        };
        let handler = sandbox.load(name, rule, role, &component)?;
        tracing::info!(
            handler = name,
            role = role.export(),
            bytes = component.len(),
            "handler loaded"
        );
        stages.insert(
            key,
            Stage {
                name: name.to_owned(),
                handler,
            },
        );
    }
    Ok((sandbox, stages))
}

/// The pool reserves address space for the largest memory of any handler, so it is sized by the policy.
fn sandbox_config(policy: &Policy) -> SandboxConfig {
    let largest = policy
        .handlers()
        .values()
        .map(tensorgate_policy::policy::Handler::memory_bytes)
        .max();
    let default = SandboxConfig::default();
    SandboxConfig {
        max_memory_bytes: largest.unwrap_or(default.max_memory_bytes),
        ..default
    }
}

/// A dispatcher for every backend, and its prober at work.
pub(crate) fn backends(
    policy: &Policy,
    endpoints: &BTreeMap<String, String>,
    metrics: &Metrics,
    probers: &mut JoinSet<()>,
) -> Result<HashMap<String, Arc<Dispatcher>>, StartError> {
    let mut dispatchers = HashMap::new();
    for (name, rule) in policy.backends() {
        let addresses = config::addresses(name, rule, endpoints)?;
        let endpoints = addresses
            .iter()
            .map(|uri| Endpoint::new(uri).map(Arc::new))
            .collect::<Result<Vec<_>, _>>();
        let endpoints = endpoints.map_err(|source| StartError::Endpoint {
            name: name.clone(),
            source,
        })?;
        let models = policy
            .models()
            .iter()
            .filter(|model| model.backend() == name);
        let versions = models.flat_map(|model| {
            model
                .versions()
                .iter()
                .map(|version| (model.backend_model().to_owned(), version.clone()))
        });
        let health = Arc::new(BackendHealth::new(name, endpoints.len(), versions));
        let gauge = metrics
            .backend_ready
            .get_or_create(&BackendLabels {
                backend: name.clone(),
            })
            .clone();
        probers.spawn(health::probe(Arc::clone(&health), endpoints.clone(), gauge));
        dispatchers.insert(
            name.clone(),
            Arc::new(Dispatcher::new(name, rule, endpoints, health, metrics)),
        );
    }
    Ok(dispatchers)
}

/// Every model's route.
pub(crate) fn routes(
    policy: &Policy,
    backends: &HashMap<String, Arc<Dispatcher>>,
    stages: &HashMap<(String, Role), Stage>,
) -> Result<HashMap<ModelId, ModelRoute>, StartError> {
    let gives = policy.listen().limits().buffered_bytes;
    let mut routes = HashMap::new();
    for model in policy.models() {
        let needs = answer::max_bytes(model.backend_outputs());
        if needs > gives {
            return Err(StartError::Budget {
                model: model.name().to_owned(),
                needs,
                gives,
            });
        }
        let stage = |name: Option<&str>, role| match name {
            Some(name) => stages
                .get(&(name.to_owned(), role))
                .cloned()
                .map(Some)
                .ok_or_else(|| unresolved(model, "handler", name)),
            None => Ok(None),
        };
        let backend = backends
            .get(model.backend())
            .ok_or_else(|| unresolved(model, "backend", model.backend()))?;
        let id = policy
            .model_id(model.name())
            .ok_or_else(|| unresolved(model, "model", model.name()))?;
        let route = ModelRoute {
            preprocess: stage(model.preprocess(), Role::Preprocess)?,
            backend: Arc::clone(backend),
            postprocess: stage(model.postprocess(), Role::Postprocess)?,
        };
        routes.insert(id, route);
    }
    Ok(routes)
}

fn unresolved(model: &Model, what: &'static str, name: &str) -> StartError {
    StartError::Unresolved {
        model: model.name().to_owned(),
        what,
        name: name.to_owned(),
    }
}
