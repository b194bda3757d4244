//! Collects the conditions that hold now, each from the part of the host that knows it.

use std::cell::LazyCell;
use std::collections::HashMap;

use tensorgate_base::client_key::ClientKey;
use tensorgate_judge::model_version::model_version;
use tensorgate_settings::sources::Sources;
use tensorgate_verified_models::Cause;
use tensorgate_watch::blocks::{BlockAction, BlockRecord};
use tensorgate_watch::conditions::{Condition, ConditionKind};

use super::StateFiles;
use crate::policy_store::policy_versions::{LoadOutcome, PolicyVersion};
use crate::service::App;

/// The subject of a scanner that is about no model.
const SCANNER: &str = "the scanner";
/// The subject of revocations that are not in force.
const REVOCATIONS: &str = "revocations";
/// The subject of a bundle that the host has rejected, where nothing describes its source files.
const BUNDLE: &str = "the last bundle";

/// All conditions that hold now.
pub(super) fn all(app: &App, newest: &PolicyVersion, files: &StateFiles) -> Vec<Condition> {
    let mut found = models(newest);
    found.extend(backends(newest));
    found.extend(handlers(newest));
    found.extend(blocks(app));
    found.extend(audit(app, files));
    found.extend(files_not_in_force(app, files));
    let warning = app.scanner.as_ref().and_then(|it| it.warning());
    found.extend(warning.map(|cause| condition(ConditionKind::ScannerFailed, SCANNER, cause)));
    found.extend(limits(newest));
    found
}

fn condition(
    kind: ConditionKind,
    subject: impl Into<String>,
    detail: impl Into<String>,
) -> Condition {
    Condition {
        kind,
        subject: subject.into(),
        client: None,
        detail: detail.into(),
    }
}

/// The model versions that are not ready, by what is wrong with each.
fn models(newest: &PolicyVersion) -> Vec<Condition> {
    let versions = newest.pipeline.readiness();
    let unready = versions.filter(|(_, _, causes)| !causes.is_empty());
    let described = unready.map(|(model, version, causes)| {
        let kind = match newest.pipeline.rejection(model, version) {
            None => ConditionKind::ModelUnready,
            Some(Cause::Other(_)) => ConditionKind::ScannerFailed,
            Some(Cause::Files(_) | Cause::Untrusted(_) | Cause::Ended(_)) => {
                ConditionKind::ModelRejected
            }
        };
        condition(kind, model_version(model, version), causes.join("; "))
    });
    described.collect()
}

/// Endpoints that take no requests, and open circuits of backends.
fn backends(newest: &PolicyVersion) -> Vec<Condition> {
    // Made once, because in an outage the circuits of many clients are open.
    let names = LazyCell::new(|| client_names(newest));
    let mut found = Vec::new();
    for (name, server) in &newest.parts.backends {
        let away = server.dispatcher.away_endpoints().into_iter();
        found.extend(away.map(|(address, cause)| {
            let subject = format!("backend {name:?} at {address}");
            let detail = without_address(&cause, &address);
            condition(ConditionKind::BackendAway, subject, detail)
        }));
        for client in server.dispatcher.open_circuits() {
            let client_name = |key: ClientKey| names.get(&key).copied().unwrap_or_default();
            let client = client.map(|key| client_name(key).to_owned());
            found.push(circuit(&format!("backend {name:?}"), client));
        }
    }
    found
}

/// A cause without the address at its beginning, which the subject has already.
fn without_address<'c>(cause: &'c str, address: &str) -> &'c str {
    let rest = cause.strip_prefix(address);
    let rest = rest.and_then(|rest| rest.strip_prefix(": "));
    rest.unwrap_or(cause)
}

/// Open circuits of handlers.
fn handlers(newest: &PolicyVersion) -> Vec<Condition> {
    let handlers = newest.parts.loaded_handlers();
    let open = handlers.flat_map(|(name, handler)| {
        let subject = format!("handler {name:?}");
        let circuits = handler.open_circuits().into_iter();
        circuits.map(move |client| circuit(&subject, client))
    });
    open.collect()
}

/// An open circuit, of one client or of all. The name of a client may be unknown, and is empty.
fn circuit(of: &str, client: Option<String>) -> Condition {
    let (subject, detail) = match &client {
        None => (
            of.to_owned(),
            "its calls failed in a row; no client is served",
        ),
        Some(name) => (
            format!("{of} for client {name:?}"),
            "calls of the client failed in a row; others are served",
        ),
    };
    Condition {
        client,
        ..condition(ConditionKind::CircuitOpen, subject, detail)
    }
}

/// The clients of the policy by their keys.
fn client_names(newest: &PolicyVersion) -> HashMap<ClientKey, &str> {
    let names = newest.policy().clients().iter().map(|client| client.name());
    names
        .map(|name| (ClientKey::from_name(Some(name)), name))
        .collect()
}

/// Clients that are blocked or throttled.
fn blocks(app: &App) -> Vec<Condition> {
    let listed = app.blocks.listed().into_iter();
    let in_force = listed.filter(|listed| listed.in_force);
    in_force.map(|listed| block(&listed.block)).collect()
}

fn block(record: &BlockRecord) -> Condition {
    let action = match record.action {
        BlockAction::Block => "blocked",
        BlockAction::Throttle => "throttled",
    };
    let colon = if record.reason.is_empty() { "" } else { ": " };
    let (until, by, reason) = (record.until(), &record.by, &record.reason);
    let detail = format!("{action} until {until} by {by}{colon}{reason}");
    Condition {
        client: Some(record.client.clone()),
        ..condition(ConditionKind::ClientBlocked, &*record.client, detail)
    }
}

/// An audit log that cannot be written.
fn audit(app: &App, files: &StateFiles) -> Option<Condition> {
    let failure = app.outcomes.audit().failure()?;
    let log = files.log.display().to_string();
    Some(condition(ConditionKind::AuditFailing, log, failure.cause))
}

/// Changes that are not in force: those that `up` describes, or else the last bundle of a host
/// without it.
fn files_not_in_force(app: &App, files: &StateFiles) -> Vec<Condition> {
    let sources = Sources::read(&files.sources);
    // A cause of several lines is one line here.
    let not_in_force =
        |file: String, why: &str| condition(ConditionKind::PolicyNotInForce, file, one_line(why));
    let mut found: Vec<_> = (sources.held.iter())
        .map(|state| not_in_force(state.file.display().to_string(), &state.why))
        .collect();
    if let Some(why) = &sources.revocations_held {
        found.push(not_in_force(REVOCATIONS.to_owned(), why));
    }
    if sources.policy.is_none()
        && let Some(attempt) = app.policy_versions.status().last
        && attempt.outcome == LoadOutcome::Refused
    {
        found.push(not_in_force(BUNDLE.to_owned(), &attempt.faults.join("; ")));
    }
    found
}

/// The lines of a text as one.
fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join("; ")
}

/// A service of shared limits that does not answer.
fn limits(newest: &PolicyVersion) -> Option<Condition> {
    let limits = newest.parts.limits.as_ref().filter(|it| !it.is_up())?;
    let detail = "redis does not answer: `rate_limit_service.on_failure` decides";
    Some(condition(
        ConditionKind::LimitServiceAway,
        limits.address(),
        detail,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_once() {
        let shown = |cause| without_address(cause, "http://a:1");
        assert_eq!(shown("http://a:1: no answer"), "no answer");
        assert_eq!(shown("http://a:10: no answer"), "http://a:10: no answer");
        assert_eq!(shown("ejected"), "ejected");
    }

    #[test]
    fn the_lines_of_a_cause_are_one_line() {
        let cause = "it waits\nmodel \"a\": no answer\n";
        assert_eq!(one_line(cause), "it waits; model \"a\": no answer");
    }

    #[test]
    fn a_circuit_and_a_block_name_their_client() {
        let shared = circuit("backend \"b\"", None);
        assert_eq!((&*shared.subject, shared.client), ("backend \"b\"", None));
        let own = circuit("handler \"h\"", Some("c".to_owned()));
        assert_eq!(own.subject, "handler \"h\" for client \"c\"");
        let record = BlockRecord::new("c", BlockAction::Throttle, 1_000, None, 0);
        let record = record.made_by("rule volume".to_owned(), "sent more");
        let block = block(&record);
        let detail = "throttled until 1970-01-01T00:00:01.000000Z by rule volume: sent more";
        assert_eq!((&*block.subject, &*block.detail), ("c", detail));
    }
}
