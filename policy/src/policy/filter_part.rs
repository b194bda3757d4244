//! The part of a policy that filters read.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use tensorgate_values::Shared;

use super::model::Rules;
use super::{Audit, Grant, Limits, Listen, Model, ModelArtifacts, Policy, Watch};

/// The policy without what only hosts read: servers, handlers, files of models, the audit log,
/// captures and alerts. Decisions of filters are the same, and each worker of a proxy holds
/// less.
#[must_use]
pub fn filter_part(policy: Policy) -> Policy {
    // Each field is named, so that a new one is not sent to filters by mistake.
    let Policy {
        listen,
        issuers,
        revoked,
        clients,
        api_keys,
        models,
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
    } = policy;
    let mut parts: BTreeMap<*const Rules, Shared<Rules>> = BTreeMap::new();
    let part = |model: &Model| {
        let rules = &model.rules;
        let part = parts.entry(rules.as_ptr());
        Model {
            rules: part.or_insert_with(|| rules_part(rules).into()).clone(),
            ..model.clone()
        }
    };
    Policy {
        listen: Listen {
            limits: limits_part(listen.limits),
            ..listen
        },
        issuers,
        revoked,
        clients,
        api_keys,
        // The models live until all are done, so their addresses stay different.
        models: models.iter().map(part).collect(),
        templates,
        grants: grants.into_iter().map(grant_part).collect(),
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
/// A filter has 32-bit addresses.
fn limits_part(limits: Limits) -> Limits {
    let most = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
    Limits {
        buffered_bytes: limits.buffered_bytes.min(most),
        ..limits
    }
}

fn rules_part(rules: &Rules) -> Rules {
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
fn grant_part(mut grant: Grant) -> Grant {
    for own in grant.handlers.values_mut() {
        own.preprocess = None;
        own.postprocess = None;
    }
    grant
}
