//! Ensembles: the calls form an acyclic graph, every model gets its inputs, and every output is
//! made once.

use std::collections::{BTreeMap, BTreeSet};

use tensorgate_policy::contract::{TensorRule, most_of};
use tensorgate_policy::policy::{Accepts, Ensemble, EnsembleStep, Model, ModelId, TensorMapping};
use tensorgate_policy::report::{Path, quote};

use super::interfaces::{self, fits, gives_more, lets_in_more};
use super::usage::Selector;
use crate::raw::{self, EnsembleStep as RawStep};

/// Maximum calls per request: each needs a permit at its backend.
const MAX_STEPS: usize = 16;

/// Rejects model fields that have no meaning for an ensemble.
pub(super) fn meaningless(path: &Path, raw: &raw::Model) -> Option<()> {
    let mut valid = Some(());
    let versions = match &raw.versions {
        raw::Versions::Listed(versions) => versions.len() == 1,
        raw::Versions::Ruled(_) => false,
    };
    if !versions {
        let message = "an ensemble has one version; its steps choose the versions of their models";
        valid = path.field("versions").fail_with_fix(message, "[\"1\"]");
    }
    for (name, is_there) in [
        ("backend", raw.backend.is_some()),
        ("backend_model", raw.backend_model.is_some()),
        ("decoupled", raw.decoupled.is_some()),
    ] {
        if is_there {
            let message = "is not for an ensemble: each of its models has its own";
            valid = path.field(name).fail_with_fix(message, "remove it");
        }
    }
    valid
}

/// Source of an ensemble's tensor.
#[derive(Clone, Copy)]
enum Source<'m> {
    Client(&'m TensorRule),
    Step(usize, &'m TensorRule),
}

impl<'m> Source<'m> {
    const fn rule(self) -> &'m TensorRule {
        match self {
            Self::Client(rule) | Self::Step(_, rule) => rule,
        }
    }
}

/// A step with a known model.
struct Step<'m> {
    id: ModelId,
    model: &'m Model,
    version: String,
    raw: &'m RawStep,
    path: Path,
}

/// Validates an ensemble's calls. `path` is its model's; `models` are all models.
pub(super) fn ensemble(
    path: &Path,
    raw: &raw::Ensemble,
    own: &Model,
    models: &[Model],
) -> Option<Ensemble> {
    let steps_path = path.field("ensemble").field("steps");
    steps_path.not_empty(&raw.steps, "[{model: …, outputs: {…}}]")?;
    steps_path.at_most(raw.steps.len(), MAX_STEPS, "steps are too many")?;
    let steps: Vec<_> = (raw.steps.iter().enumerate())
        .map(|(index, raw)| step(&steps_path.index(index), raw, models))
        .collect();
    let steps: Vec<Step<'_>> = steps.into_iter().collect::<Option<_>>()?;
    let sources = sources(own, &steps)?;
    let mut valid = Some(());
    let mut joined = Vec::new();
    for step in &steps {
        match join(step, own, &sources) {
            Some(inputs) => joined.push(inputs),
            None => valid = None,
        }
    }
    valid = valid.and(answered(path, own, &sources));
    let models = steps.iter().map(|step| step.model);
    valid = valid.and(interfaces::parameters(path, own, models));
    for step in &steps {
        let path = step.path.field("model");
        valid = valid.and(interfaces::proofs(&path, own, step.model));
    }
    valid?;
    idle(path, own, &steps, &joined);
    places(&steps, &joined)?;
    let order = order(&steps_path, &joined)?;
    let rank = |step: usize| order.iter().position(|other| *other == step);
    let in_order = order.iter().filter_map(|index| {
        let (step, inputs) = (steps.get(*index)?, joined.get(*index)?);
        let mut after: Vec<usize> = inputs
            .iter()
            .filter_map(|(_, from)| rank((*from)?))
            .collect();
        after.sort_unstable();
        after.dedup();
        Some(EnsembleStep {
            client_inputs: given(step, inputs, true).cloned().collect(),
            intermediate_bytes: intermediate_bytes(step, inputs),
            model: step.id,
            version: step.version.clone(),
            inputs: inputs.iter().map(|(joint, _)| joint.clone()).collect(),
            outputs: (step.raw.outputs.iter())
                .map(|(own, shared)| TensorMapping {
                    own: own.clone(),
                    shared: shared.clone(),
                    from_client: false,
                })
                .collect(),
            after,
        })
    });
    Some(Ensemble {
        steps: in_order.collect(),
    })
}

fn step<'m>(path: &Path, raw: &'m RawStep, models: &'m [Model]) -> Option<Step<'m>> {
    let model_path = path.field("model");
    let text = model_path.required(raw.model.as_ref(), "the name of a model")?;
    let (name, version) = match Selector::read(text) {
        Selector::Version(name, version) => (name, Some(version)),
        Selector::Model(name) | Selector::Under(name) => (name, None),
    };
    let found = (0_u32..)
        .zip(models)
        .find(|(_, model)| model.name() == name);
    let Some((id, model)) = found else {
        let known = models.iter().map(Model::name);
        return model_path.unknown("model", name, known);
    };
    let unfit = if model.is_ensemble() {
        Some("is an ensemble itself")
    } else if matches!(model.accepts(), Accepts::OpenAi(_)) {
        Some("is a model of OpenAI's API, which has no tensors")
    } else if model.decoupled().is_some() {
        Some("is decoupled, and may send several answers")
    } else if !model.preprocess().is_empty() || !model.postprocess().is_empty() {
        Some("has handlers, which an ensemble does not run")
    } else {
        None
    };
    if let Some(unfit) = unfit {
        let message = format!("model {} {unfit}", quote(name));
        return model_path.fail_with_fix(message, "another model of the same backend_model");
    }
    let version = match (version, model.versions()) {
        (Some(version), versions) if versions.iter().any(|known| known == version) => version,
        (Some(version), _) => {
            let message = format!("model {} has no version {}", quote(name), quote(version));
            return model_path.fail(message);
        }
        (None, [only]) => only.as_str(),
        (None, versions) => {
            let message = format!(
                "model {} has several versions, and the step names none",
                quote(name)
            );
            let first = versions.first().map_or("1", String::as_str);
            return model_path.fail_with_fix(message, format!("{name}@{first}"));
        }
    };
    path.field("outputs").not_empty(
        &raw.outputs.keys().collect::<Vec<_>>(),
        "{output: name}, the outputs that are used",
    )?;
    Some(Step {
        id: ModelId(id),
        model,
        version: version.into(),
        raw,
        path: path.clone(),
    })
}

/// All tensors by their names in the ensemble.
fn sources<'m>(own: &'m Model, steps: &[Step<'m>]) -> Option<BTreeMap<&'m str, Source<'m>>> {
    let client = own.backend_inputs().iter();
    let mut sources: BTreeMap<&str, Source<'_>> = client
        .map(|rule| (rule.name(), Source::Client(rule)))
        .collect();
    let mut valid = Some(());
    for (index, step) in steps.iter().enumerate() {
        for (output, shared) in &step.raw.outputs {
            let path = step.path.field("outputs").key(output);
            let rules = step.model.backend_outputs();
            let Some(rule) = rules.iter().find(|rule| rule.name() == output) else {
                let known = rules.iter().map(TensorRule::name);
                valid = path.unknown("output of that model", output, known);
                continue;
            };
            if sources.insert(shared, Source::Step(index, rule)).is_some() {
                valid = path.fail_with_fix(
                    format!("{} is already the name of another tensor", quote(shared)),
                    "another name",
                );
            }
        }
    }
    valid.map(|()| sources)
}

/// Inputs of a step and their source steps.
fn join(step: &Step<'_>, own: &Model, sources: &BTreeMap<&str, Source<'_>>) -> Option<Joined> {
    let path = step.path.field("inputs");
    let rules = step.model.backend_inputs();
    let mut valid = Some(());
    let same = || {
        let named = |rule: &&TensorRule| own.backend_inputs().iter().any(|i| i.name == rule.name);
        let names = rules.iter().filter(named).map(|rule| rule.name.clone());
        names.map(|name| (name.clone(), name)).collect()
    };
    let map: BTreeMap<String, String> = if step.raw.inputs.is_empty() {
        same()
    } else {
        step.raw.inputs.clone()
    };
    let mut inputs = Vec::new();
    for (input, shared) in &map {
        let path = path.key(input);
        let Some(rule) = rules.iter().find(|rule| rule.name() == input) else {
            let known = rules.iter().map(TensorRule::name);
            valid = path.unknown("input of that model", input, known);
            continue;
        };
        let Some(source) = sources.get(shared.as_str()) else {
            let known = sources.keys().copied();
            valid = path.unknown("input or step's output", shared, known);
            continue;
        };
        let left_out = source.rule().optional() && !rule.optional();
        let unfit = match fits(source.rule(), rule) {
            Err(cause) => Some(cause),
            Ok(()) if left_out => Some("is optional, and the model's input is not".into()),
            Ok(()) => None,
        };
        if let Some(cause) = unfit {
            valid = path.fail(format!("{} {cause}", quote(shared)));
        } else if let Source::Client(given) = source
            && let Some(what) = lets_in_more(given, rule)
        {
            let message = format!(
                "model {} rejects some values that the ensemble allows of {}: its {what} is stricter",
                quote(step.model.name()),
                quote(shared)
            );
            let fix = "the same rule at the ensemble's input, so that such a request is rejected before any model runs";
            path.warn(message, fix);
        }
        let from = match source {
            Source::Client(_) => None,
            Source::Step(index, _) => Some(*index),
        };
        let joint = TensorMapping {
            own: input.clone(),
            shared: shared.clone(),
            from_client: from.is_none(),
        };
        inputs.push((joint, from));
    }
    for rule in rules {
        if !rule.optional() && !map.contains_key(rule.name()) {
            valid = path.fail_with_fix(
                format!(
                    "the step gives model {} no input {}",
                    quote(step.model.name()),
                    quote(rule.name())
                ),
                format!("{}: the name of a tensor", rule.name()),
            );
        }
    }
    valid.map(|()| inputs)
}

/// Every output of the ensemble is made by a step and fits its rule.
fn answered(path: &Path, own: &Model, sources: &BTreeMap<&str, Source<'_>>) -> Option<()> {
    let mut valid = Some(());
    for (index, rule) in own.backend_outputs().iter().enumerate() {
        let path = path.field("outputs").index(index);
        match sources.get(rule.name()) {
            Some(Source::Step(_, made)) => {
                if let Err(cause) = fits(made, rule) {
                    let message = format!("the step's output {} {cause}", quote(rule.name()));
                    valid = path.fail(message);
                } else if made.optional() && !rule.optional() {
                    valid = path.fail("the step's output is optional, and this output is not");
                } else if own.postprocess().is_empty()
                    && let Some(narrower) = gives_more(rule, made)
                {
                    let message = "clients of the ensemble get more of this output than clients of the step's model";
                    path.warn(message, narrower);
                }
            }
            Some(Source::Client(_)) | None => {
                let message = format!("no step has output {}", quote(rule.name()));
                valid = path.fail_with_fix(message, "add it to the outputs of a step");
            }
        }
    }
    valid
}

/// Inputs of a step with the indices of their source steps.
type Joined = Vec<(TensorMapping, Option<usize>)>;

/// Rules of a step's inputs from the client, or from other steps.
fn given<'s>(
    step: &'s Step<'_>,
    inputs: &'s Joined,
    client_inputs: bool,
) -> impl Iterator<Item = &'s TensorRule> {
    let rules = step.model.backend_inputs().iter();
    rules.filter(move |rule| {
        let mut joints = inputs.iter().map(|(joint, _)| joint);
        joints.any(|joint| joint.own == rule.name && joint.from_client == client_inputs)
    })
}

/// Maximum bytes of a step's inputs from other steps.
fn intermediate_bytes(step: &Step<'_>, inputs: &Joined) -> u64 {
    let rules = given(step, inputs, false);
    rules.fold(0, |sum, rule| sum.saturating_add(most_of(rule).bytes))
}

/// Warns of unused inputs and outputs.
fn idle(path: &Path, own: &Model, steps: &[Step<'_>], joined: &[Joined]) {
    let taken: BTreeSet<&str> = joined
        .iter()
        .flatten()
        .map(|(joint, _)| joint.shared.as_str())
        .collect();
    for (index, rule) in own.backend_inputs().iter().enumerate() {
        if !taken.contains(rule.name()) {
            let path = path.field("inputs").index(index);
            path.warn("no step uses this input", "remove it");
        }
    }
    let answers = |name: &str| own.backend_outputs().iter().any(|rule| rule.name == name);
    for step in steps {
        let mut outputs = step.raw.outputs.values();
        if !outputs.any(|name| taken.contains(name.as_str()) || answers(name)) {
            let message = "has no effect: no output of this step is used";
            step.path.warn(message, "remove it");
        }
    }
}

/// Checks that each model's limits allow all its steps at once: all permits are acquired before the
/// first call.
fn places(steps: &[Step<'_>], joined: &[Joined]) -> Option<()> {
    let mut valid = Some(());
    let mut sums = BTreeMap::<ModelId, (u64, u64)>::new();
    for (step, inputs) in steps.iter().zip(joined) {
        let (calls, bytes) = sums.entry(step.id).or_default();
        *calls = calls.saturating_add(1);
        *bytes = bytes.saturating_add(intermediate_bytes(step, inputs));
        let limits = step.model.limits();
        let name = quote(step.model.name());
        let message = if limits.concurrency.is_some_and(|limit| *calls > limit) {
            format!(
                "each request calls model {name} {calls} times at once, more than its limits.concurrency"
            )
        } else if limits.in_flight_bytes.is_some_and(|limit| *bytes >= limit) {
            format!(
                "other steps may send model {name} {bytes} bytes at once, which its limits.in_flight_bytes does not allow"
            )
        } else {
            continue;
        };
        let path = step.path.field("model");
        valid = path.fail_with_fix(message, "raise that limit of the model");
    }
    valid
}

/// Indices of the steps in topological order.
fn order(path: &Path, joined: &[Joined]) -> Option<Vec<usize>> {
    let mut done = BTreeSet::new();
    let mut order = Vec::new();
    // Each round adds at least one step, or none can be added.
    while order.len() < joined.len() {
        let next = joined.iter().enumerate().find(|(index, inputs)| {
            let met = |from: &Option<usize>| from.is_none_or(|from| done.contains(&from));
            !done.contains(index) && inputs.iter().all(|(_, from)| met(from))
        });
        let Some((index, _)) = next else {
            let stuck = (0..joined.len()).find(|index| !done.contains(index));
            return path
                .index(stuck.unwrap_or(0))
                .fail("needs its own output: the steps form a cycle");
        };
        done.insert(index);
        order.push(index);
    }
    Some(order)
}
