//! The part of a policy that filters read.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::model::Rules;
use super::{Audit, Grant, Limits, Listen, Model, ModelArtifacts, OwnHandlers, Policy, Watch};
use crate::values::Shared;

impl Policy {
    /// The policy without what only hosts read: servers, handlers, files of models, the audit log,
    /// captures and alerts. Decisions of filters are the same, and each worker of a proxy holds
    /// less.
    #[must_use]
    pub fn filter_part(&self) -> Self {
        let mut parts: BTreeMap<*const Rules, Shared<Rules>> = BTreeMap::new();
        let models = self.models.iter().map(|model| {
            let key = model.rules.as_ptr();
            let part = parts
                .entry(key)
                .or_insert_with(|| rules(&model.rules).into());
            Model {
                rules: part.clone(),
                ..model.clone()
            }
        });
        let models = models.collect();
        // Each field is named, so that a new one is not sent to filters by mistake.
        let Self {
            listen,
            issuers,
            revoked,
            clients,
            models: _,
            templates,
            grants,
            rate_limit_service,
            backends: _,
            handlers: _,
            granted,
            reachable,
            raw_types,
            codings,
            lockout,
            audit: _,
            capture: _,
            watch: _,
        } = self.clone();
        Self {
            listen: Listen {
                limits: limits(listen.limits),
                ..listen
            },
            issuers,
            revoked,
            clients,
            models,
            templates,
            grants: grants.iter().map(grant).collect(),
            rate_limit_service,
            backends: BTreeMap::new(),
            handlers: BTreeMap::new(),
            granted,
            reachable,
            raw_types,
            codings,
            lockout,
            audit: Audit::default(),
            capture: None,
            watch: Watch::default(),
        }
    }
}

/// A filter has 32-bit addresses.
fn limits(limits: Limits) -> Limits {
    let most = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
    Limits {
        buffered_bytes: limits.buffered_bytes.min(most),
        ..limits
    }
}

fn rules(rules: &Rules) -> Rules {
    Rules {
        backend: String::new(),
        backend_model: None,
        backend_inputs: Vec::new(),
        backend_outputs: Vec::new(),
        preprocess: Vec::new(),
        postprocess: Vec::new(),
        backend_template: None,
        artifacts: ModelArtifacts::default(),
        ..rules.clone()
    }
}

/// Of the handlers of a grant, filters read the outputs.
fn grant(grant: &Grant) -> Grant {
    let handlers = grant.handlers.iter().map(|(id, own)| {
        let outputs = OwnHandlers {
            preprocess: None,
            postprocess: None,
            returns: own.returns.clone(),
        };
        (*id, outputs)
    });
    Grant {
        handlers: handlers.collect(),
        ..grant.clone()
    }
}
