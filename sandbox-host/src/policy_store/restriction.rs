//! Builds a version that only restricts a loaded one, from that version's parts. No file is read
//! and nothing is compiled, so only the version itself can keep it from becoming active.

use std::sync::Arc;

use tensorgate_settings::bundle::Candidate;

use super::assemble::routes::used;
use super::assemble::{Loader, PolicyFault};
use super::parts::Parts;
use crate::policy_store::policy_versions::PolicyVersion;

/// Builds the version of a policy that restricts `base`, or returns every part that differs.
pub(crate) fn restrict(
    loader: &Loader,
    candidate: &Candidate,
    base: &PolicyVersion,
) -> Result<PolicyVersion, Vec<PolicyFault>> {
    let policy = &candidate.policy;
    let mut faults = Vec::new();
    let mut other = |what: String| faults.push(PolicyFault::Tighter(what));
    let handlers = used(policy).into_iter().filter_map(|key| {
        let rule = policy.handlers().get(&key.0)?;
        let known = base.parts.handlers.get(&key);
        let Some(known) = known.filter(|known| known.rule == *rule) else {
            other(format!("handler {:?}", key.0));
            return None;
        };
        Some((key, known.clone()))
    });
    let handlers = handlers.collect();
    let backends = policy.backends().iter().filter_map(|(name, rule)| {
        let known = base.parts.backends.get(name);
        let Some(known) = known.filter(|known| known.rule == *rule) else {
            other(format!("backend {name:?}"));
            return None;
        };
        Some((name.clone(), Arc::clone(known)))
    });
    let backends = backends.collect();
    let capturer = policy.capture().and_then(|rule| {
        let known = base.parts.capturer.as_ref();
        let known = known.filter(|known| known.rule() == rule);
        if known.is_none() {
            other("capture".to_owned());
        }
        known.map(Arc::clone)
    });
    let webhooks = (policy.watch().webhooks().iter().enumerate()).filter_map(|(index, rule)| {
        let known = base.parts.webhooks.iter().find(|it| it.rule() == rule);
        if known.is_none() {
            other(policy.watch().webhook_path(index));
        }
        known.map(Arc::clone)
    });
    let webhooks = webhooks.collect();
    let known: Vec<_> = base.parts.limits.iter().map(Arc::clone).collect();
    let limits = loader.limits(policy, &known, &mut faults);
    let parts = Parts {
        handlers,
        backends,
        capturer,
        limits,
        webhooks,
    };
    loader.generation(candidate, parts, faults)
}
