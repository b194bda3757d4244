//! What is recorded: the audit log, which cannot be disabled, and captured calls of handlers:
//! known models and clients, limited size, and a key.

use tensorgate_policy::policy::{Audit, Capture};
use tensorgate_policy::report::{Path, Valid, quote};
use tensorgate_policy::values::{AuditFailure, CallOutcome};

use super::audit_export;
use super::names;
use super::tracing;
use crate::raw;
use crate::raw::{ByteSize, MAX_CALL_BYTES};

/// Default disk space.
const DEFAULT_KEEP_BYTES: ByteSize = ByteSize(256 << 20);
/// Maximum disk space.
const MAX_KEEP_BYTES: u64 = 1 << 40;
/// Disk space per byte of a call, for base64.
const ON_DISK: u64 = 2;
/// Additional disk space per call, such as a handler's configuration. A larger file is not
/// captured.
const FACTS_BYTES: u64 = 1 << 20;

pub(super) fn capture(path: &Path, policy: &raw::Policy) -> Valid<Option<Capture>> {
    let Some(raw) = &policy.capture else {
        return Some(None);
    };
    let file = |name: &str, text: Option<&String>, fix: &str| {
        let path = path.field(name);
        let text = path.required(text, fix)?;
        names::file(&path, text).map(|()| text.clone())
    };
    let folder = file("folder", raw.folder.as_ref(), "captures");
    let key_file = file("key_file", raw.key_file.as_ref(), "a file of 64 hex digits");
    let known = |name: &str, kind: &str, list: &[String], candidates: Vec<&str>| {
        let path = path.field(name);
        let mut valid = path.distinct(list);
        for (index, text) in list.iter().enumerate() {
            if !candidates.contains(&text.as_str()) {
                valid = path
                    .index(index)
                    .unknown(kind, text, candidates.iter().copied());
            }
        }
        valid
    };
    let models = known(
        "models",
        "model",
        &raw.models,
        policy.models.keys().map(String::as_str).collect(),
    );
    let clients = known(
        "clients",
        "client",
        &raw.clients,
        policy.clients.keys().map(String::as_str).collect(),
    );
    let outcomes = path.field("outcomes").distinct(&raw.outcomes);
    let one_in = raw.one_in.check(&path.field("one_in"));
    let max_bytes = raw.max_bytes.check(&path.field("max_bytes"));
    let keep = raw.keep.check(&path.field("keep"));
    // At least one call must fit.
    let largest = raw.max_bytes.0;
    let keep_bytes = path.field("keep_bytes").within(
        raw.keep_bytes.unwrap_or(DEFAULT_KEEP_BYTES).0,
        largest
            .min(MAX_CALL_BYTES)
            .saturating_mul(ON_DISK)
            .saturating_add(FACTS_BYTES),
        MAX_KEEP_BYTES,
        "bytes",
    );
    if policy.handlers.is_empty() {
        path.warn("has no effect: the policy has no handlers", "remove it");
    } else if raw.outcomes.contains(&CallOutcome::Answered)
        && raw.models.is_empty()
        && raw.clients.is_empty()
    {
        path.warn(
            "captures the requests of every client to every model with a handler",
            "models: [NAME], clients: [NAME]",
        );
    }
    models?;
    clients?;
    outcomes?;
    Some(Some(Capture {
        folder: folder?,
        key_file: key_file?,
        models: raw.models.clone(),
        clients: raw.clients.clone(),
        outcomes: if raw.outcomes.is_empty() {
            [CallOutcome::Fault].to_vec()
        } else {
            raw.outcomes.clone()
        },
        one_in: one_in?,
        max_bytes: max_bytes?,
        keep: keep?,
        keep_bytes: keep_bytes?,
    }))
}

/// The only format so far.
const FORMAT: &str = "json";
/// Maximum length of the path: `PATH_MAX` minus the suffixes of companion files.
const MAX_PATH_BYTES: usize = 4_000;

pub(super) fn audit(at: &Path, policy: &raw::Policy) -> Option<Audit> {
    let default = raw::Audit::default();
    let raw = policy.audit.as_ref().unwrap_or(&default);
    if raw.format != FORMAT {
        at.field("format").error_with_fix(
            format!("{} is not a supported format", quote(&raw.format)),
            FORMAT,
        );
    }
    let log = path(&at.field("path"), &raw.path);
    let key_file = raw
        .key_file
        .as_ref()
        .map(|file| path(&at.field("key_file"), file));
    if !raw.chain {
        at.field("chain").warn(
            "without the chain, removed or changed lines go unnoticed",
            "true",
        );
    }
    if raw.on_failure == AuditFailure::Allow {
        at.field("on_failure").warn(
            "while the log cannot be written, requests are answered without being logged",
            "refuse",
        );
    }
    let file_bytes = raw.file_bytes.check(&at.field("file_bytes"));
    let files = raw.files.check(&at.field("files"));
    let export = audit_export::export(&at.field("export"), raw.export.as_ref());
    let tracing = tracing::tracing(&at.field("tracing"), policy);
    Some(Audit {
        path: log?,
        chain: raw.chain,
        key_file: match key_file {
            Some(file) => Some(file?),
            None => None,
        },
        file_bytes: file_bytes?,
        files: files?,
        on_failure: raw.on_failure,
        export: export?,
        tracing: tracing?,
    })
}

/// A file path that does not name a folder and, if relative, stays below the state folder.
fn path(at: &Path, text: &str) -> Option<String> {
    let fix = "audit/decisions.jsonl";
    let fault = if text.is_empty() || text.ends_with('/') {
        "is not a file's path"
    } else if text.contains('\0') || text.len() > MAX_PATH_BYTES {
        "is not a path"
    } else if text.split('/').any(|part| part == "..") {
        "has a .. segment"
    } else {
        return Some(text.to_owned());
    };
    at.fail_with_fix(format!("{} {fault}", quote(text)), fix)
}
