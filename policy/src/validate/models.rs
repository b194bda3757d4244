//! Models: backend, inputs and outputs.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::accepts::{self, Sent};
use super::dims::Symbols;
use super::report::{Path, Valid, quote};
use super::usage::Usage;
use super::{
    backend_protocols, concurrency, decoupled, ensemble, handler_chains, names, openai, parameters,
    protocols, release, requires, template, tensors, versions,
};
use crate::contract::{Contract, TensorRule};
use crate::policy::{Accepts, Ensemble, Media, Model, Rules};
use crate::raw;
use crate::request::Protocol;

/// Models in name order; `None` if any is invalid. A model with several names is validated once,
/// and its faults are reported at the first name.
pub(super) fn models(path: &Path, raw: &raw::Policy, used: &Usage<'_>) -> Option<Vec<Model>> {
    let mut models = Vec::new();
    let mut judged: BTreeMap<*const raw::Model, Option<Arc<Rules>>> = BTreeMap::new();
    for (name, written) in &raw.models {
        let path = path.key(name);
        let named = names::name(&path, name);
        let rules = judged.entry(written.as_ptr()).or_insert_with(|| {
            let rules = if openai::is(written) {
                openai::rules(&path, written, raw)
            } else {
                rules(&path, written, raw)
            };
            rules.map(Arc::new)
        });
        if !used.models.contains(name.as_str()) {
            path.warn(
                format!("model {} is in no grant", quote(name)),
                "grant it to a client or remove it",
            );
        }
        // Ensembles are joined once all models are known.
        let graph = written.ensemble.as_ref().filter(|_| !openai::is(written));
        let graph = graph.map(|_| Ensemble { steps: Vec::new() });
        models.push(named.and(rules.clone()).map(|rules| Model {
            name: name.clone(),
            rules,
            ensemble: graph,
        }));
    }
    let mut models: Vec<Model> = models.into_iter().collect::<Option<_>>()?;
    // Each ensemble is validated against its models.
    let mut graphs = Vec::new();
    let mut good = Some(());
    for (index, (name, raw)) in raw.models.iter().enumerate() {
        if let (Some(raw), Some(own)) = (&raw.ensemble, models.get(index))
            && own.is_ensemble()
        {
            let graph = ensemble::ensemble(&path.key(name), raw, own, &models);
            good = good.and(graph.is_some().then_some(()));
            graphs.push((index, graph));
        }
    }
    for (index, graph) in graphs {
        if let Some(model) = models.get_mut(index) {
            model.ensemble = graph;
        }
    }
    good.map(|()| models)
}

/// Everything except its name.
fn rules(path: &Path, raw: &raw::Model, policy: &raw::Policy) -> Option<Rules> {
    let symbols = Symbols::of(raw);
    let body_bytes = policy.listen.limits.body_bytes;

    let backend = match &raw.ensemble {
        Some(_) => ensemble::meaningless(path, raw).map(|()| String::new()),
        None => backend(&path.field("backend"), raw, policy),
    };
    let kind = (raw.backend.as_ref()).and_then(|name| policy.backends.get(name)?.kind);
    let in_json = kind == Some(raw::BackendKind::HttpJson);
    let backend_model = backend_model(path, raw);
    let versions = versions::versions(path, raw, kind);
    let protocols = protocols(&path.field("protocols"), raw);
    let encodings = protocols::encodings(&path.field("encodings"), raw);
    let inputs_path = path.field("inputs");
    let inputs = tensors::rules(&inputs_path, &raw.inputs, &symbols);
    if let (Some(rules), None) = (&inputs, &raw.accepts) {
        tensors::fit(&inputs_path, rules, body_bytes.0);
    }
    let outputs = tensors::rules(&path.field("outputs"), &raw.outputs, &symbols);
    let parameters_path = path.field("parameters");
    let parameters = parameters::parameters(&parameters_path, &raw.parameters);
    if in_json && !raw.parameters.is_empty() {
        parameters_path.error_with_fix(
            "have no place in the JSON that the backend gets",
            "remove them",
        );
    }
    let parameters = decoupled::parameters(&parameters_path, raw, parameters);
    let decoupled = decoupled::decoupled(path, raw, policy);
    let limits_path = path.field("limits");
    let takes_raw = raw
        .accepts
        .as_ref()
        .is_some_and(|accepts| accepts.raw.is_some());
    let bodies = &policy.listen.limits;
    let limits = concurrency::model(&limits_path, raw.limits.as_ref(), bodies, takes_raw);
    let requires = requires::requires(&path.field("requires"), raw.requires.as_ref());
    if takes_raw && !raw.parameters.is_empty() {
        parameters_path.error_with_fix("a raw body carries no parameters", "remove them");
    }
    let preprocess =
        handler_chains::chain(&path.field("preprocess"), raw.preprocess.as_ref(), policy);
    let sent = match (&raw.preprocess, &raw.accepts) {
        (_, Some(accepts)) => {
            let path = path.field("accepts");
            if raw.preprocess.is_none() {
                path.error_with_fix(
                    "nothing turns it into inputs",
                    "preprocess: the name of a handler",
                );
            }
            accepts::accepts(&path, accepts, &symbols, &policy.listen.limits).map(Some)
        }
        (Some(_), None) => {
            let path = path.field("accepts");
            path.fail_with_fix(
                "is missing: a preprocess handler takes what it says",
                "accepts: {inputs: […]}",
            )
        }
        (None, None) => Some(None),
    };
    let postprocess =
        handler_chains::chain(&path.field("postprocess"), raw.postprocess.as_ref(), policy);
    let returns = returns(&path.field("returns"), raw, &symbols);
    let met = release::unmet(&path.field("outputs"), raw);

    let (inputs, outputs) = (inputs?, outputs?);
    met?;
    let returns = returns?.unwrap_or_else(|| outputs.clone());
    let (sent, protocols, versions) = (sent?, protocols?, versions?);
    let (asked, content_types): (&[_], &[_]) = match &sent {
        Some(Sent::Tensors(rules)) => (rules, &[]),
        Some(Sent::Raw { content_types, .. }) => (&[], content_types),
        None => (&inputs, &[]),
    };
    let versions::Found { versions, routing } = versions;
    let to_carry = protocols::ProtocolView {
        versions: &versions,
        written: &raw.versions,
        inputs: asked,
        outputs: &returns,
        content_types,
    };
    let carried = protocols::check(path, &protocols, &to_carry);
    let sides = template::Sides {
        protocols: &protocols,
        versions: &versions,
        has_weights: routing.has_weights(),
        clients: template::Side {
            inputs: asked,
            outputs: &returns,
        },
        backend: in_json.then_some(template::Side {
            inputs: &inputs,
            outputs: &outputs,
        }),
        handled: raw.preprocess.is_some() || raw.postprocess.is_some(),
    };
    let template = template::template(path, raw.json.as_ref(), &sides);
    let to_serve = backend_protocols::Served {
        kind,
        inputs: &inputs,
        outputs: &outputs,
    };
    let served = backend_protocols::served(path, raw, &to_serve);
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
    })
}

/// Its name at the backend, if different.
pub(super) fn backend_model(path: &Path, raw: &raw::Model) -> Valid<Option<String>> {
    match &raw.backend_model {
        Some(name) => names::name(&path.field("backend_model"), name).map(|()| Some(name.clone())),
        None => Some(None),
    }
}

fn backend(path: &Path, raw: &raw::Model, policy: &raw::Policy) -> Option<String> {
    let name = path.required(raw.backend.as_ref(), "the name of a backend")?;
    let Some(backend) = policy.backends.get(name) else {
        let known = policy.backends.keys().map(|name| name.as_str());
        return path.unknown("backend", name, known);
    };
    if backend.kind == Some(raw::BackendKind::OpenAi) {
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
    parameters: Vec<(String, crate::contract::ParameterBound)>,
) -> Accepts {
    let output_names = returns.iter().map(|rule| rule.name.clone()).collect();
    Accepts::Tensors(Contract {
        inputs,
        output_names,
        parameters,
    })
}

fn protocols(path: &Path, raw: &raw::Model) -> Option<Vec<Protocol>> {
    path.not_empty(&raw.protocols, "[oip-rest, oip-grpc]")?;
    let distinct = path.distinct(&raw.protocols);
    let takes_raw = raw
        .accepts
        .as_ref()
        .is_some_and(|accepts| accepts.raw.is_some());
    let mut protocols = Some(Vec::new());
    for (index, text) in raw.protocols.iter().enumerate() {
        let path = path.index(index);
        let protocol = Protocol::from_name(text);
        match protocol {
            None => {
                path.unknown_of::<()>("protocol", text, &Protocol::ALL.map(Protocol::name));
            }
            Some(protocol) if takes_raw && !carries_raw(protocol) => {
                path.error_with_fix(format!("{text} cannot carry a raw body"), "[oip-rest]");
            }
            Some(_) => {}
        }
        protocols = protocols.zip(protocol).map(|(mut protocols, protocol)| {
            protocols.push(protocol);
            protocols
        });
    }
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
                    "nothing makes it of the outputs",
                    "postprocess: the name of a handler",
                );
            }
            tensors::rules(&path.field("outputs"), &returns.outputs, symbols).map(Some)
        }
        (Some(_), None) => path.fail_with_fix(
            "is missing: a postprocess handler makes what it says",
            "returns: {outputs: […]}",
        ),
        (None, None) => Some(None),
    }
}
