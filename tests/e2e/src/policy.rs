//! The vectors' policies, adapted to real processes.

use std::path::Path;

use sha2::{Digest, Sha256};
use tensorgate_policy::values::BackendKind;
use tensorgate_policy_compiler::raw::{Dim, Policy};

use crate::backend::Backend;

/// The policy of a file in the vectors' folder.
pub fn vectors_policy(name: &str) -> Policy {
    let file = tensorgate_vectors::vectors_dir()
        .join("policies")
        .join(name);
    serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap()
}

/// Sets the time limit of a request and of each backend, for a test that is not about time.
pub fn set_time_limit(policy: &mut Policy, ms: u64) {
    policy.listen.limits.timeout_ms = ms.into();
    for backend in policy.backends.values_mut() {
        backend.timeout_ms = ms.into();
    }
}

/// The text of a key of the vectors, by its name.
pub fn key(name: &str) -> String {
    let keys: serde_json::Value = serde_json::from_str(
        &std::fs::read_to_string(tensorgate_vectors::vectors_dir().join("keys.json")).unwrap(),
    )
    .unwrap();
    keys[name]["text"].as_str().unwrap().to_owned()
}

/// Adds and grants the model `big`: `vec` with up to so many elements.
pub fn add_big_model(policy: &mut Policy, max_elements: u64) {
    let mut big = policy.models["vec"].clone();
    // A JSON path belongs to one model.
    big.json = None;
    big.protocols.retain(|protocol| protocol != "json");
    big.inputs[0].shape = Some(vec![Dim::Bounded {
        name: None,
        min: None,
        max: Some(max_elements),
    }]);
    policy.models.insert("big".into(), big);
    policy.grants[0].models.push("big".into());
}

/// Appends a text to the name of each client. Groups and their members' grants stay the same.
pub fn rename_clients(policy: &mut Policy, suffix: &str) {
    let clients = std::mem::take(&mut policy.clients);
    let groups = policy.groups.values_mut();
    let granted = policy.grants.iter_mut().map(|grant| &mut grant.clients);
    let captured = policy
        .capture
        .iter_mut()
        .map(|capture| &mut capture.clients);
    for name in groups.chain(granted).chain(captured).flatten() {
        if clients.contains_key(name) {
            name.push_str(suffix);
        }
    }
    policy.clients = clients
        .into_iter()
        .map(|(name, client)| (name + suffix, client))
        .collect();
}

/// Points every backend at the stand-in, and puts the handlers' real files, from `components`,
/// beside the policy.
pub fn settle(policy: &mut Policy, backend: &Backend, components: &Path, folder: &Path) {
    for server in policy.backends.values_mut() {
        let address = match server.kind {
            Some(BackendKind::OpenInference) => backend.address,
            Some(BackendKind::OpenAi) => backend.openai.address,
            Some(
                BackendKind::TfServing
                | BackendKind::TorchServe
                | BackendKind::HttpJson
                | BackendKind::Embedded,
            )
            | None => continue,
        };
        server.endpoints = vec![format!("http://{address}")];
    }
    for handler in policy.handlers.values_mut() {
        let file = Path::new(handler.component.as_ref().unwrap())
            .file_name()
            .unwrap()
            .to_owned();
        let bytes = std::fs::read(components.join(&file)).unwrap_or_else(|error| {
            panic!(
                "{}: {error}; run `make build` and `make components` first",
                components.join(&file).display()
            )
        });
        handler.sha256 = Some(
            Sha256::digest(&bytes)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        );
        let copy = folder.join(&file);
        // An identical file is not written again: a process that watches the policy's files would
        // see a change.
        if std::fs::read(&copy).ok().as_ref() != Some(&bytes) {
            std::fs::write(copy, bytes).unwrap();
        }
        handler.component = Some(file.to_str().unwrap().to_owned());
    }
}
