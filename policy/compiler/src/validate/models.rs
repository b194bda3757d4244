//! Models: backend, inputs and outputs, required proofs, and several responses to one message.

use std::collections::BTreeMap;

use tensorgate_policy::contract::{Contract, TensorRule};
use tensorgate_policy::policy::{
    Accepts, Budget, Client, ClientId, Decoupled, Ensemble, Media, Model, ModelArtifacts, ModelId,
    Rules,
};
use tensorgate_policy::report::{Path, Valid, quote};
use tensorgate_policy::request::{Operation, Proofs, Protocol};
use tensorgate_policy::values::{BackendKind, Scope, Shared};

use super::accepts::Sent;
use super::dims::Symbols;
use super::model_fields::{backend_model, requires};
use super::parameters::ModelParameters;
use super::signing::{Keys, Signers};
use super::usage::Usage;
use super::{
    accepts, artifact, backend_rules, ensemble, guardrail, handlers, limits, names, openai,
    parameters, protocols, release, service, template, tensors, versions,
};
use crate::raw;

/// Models in name order; `None` if any is invalid. A model with several names is validated once,
/// and its faults are reported at the first name.
pub(super) fn models(
    path: &Path,
    raw: &raw::Policy,
    used: &Usage<'_>,
    signers: &Signers,
) -> Option<Vec<Model>> {
    let keys = Keys {
        policy: raw,
        signers,
    };
    let mut models = Vec::new();
    let mut judged: BTreeMap<*const raw::Model, Option<Shared<Rules>>> = BTreeMap::new();
    for (name, written) in &raw.models {
        let path = path.key(name);
        let named = names::name(&path, name);
        let rules = judged.entry(written.as_ptr()).or_insert_with(|| {
            let rules = if openai::is(written) {
                openai::rules(&path, written, raw)
            } else {
                rules(&path, written, raw)
            };
            let artifacts = artifact::artifacts(&path, written, keys);
            let rules = artifacts.zip(rules);
            let rules = rules.map(|(artifacts, rules)| Rules { artifacts, ..rules });
            rules.map(Shared::from)
        });
        if !used.models.contains(name.as_str()) {
            path.warn(
                format!("model {} is in no grant", quote(name)),
                "add it to a grant, or remove it",
            );
        }
        // Ensembles are joined once all models are known.
        let graph = written.ensemble.as_ref().filter(|_| !openai::is(written));
        let graph = graph.map(|_| Ensemble { steps: Vec::new() });
        models.push(named.and(rules.clone()).map(|rules| Model {
            name: name.clone(),
            rules,
            ensemble: graph,
            budget: None,
        }));
    }
    let mut models: Vec<Model> = models.into_iter().collect::<Option<_>>()?;
    // Each ensemble is validated against its models.
    let mut graphs = Vec::new();
    let mut valid = Some(());
    for (index, (name, raw)) in raw.models.iter().enumerate() {
        if let (Some(raw), Some(own)) = (&raw.ensemble, models.get(index))
            && own.is_ensemble()
        {
            let graph = ensemble::ensemble(&path.key(name), raw, own, &models);
            valid = valid.and(graph.is_some().then_some(()));
            graphs.push((index, graph));
        }
    }
    for (index, graph) in graphs {
        if let Some(model) = models.get_mut(index) {
            model.ensemble = graph;
        }
    }
    // A budget must allow each valid request, of an ensemble too.
    for (index, (name, raw)) in raw.models.iter().enumerate() {
        if let (Some(raw), Some(model)) = (&raw.budget, models.get(index)) {
            let id = u32::try_from(index).ok().map(ModelId);
            let budget = budget(&path.key(name).field("budget"), raw, (id, model), &models);
            valid = valid.and(budget.is_some().then_some(()));
            if let Some(model) = models.get_mut(index) {
                model.budget = budget.map(Box::new);
            }
        }
    }
    valid.map(|()| models)
}

/// Daily limits of a model.
fn budget(
    path: &Path,
    raw: &raw::Budget,
    (id, model): (Option<ModelId>, &Model),
    all: &[Model],
) -> Option<Budget> {
    let scope = match raw.scope {
        Scope::Local => Some(()),
        Scope::Global => service::of_hosts(path),
    };
    let calls = |other: &&Model| {
        let steps = other.ensemble().map(|it| it.steps.as_slice());
        let mut steps = steps.unwrap_or_default().iter();
        steps.any(|step| Some(step.model) == id)
    };
    let outer = all.iter().find(calls);
    let budget = limits::budget(path, Some(raw), true, &[model]);
    if let Some(ensemble) = outer {
        return path.fail_with_fix(
            format!(
                "requests of ensemble {} would not count",
                quote(ensemble.name())
            ),
            "budget of the ensemble",
        );
    }
    scope?;
    budget
}

/// Everything except its name.
fn rules(path: &Path, raw: &raw::Model, policy: &raw::Policy) -> Option<Rules> {
    match &raw.guardrail {
        Some(rule) => {
            let body_bytes = policy.listen.limits.body_bytes.0;
            let expanded = guardrail::expanded(path, raw, rule, body_bytes)?;
            rules_of_tensors(path, &expanded, policy)
        }
        None => rules_of_tensors(path, raw, policy),
    }
}

/// The rules of a model of tensors. A guardrail has been given its own.
fn rules_of_tensors(path: &Path, raw: &raw::Model, policy: &raw::Policy) -> Option<Rules> {
    let symbols = Symbols::of(raw);
    let body_bytes = policy.listen.limits.body_bytes;

    let is_guardrail = raw.guardrail.is_some();
    let backend = match &raw.ensemble {
        Some(_) => ensemble::meaningless(path, raw).map(|()| String::new()),
        None if is_guardrail => Some(String::new()),
        None => backend(&path.field("backend"), raw, policy),
    };
    let kind = (raw.backend.as_ref()).and_then(|name| policy.backends.get(name)?.kind);
    let in_json = kind == Some(BackendKind::HttpJson);
    let backend_model = backend_model(path, raw);
    let versions = versions::versions(path, raw, kind);
    let protocols = protocols(&path.field("protocols"), raw);
    let encodings = protocols::encodings(&path.field("encodings"), raw);
    let inputs_path = path.field("inputs");
    let inputs = tensors::rules(&inputs_path, &raw.inputs, &symbols);
    if let (Some(rules), None) = (&inputs, &raw.accepts) {
        tensors::fit(&inputs_path, rules, body_bytes.0);
    }
    // A guardrail's handler makes the inputs of no backend: they are its answer.
    let outputs = match is_guardrail {
        true => inputs.clone(),
        false => tensors::rules(&path.field("outputs"), &raw.outputs, &symbols),
    };
    let parameters = parameters::of_model(path, raw, kind);
    let decoupled = decoupled(path, raw, policy);
    let limits_path = path.field("limits");
    let takes_raw = raw
        .accepts
        .as_ref()
        .is_some_and(|accepts| accepts.raw.is_some());
    let bodies = &policy.listen.limits;
    let limits = limits::model(&limits_path, raw.limits.as_ref(), bodies, takes_raw);
    let requires = requires(&path.field("requires"), raw.requires.as_ref());
    let preprocess = handlers::chain(&path.field("preprocess"), raw.preprocess.as_ref(), policy);
    let sent = match (&raw.preprocess, &raw.accepts) {
        (_, Some(accepts)) => {
            let path = path.field("accepts");
            if raw.preprocess.is_none() {
                path.error_with_fix(
                    "needs a preprocess handler that makes the inputs",
                    "preprocess: the name of a handler",
                );
            }
            accepts::accepts(&path, accepts, &symbols, &policy.listen.limits).map(Some)
        }
        (Some(_), None) => {
            let path = path.field("accepts");
            path.fail_with_fix(
                "is missing: it describes what the preprocess handler accepts",
                "accepts: {inputs: […]}",
            )
        }
        (None, None) => Some(None),
    };
    let postprocess = handlers::chain(&path.field("postprocess"), raw.postprocess.as_ref(), policy);
    let returns = returns(&path.field("returns"), raw, &symbols);
    let met = release::unmet(&path.field("outputs"), raw);

    let (inputs, outputs) = (inputs?, outputs?);
    met?;
    let returns = returns?.unwrap_or_else(|| outputs.clone());
    handlers::can_return(&path.field("preprocess"), raw.preprocess.is_some(), &inputs);
    handlers::can_return(
        &path.field("postprocess"),
        raw.postprocess.is_some(),
        &returns,
    );
    let (sent, protocols, versions) = (sent?, protocols?, versions?);
    let (client_inputs, content_types): (&[_], &[_]) = match &sent {
        Some(Sent::Tensors(rules)) => (rules, &[]),
        Some(Sent::Raw { content_types, .. }) => (&[], content_types),
        None => (&inputs, &[]),
    };
    let versions::Found { versions, routing } = versions;
    let to_carry = protocols::ProtocolView {
        versions: &versions,
        written: &raw.versions,
        inputs: client_inputs,
        outputs: &returns,
        content_types,
    };
    let carried = protocols::check(path, &protocols, &to_carry);
    protocols::warn_half(path, &protocols, &to_carry);
    let sides = template::Sides {
        protocols: &protocols,
        versions: &versions,
        has_weights: routing.has_weights(),
        clients: template::Side {
            inputs: client_inputs,
            outputs: &returns,
        },
        backend: in_json.then_some(template::Side {
            inputs: &inputs,
            outputs: &outputs,
        }),
        handled: raw.preprocess.is_some() || raw.postprocess.is_some(),
        is_guardrail,
    };
    let template = template::template(path, raw.json.as_ref(), &sides);
    let to_serve = backend_rules::Served {
        kind,
        inputs: &inputs,
        outputs: &outputs,
    };
    let served = backend_rules::served(path, raw, &to_serve);
    let called = protocols.contains(&Protocol::Json);
    let accepts = match sent {
        Some(Sent::Raw {
            content_types,
            max_bytes,
            media,
        }) => Accepts::Raw {
            content_types,
            max_bytes,
            media: media.map(Media),
        },
        Some(Sent::Tensors(rules)) => tensors_contract(rules, &returns, parameters?),
        None => tensors_contract(inputs.clone(), &returns, parameters?),
    };
    Some(Rules {
        encodings: encodings?,
        decoupled: decoupled?,
        limits: limits?,
        requires: requires?,
        backend: backend?,
        backend_model: backend_model?,
        versions,
        routing,
        protocols: carried.and(served).map(|()| protocols)?,
        accepts,
        backend_inputs: inputs,
        backend_outputs: outputs,
        returns,
        preprocess: preprocess?,
        postprocess: postprocess?,
        backend_template: template.clone()?.filter(|_| in_json),
        template: template?.filter(|_| called),
        is_guardrail,
        artifacts: ModelArtifacts::default(),
    })
}

fn backend(path: &Path, raw: &raw::Model, policy: &raw::Policy) -> Option<String> {
    let name = path.required(raw.backend.as_ref(), "the name of a backend")?;
    let Some(backend) = policy.backends.get(name) else {
        return path.unknown("backend", name, policy.backends.keys());
    };
    if backend.kind == Some(BackendKind::OpenAi) {
        path.error_with_fix(
            "serves OpenAI's API, which has no tensors",
            "protocols: [openai], and openai: {…}",
        );
    }
    Some(name.clone())
}

fn tensors_contract(
    inputs: Vec<TensorRule>,
    returns: &[TensorRule],
    parameters: ModelParameters,
) -> Accepts {
    let output_names = returns.iter().map(|rule| rule.name.clone()).collect();
    let ModelParameters {
        of_request,
        of_inputs,
        ignored,
    } = parameters;
    Accepts::Tensors(Contract {
        inputs,
        output_names,
        parameters: of_request,
        input_parameters: of_inputs,
        ignored,
    })
}

fn protocols(path: &Path, raw: &raw::Model) -> Option<Vec<Protocol>> {
    let takes_raw = raw
        .accepts
        .as_ref()
        .is_some_and(|accepts| accepts.raw.is_some());
    let usual = if takes_raw {
        "[oip-rest]"
    } else {
        "[oip-rest, oip-grpc]"
    };
    path.not_empty(&raw.protocols, usual)?;
    let distinct = path.distinct(&raw.protocols);
    let has_rest = (raw.protocols.iter()).any(|text| text == Protocol::OipRest.name());
    let protocols = path.each(&raw.protocols, |path, text| {
        let protocol = Protocol::from_name(text);
        if protocol.is_some_and(|protocol| takes_raw && !carries_raw(protocol)) {
            let fix = if has_rest { "remove it" } else { "oip-rest" };
            path.error_with_fix(format!("{text} cannot carry a raw body"), fix);
        }
        protocol.or_else(|| path.unknown_of("protocol", text, &Protocol::ALL.map(Protocol::name)))
    });
    distinct.and(protocols)
}

/// Whether a raw body can be sent with this protocol.
const fn carries_raw(protocol: Protocol) -> bool {
    match protocol {
        Protocol::OipRest | Protocol::TorchRest | Protocol::TorchGrpc => true,
        Protocol::OipGrpc
        | Protocol::TfRest
        | Protocol::TfGrpc
        | Protocol::OpenAi
        | Protocol::Json => false,
    }
}

/// Outputs for clients, if a postprocess handler makes them.
fn returns(path: &Path, raw: &raw::Model, symbols: &Symbols<'_>) -> Valid<Option<Vec<TensorRule>>> {
    match (&raw.postprocess, &raw.returns) {
        (_, Some(returns)) => {
            if raw.postprocess.is_none() {
                path.error_with_fix(
                    "needs a postprocess handler that makes these outputs",
                    "postprocess: the name of a handler",
                );
            }
            tensors::rules(&path.field("outputs"), &returns.outputs, symbols).map(Some)
        }
        (Some(_), None) => path.fail_with_fix(
            "is missing: it describes what the postprocess handler returns",
            "returns: {outputs: […]}",
        ),
        (None, None) => Some(None),
    }
}

/// Warns of clients with a grant but without a rule for the required proofs. `proofs` are those
/// that each client can give.
pub(super) fn reachable(
    path: &Path,
    granted: impl Iterator<Item = (ClientId, ModelId)>,
    clients: &[Client],
    proofs: &[Proofs],
    models: &[Model],
) {
    let mut last = None;
    let mut shut: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (client, model) in granted {
        // Entries of a pair are consecutive.
        if last.replace((client, model)) == Some((client, model)) {
            continue;
        }
        let client = usize::try_from(client.0).ok();
        let client = client.and_then(|at| Some((clients.get(at)?, *proofs.get(at)?)));
        let model = usize::try_from(model.0).ok().and_then(|at| models.get(at));
        let (Some((client, proofs)), Some(model)) = (client, model) else {
            continue;
        };
        if model
            .requires()
            .is_some_and(|requires| !requires.met_by(proofs))
        {
            shut.entry(model.name())
                .or_default()
                .push(quote(client.name()));
        }
    }
    for (model, clients) in shut {
        path.key(model).field("requires").warn(
            format!(
                "clients of a grant lack the required credentials: {}",
                clients.join(", ")
            ),
            "give them such credentials, or remove them from the grant",
        );
    }
}

/// Limits of the responses to one message; `Some(None)` for a model with one response.
pub(super) fn decoupled(
    path: &Path,
    raw: &raw::Model,
    policy: &raw::Policy,
) -> Valid<Option<Decoupled>> {
    let Some(decoupled) = &raw.decoupled else {
        return Some(None);
    };
    let mut valid = Some(());
    for (index, name) in raw.protocols.iter().enumerate() {
        if name != Protocol::OipGrpc.name() {
            valid = path.field("protocols").index(index).fail_with_fix(
                "a decoupled model can only be called over streams of oip-grpc",
                "protocols: [oip-grpc]",
            );
        }
    }
    let backend = raw
        .backend
        .as_ref()
        .and_then(|name| policy.backends.get(name));
    let kind = backend.and_then(|backend| backend.kind);
    if kind.is_some_and(|kind| kind != BackendKind::OpenInference) {
        valid = path.field("backend").fail_with_fix(
            "a decoupled model needs a server that can answer several times",
            "a backend of kind open-inference",
        );
    }
    let path = path.field("decoupled");
    let limits = &policy.listen.limits;
    let answers_path = path.field("max_answers");
    let max_answers = answers_path
        .required(decoupled.max_answers, "max_answers: 64")
        .and_then(|most| most.check(&answers_path));
    let bytes_path = path.field("max_bytes");
    let max_bytes = bytes_path
        .required(decoupled.max_bytes, "max_bytes: 4MiB")
        .and_then(|most| most.check(&bytes_path));
    let within = |name, ms: Option<u64>, most| match ms {
        Some(ms) => path.field(name).within(ms, 1, most, "ms"),
        None => Some(limits.timeout_ms.0.min(most)),
    };
    // The proxy ends a stream that is idle for much longer than this.
    let gap_ms = within("gap_ms", decoupled.gap_ms, limits.timeout_ms.0);
    let max_ms = within("max_ms", decoupled.max_ms, limits.stream_ms.0);
    valid?;
    Some(Some(Decoupled {
        max_answers: max_answers?,
        max_bytes: max_bytes?,
        gap_ms: gap_ms?,
        max_ms: max_ms?,
    }))
}

/// Rejects a grant that allows calling a decoupled model without a stream.
pub(super) fn check_decoupled(path: &Path, grant: &raw::Grant, models: &[&Model]) -> Option<()> {
    let infer = Operation::Infer.name();
    let index = grant.operations.iter().position(|name| name == infer);
    let model = models.iter().find(|model| model.decoupled().is_some());
    let (Some(index), Some(model)) = (index, model) else {
        return Some(());
    };
    path.field("operations").index(index).fail_with_fix(
        format!(
            "model {} is decoupled, and can only be called with operation stream",
            quote(model.name())
        ),
        "operations: [stream]",
    )
}
