//! The policy of rendered objects: of a folder that `render` wrote, of an object of the cluster, or
//! of the host's file.
//!
//! | object | where its compiled policy is |
//! |---|---|
//! | ConfigMap `NAME-policy` | `binaryData["bundle.bin"]` |
//! | TrafficExtension | `spec.wasm.pluginConfig` |
//! | WasmPlugin | `spec.pluginConfig` |
//! | EnvoyExtensionPolicy | `spec.wasm[].config` |

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize as _;
use serde_json::Value;
use tensorgate_base::files::at_most;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::arguments::is_standard_input;
use tensorgate_cli_common::bounded_file::read_at_most;
use tensorgate_policy::policy::filter_part;
use tensorgate_policy::{Compiled, FilterConfiguration, LoadFault, Target, compiled};
use tensorgate_policy_text::parse::parse;
use tensorgate_policy_text::typed::deserialize_one;

/// Largest file with a policy, bytes. A List has several objects of at most 1 MiB, and a compiled
/// policy has at most 12 MiB.
const MAX_BYTES: u64 = 64 << 20;
/// Files with the policy in a folder, by target: kubernetes, istio and gateway; helm; envoy.
const FILES: [&str; 3] = [
    "configmap-policy.yaml",
    "files/policy/bundle.bin.base64",
    "bundle.bin",
];
/// Keys that every object of a cluster has.
const OBJECT: [&str; 2] = ["apiVersion", "kind"];

/// Whether two objects have the same policy, as far as both have it.
fn is_same(one: &Compiled, other: &Compiled) -> bool {
    let part = |compiled: &Compiled| format!("{:?}", filter_part(compiled.policy.clone()));
    let is_same = match (&one.target, &other.target) {
        (Target::Host(_), Target::Host(_)) => {
            format!("{:?}", one.policy) == format!("{:?}", other.policy)
        }
        _ => part(one) == part(other),
    };
    is_same && one.generation == other.generation
}

/// The policy at a path; `None` if a policy file is there, or nothing.
///
/// # Errors
/// A folder, an object or standard input has no policy, or more than one.
pub(super) fn rendered(path: &Path) -> Result<Option<Compiled>, Failure> {
    let fault = |cause: String| Failure::Input(format!("{}: {cause}", path.display()));
    let is_folder = path.is_dir();
    let read = if is_standard_input(path) {
        at_most(std::io::stdin().lock(), MAX_BYTES)
    } else if is_folder {
        read_at_most(&file_of_folder(path).map_err(fault)?, MAX_BYTES)
    } else if path.is_file() {
        read_at_most(path, MAX_BYTES)
    } else {
        // A pipe is read once, by the loader of policies, which also says what is not there.
        return Ok(None);
    };
    let bytes = read
        .map_err(|error| fault(format!("cannot be read: {error}")))?
        .ok_or_else(|| fault(format!("is larger than {MAX_BYTES} bytes")))?;
    let decoded = STANDARD.decode(bytes.trim_ascii());
    for bytes in [Some(&bytes), decoded.ok().as_ref()].into_iter().flatten() {
        if compiled::is_compiled(bytes) {
            return load(bytes).map(Some).map_err(fault);
        }
    }
    match document(&bytes).map_err(fault)? {
        Some(document) => only(&document).map(Some).map_err(fault),
        None if is_folder || is_standard_input(path) => Err(fault(
            "has no object that render writes; name a policy file by its path".to_owned(),
        )),
        None => Ok(None),
    }
}

/// The file with the policy in a rendered folder.
fn file_of_folder(folder: &Path) -> Result<PathBuf, String> {
    let there = FILES.iter().map(|file| folder.join(file));
    let there: Vec<_> = there.filter(|file| file.is_file()).collect();
    match there.as_slice() {
        [file] => Ok(file.clone()),
        [] => Err("is no folder that render wrote: it has no policy of a gate".to_owned()),
        _ => Err("has several targets of render: name one file with a policy".to_owned()),
    }
}

/// An object of a cluster; `None` if the text is something else, as a policy is.
fn document(bytes: &[u8]) -> Result<Option<Value>, String> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Ok(None);
    };
    if let Ok(document) = serde_json::from_str::<Value>(text) {
        return Ok(is_object(&document).then_some(document));
    }
    // Most policies are not parsed twice.
    if !OBJECT.iter().all(|key| text.contains(key)) {
        return Ok(None);
    }
    let (tree, faults) = parse(text);
    let Some(tree) = tree else {
        return Err(match faults.first() {
            Some(fault) => format!("line {}: {}", fault.span.line, fault.message),
            None => "is not YAML".to_owned(),
        });
    };
    let document: Value = deserialize_one(&tree).map_err(|fault| fault.message)?;
    if !is_object(&document) {
        return Ok(None);
    }
    match faults.first() {
        None => Ok(Some(document)),
        Some(fault) => Err(format!("line {}: {}", fault.span.line, fault.message)),
    }
}

fn is_object(document: &Value) -> bool {
    OBJECT.iter().all(|key| document.get(key).is_some())
}

/// The only policy of a document. The items of a List may have the same one. Of these, the one for
/// a host has more.
fn only(document: &Value) -> Result<Compiled, String> {
    let mut policies = policies(document)?;
    policies.sort_by_key(|policy| matches!(policy.target, Target::Host(_)));
    let Some(first) = policies.pop() else {
        return Err(
            "has no policy of a gate: the ConfigMap NAME-policy has one, or the object that loads the filter".to_owned(),
        );
    };
    if policies.iter().all(|other| is_same(other, &first)) {
        Ok(first)
    } else {
        Err("has several policies: name one object".to_owned())
    }
}

fn policies(document: &Value) -> Result<Vec<Compiled>, String> {
    let at = |path: &str| document.pointer(path);
    let mut found = Vec::new();
    match document.get("kind").and_then(Value::as_str) {
        Some("ConfigMap") => {
            let encoded = at("/binaryData/bundle.bin").and_then(Value::as_str);
            found.extend(encoded.map(from_base64).transpose()?);
        }
        Some("TrafficExtension") => {
            let configuration = at("/spec/wasm/pluginConfig");
            found.extend(configuration.map(from_configuration).transpose()?);
        }
        Some("WasmPlugin") => {
            let configuration = at("/spec/pluginConfig");
            found.extend(configuration.map(from_configuration).transpose()?);
        }
        Some("EnvoyExtensionPolicy") => {
            let filters = at("/spec/wasm").and_then(Value::as_array);
            for filter in filters.into_iter().flatten() {
                let configuration = filter.get("config");
                // Filters of others may be in the same object.
                let ours = configuration.filter(|it| it.get("bundle").is_some());
                found.extend(ours.map(from_configuration).transpose()?);
            }
        }
        Some("List") => {
            let items = at("/items").and_then(Value::as_array);
            // A List has no List in it.
            let items = items.into_iter().flatten();
            for item in items.filter(|item| item.get("items").is_none()) {
                found.extend(policies(item)?);
            }
        }
        _ => {}
    }
    Ok(found)
}

/// The policy of a filter's configuration.
fn from_configuration(configuration: &Value) -> Result<Compiled, String> {
    let encoded = FilterConfiguration::deserialize(configuration)
        .map_err(|error| format!("the configuration of its filter is not ours: {error}"))?;
    let bytes = encoded.decode();
    let bytes = bytes.map_err(|fault| format!("the configuration of its filter {fault}"))?;
    load(&bytes)
}

fn from_base64(encoded: &str) -> Result<Compiled, String> {
    let bytes = STANDARD.decode(encoded);
    load(&bytes.map_err(|error| format!("its policy is not base64: {error}"))?)
}

fn load(bytes: &[u8]) -> Result<Compiled, String> {
    Compiled::load(bytes).map_err(|fault| match fault {
        LoadFault::Format { .. } => {
            "its policy was compiled by another release: compare it with `tensorgate` of that release".to_owned()
        }
        fault => format!("its policy {fault}"),
    })
}

#[cfg(test)]
mod tests;
