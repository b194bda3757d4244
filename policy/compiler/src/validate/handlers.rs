//! Sandboxed handlers, their limits and their chains before and after a model.

use std::collections::{BTreeMap, BTreeSet};

use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::policy::{Handler, Lookup};
use tensorgate_policy::report::{Path, optional, quote};

use super::usage::Usage;
use super::{egress, names, signing};
use crate::raw;
use crate::raw::Chain;

/// Maximum configuration entries.
const MAX_CONFIG_ENTRIES: usize = 256;
/// Maximum parameters of requests that a handler sees.
const MAX_PARAMETERS: usize = 64;
/// Maximum size of a value; it is copied into the guest at each call.
const MAX_CONFIG_BYTES: usize = 64 << 10;

pub(super) fn handlers(
    path: &Path,
    policy: &raw::Policy,
    used: &Usage<'_>,
) -> Option<BTreeMap<String, Handler>> {
    names::each(path, &policy.handlers, |path, name, raw| {
        let handler = handler(path, raw, policy);
        for (index, lookup) in raw.lookups.iter().enumerate() {
            if !policy.lookups.contains_key(lookup) {
                let path = path.field("lookups").index(index);
                path.unknown::<_, ()>("lookup", lookup, policy.lookups.keys());
            }
        }
        if !used.handlers.contains(name) {
            path.warn(
                format!("no model uses handler {}", quote(name)),
                "remove it",
            );
        }
        handler
    })
}

/// Adds lookups to handlers; an unknown name has been reported at its location.
pub(super) fn with(
    mut handlers: BTreeMap<String, Handler>,
    raw: &raw::Policy,
    lookups: &BTreeMap<String, Lookup>,
) -> BTreeMap<String, Handler> {
    for (name, handler) in &mut handlers {
        let named = raw.handlers.get(name).into_iter();
        let named = named.flat_map(|raw| &raw.lookups);
        handler.lookups = named
            .filter_map(|name| Some((name.clone(), lookups.get(name)?.clone())))
            .collect();
    }
    handlers
}

/// Resources fetched for a handler must fit into memory.
pub(super) fn fit(path: &Path, handlers: &BTreeMap<String, Handler>, buffered_bytes: u64) {
    for (name, handler) in handlers {
        egress::fits(&path.key(name), handler, buffered_bytes);
    }
}

fn handler(path: &Path, raw: &raw::Handler, policy: &raw::Policy) -> Option<Handler> {
    let component_path = path.field("component");
    let component = component_path
        .required(
            raw.component.as_ref(),
            "the component's file, or builtin:NAME",
        )
        .filter(|file| names::component(&component_path, file).is_some());
    let digest_path = path.field("sha256");
    let sha256 = digest_path
        .required(raw.sha256.as_ref(), "the sha256 of the component's file")
        .and_then(|text| names::sha256(&digest_path, text));
    let signed_by = signing::signed_by(path, raw, policy);
    let fuel = raw.fuel.check(&path.field("fuel"));
    let memory_bytes = raw.memory_bytes.check(&path.field("memory_bytes"));
    let timeout_ms = raw.timeout_ms.check(&path.field("timeout_ms"));
    let config = config(&path.field("config"), &raw.config);
    let fetch = optional(raw.fetch.as_ref(), |raw| {
        egress::fetch(&path.field("fetch"), raw)
    });
    let parameters = parameters(&path.field("parameters"), &raw.parameters, policy);
    config?;
    Some(Handler {
        component: component?.clone(),
        sha256: sha256?,
        signed_by: signed_by?,
        fuel: fuel?,
        memory_bytes: memory_bytes?,
        timeout_ms: timeout_ms?,
        config: raw.config.clone(),
        fetch: fetch?,
        lookups: BTreeMap::new(),
        parameters: parameters?,
        has_public_errors: !raw.errors.is_private(),
    })
}

/// The parameters of requests that a handler sees.
fn parameters(path: &Path, listed: &[String], policy: &raw::Policy) -> Option<BTreeSet<String>> {
    let mut valid = path.up_to(listed.len(), MAX_PARAMETERS, "parameters are too many");
    valid = valid.and(path.distinct(listed));
    for (index, name) in listed.iter().enumerate() {
        let path = path.index(index);
        valid = valid.and(names::tensor_name(&path, name));
        let mut models = policy.models.values();
        if !models.any(|model| model.parameters.contains_key(name)) {
            path.warn(
                format!("no model has a parameter {}", quote(name)),
                "a name below `parameters` of a model that uses the handler",
            );
        }
    }
    valid.map(|()| listed.iter().cloned().collect())
}

fn config(path: &Path, raw: &BTreeMap<String, String>) -> Option<()> {
    let mut valid = Some(());
    valid = valid.and(path.up_to(raw.len(), MAX_CONFIG_ENTRIES, "entries are too many"));
    for (key, value) in raw {
        if key.is_empty() || key.len() > names::MAX_NAME_BYTES {
            valid = path.key(key).fail(format!(
                "a key must have 1 to {} bytes",
                names::MAX_NAME_BYTES
            ));
        }
        if value.len() > MAX_CONFIG_BYTES {
            valid = path.key(key).fail(format!(
                "{} bytes are too long, {MAX_CONFIG_BYTES} are allowed",
                value.len()
            ));
        }
    }
    valid
}

/// Maximum handlers of a chain. Each needs a new instance, and all share the request's deadline.
const MAX_LINKS: usize = 8;

/// Maximum tensors that a call returns, as the sandbox has it.
const MAX_RETURNED_TENSORS: usize = 64;

/// Rejects handlers that would have to return more tensors than a call can.
pub(super) fn can_return(path: &Path, has_handlers: bool, rules: &[TensorRule]) {
    let required = rules.iter().filter(|rule| !rule.optional()).count();
    if has_handlers && required > MAX_RETURNED_TENSORS {
        path.error_with_fix(
            format!(
                "cannot return {required} tensors: a call of a handler returns at most {MAX_RETURNED_TENSORS}"
            ),
            "a model without the handler, or with fewer tensors",
        );
    }
}

/// The handlers in order; empty without a chain.
pub(super) fn chain(path: &Path, raw: Option<&Chain>, policy: &raw::Policy) -> Option<Vec<String>> {
    let Some(Chain(names)) = raw else {
        return Some(Vec::new());
    };
    let mut valid = path.not_empty(names, "the name of a handler");
    valid = valid.and(path.at_most(names.len(), MAX_LINKS, "handlers in a row are too many"));
    for (index, name) in names.iter().enumerate() {
        if !policy.handlers.contains_key(name) {
            // A single name needs no list.
            let path = match names.as_slice() {
                [_] => path.clone(),
                _ => path.index(index),
            };
            valid = path.unknown("handler", name, policy.handlers.keys());
        }
    }
    valid.map(|()| names.clone())
}
