//! Servers that compile the schema of every function, behind models whose policy does not say so.

use std::collections::BTreeMap;
use std::path::Path;

use tensorgate_policy::policy::{Accepts, Backend, BackendTls, Model, Trust};
use tensorgate_policy::values::BackendKind;
use tensorgate_policy::{Fault, Policy, Severity};
use tensorgate_policy_text::path::below;

use crate::verbs::import::{Deadline, compiles_tools};

/// A warning for each such model. Certificates of the policy are relative to `root`.
pub fn faults(policy: &Policy, root: &Path) -> Vec<Fault> {
    let mut compilers = BTreeMap::new();
    let deadline = Deadline::start();
    let models = policy.models().iter();
    let models = models.filter(|model| describes_tools(model));
    let compiled = models.filter(|model| {
        let is_compiler = compilers.entry(model.backend()).or_insert_with(|| {
            let backend = policy.backends().get(model.backend());
            backend.is_some_and(|backend| compiles(backend, root, deadline))
        });
        *is_compiler
    });
    compiled.map(fault).collect()
}

fn fault(model: &Model) -> Fault {
    Fault {
        severity: Severity::Warning,
        path: below("models", &[model.name(), "openai", "chat", "tools"]),
        message: "the server compiles the schema of every function, and the policy takes schemas of functions that need not be called for descriptions".to_owned(),
        fix: Some("compiled: true".to_owned()),
    }
}

/// Whether schemas of a model's functions may only describe.
fn describes_tools(model: &Model) -> bool {
    let Accepts::OpenAi(rules) = model.accepts() else {
        return false;
    };
    let tools = rules.chat.as_ref().and_then(|chat| chat.tools.as_ref());
    tools.is_some_and(|tools| !tools.compiled)
}

/// Whether a server of the backend compiles them. One that does not answer is not known to.
fn compiles(backend: &Backend, root: &Path, deadline: Deadline) -> bool {
    let ca = backend.tls().map(BackendTls::trust);
    let ca = ca.and_then(|trust| match trust {
        Trust::Files { ca, .. } => Some(root.join(ca)),
        Trust::WorkloadApi(_) => None,
    });
    let mut endpoints = backend.endpoints().iter();
    backend.kind() == BackendKind::OpenAi
        && endpoints.any(|endpoint| compiles_tools(endpoint, ca.as_deref(), deadline))
}
