//! Compares the models of a policy with what its servers say now, without serving anything. It uses
//! the health checks of a running host.

use std::sync::Arc;

use serde::Serialize;
use tensorgate_policy::Policy;
use tensorgate_policy::values::BackendKind;
use tokio::task::JoinSet;

use super::assemble::{Loader, PolicyFault};

/// What a server says against a model version.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    backend: String,
    address: String,
    model: String,
    version: String,
    /// Whether the server itself answered.
    reached: bool,
    cause: String,
}

/// Asks every server once. Embedded backends are left out, because `tensorgate up` starts them.
/// Without an answer this takes a few seconds.
pub(crate) async fn ask(
    loader: &Loader,
    policy: &Policy,
) -> Result<Vec<Finding>, Vec<PolicyFault>> {
    let (mut servers, mut faults) = (Vec::new(), Vec::new());
    for (name, rule) in policy.backends() {
        if rule.kind() == BackendKind::Embedded {
            continue;
        }
        match loader.backend(name, rule, policy, &[]) {
            Ok(server) => servers.push((name, server)),
            Err(fault) => faults.push(fault),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut asking = JoinSet::new();
    for (_, server) in &servers {
        let dispatcher = Arc::clone(&server.dispatcher);
        asking.spawn(async move { dispatcher.health().first_probes().await });
    }
    while asking.join_next().await.is_some() {}
    let mut findings = Vec::new();
    for (name, server) in servers {
        let models = policy.models().iter();
        for model in models.filter(|model| model.backend() == name) {
            for version in model.versions() {
                let objections = server.dispatcher.health().objections(model, version);
                for (address, objection) in server.addresses.iter().zip(objections) {
                    let Some((reached, cause)) = objection else {
                        continue;
                    };
                    findings.push(Finding {
                        backend: name.clone(),
                        address: address.clone(),
                        model: model.name().to_owned(),
                        version: version.clone(),
                        reached,
                        cause,
                    });
                }
            }
        }
    }
    Ok(findings)
}
