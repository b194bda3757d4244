//! Validates raw configuration into a [`Policy`] and reports all faults at once.
//!
//! Validation never opens a file, resolves a host or reads a clock. Its result is the same
//! everywhere, including 32-bit targets.

mod accepts;
mod artifact;
mod audit_export;
mod backend_rules;
mod backends;
mod caller_limits;
mod clients;
mod dims;
mod egress;
mod ensemble;
mod grant_handlers;
mod grants;
mod guardrail;
mod handlers;
mod http_url;
mod interfaces;
mod issuers;
mod items;
mod jwks;
mod key_url;
mod limits;
mod listen;
mod lookups;
mod mode;
mod model_fields;
mod models;
mod names;
mod openai;
mod otlp_endpoint;
mod parameters;
mod proofs;
mod protocols;
mod records;
mod release;
mod revoked;
mod roles;
mod service;
mod signing;
mod template;
mod tensors;
mod token_text;
mod tracing;
mod usage;
mod values;
mod versions;
mod watch;
mod webhook;

use std::collections::BTreeSet;

use tensorgate_policy::policy::{Policy, proofs_of};
use tensorgate_policy::report::{Path, Report};
use tensorgate_policy::request::Codings;
use tensorgate_policy::values::fault::{Fault, Severity};

use crate::raw;
pub use revoked::keep_well_formed;

/// The only format version so far.
const FORMAT_VERSION: u64 = 1;

/// Validates a policy. `Ok` carries the warnings.
///
/// # Errors
/// Every fault, warnings included, in document order of their paths.
pub fn validate(raw: &raw::Policy) -> Result<(Policy, Vec<Fault>), Vec<Fault>> {
    let report = Report::default();
    let policy = policy(&report.root(), raw);
    let faults = report.into_faults();
    match policy {
        Some(policy)
            if faults
                .iter()
                .all(|fault| fault.severity == Severity::Warning) =>
        {
            Ok((policy, faults))
        }
        _ => Err(faults),
    }
}

/// Validates all sections in document order; a missing part has left an error in the report.
fn policy(root: &Path, raw: &raw::Policy) -> Option<Policy> {
    let fix = "version: 1";
    if let Some(version) = root.field("version").required(raw.version, fix)
        && version != FORMAT_VERSION
    {
        root.field("version")
            .error_with_fix(format!("format version {version} is not supported"), fix);
    }
    let used = usage::Usage::of(raw);
    let listen = listen::listen(&root.field("listen"), raw);
    let issuers = issuers::issuers(&root.field("issuers"), raw);
    let clients = clients::clients(&root.field("clients"), raw, &used);
    clients::groups(&root.field("groups"), raw, &used);
    let revoked = revoked::revoked(&root.field("revoked"), &raw.revoked);
    let backends = backends::backends(&root.field("backends"), raw, &used);
    let (signers, keys) = signing::keys(&root.field("keys"), &raw.keys, &used);
    let handlers = handlers::handlers(&root.field("handlers"), raw, &used);
    let lookups = lookups::lookups(&root.field("lookups"), &raw.lookups, &used);
    let handlers = handlers
        .zip(lookups)
        .map(|(handlers, lookups)| handlers::with(handlers, raw, &lookups));
    if let Some(handlers) = &handlers {
        let buffered_bytes = raw.listen.limits.buffered_bytes.0;
        handlers::fit(&root.field("handlers"), handlers, buffered_bytes);
    }
    let models = models::models(&root.field("models"), raw, &used, &signers);
    items::check_automata_size(&root.field("models"), models.as_deref().unwrap_or_default());
    let templates = models
        .as_deref()
        .and_then(|models| template::templates(&root.field("models"), models));
    let grants = grants::grants(&root.field("grants"), raw, models.as_deref());
    let service = service::service(&root.field("rate_limit_service"), raw);
    let lockout = raw
        .lockout
        .as_ref()
        .map(|rule| limits::lockout(&root.field("lockout"), rule, &raw.listen));
    let audit = records::audit(&root.field("audit"), raw);
    let capture = records::capture(&root.field("capture"), raw);
    let watch = watch::watch(&root.field("watch"), raw);
    let (grants, models, (clients, api_keys)) = (grants?, models?, clients?);
    models::reachable(
        &root.field("models"),
        grants.granted.iter().map(|entry| (entry.0, entry.1)),
        &clients,
        &proofs_of(&clients, &api_keys),
        &models,
    );
    openai::streams(
        &root.field("models"),
        grants.granted.by_role.keys().map(|key| (key.1, key.3)),
        &models,
    );
    keys?;
    let policy = Policy {
        listen: listen?,
        issuers: issuers?,
        revoked: revoked?.into(),
        clients: clients.into(),
        api_keys: api_keys.into(),
        reachable: BTreeSet::new(),
        raw_types: BTreeSet::new(),
        codings: Codings::default(),
        models,
        templates: templates?,
        grants: grants.grants,
        rate_limit_service: service?,
        backends: backends?,
        handlers: handlers?,
        granted: grants.granted,
        lockout: lockout.map_or(Some(None), |rule| rule.map(Some))?,
        audit: audit?,
        capture: capture?,
        watch: watch?,
    };
    Some(policy.with_summaries())
}

#[cfg(test)]
mod tests;
