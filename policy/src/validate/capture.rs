//! Capture rules: known models and clients, limited size, and a key.

use alloc::string::String;
use alloc::vec::Vec;

use super::names;
use super::report::{Bounds, Path, Valid, bounds};
use crate::policy::Capture;
use crate::raw::{self, ByteSize, CallOutcome};

/// Maximum sampling interval.
const ONE_IN: Bounds = bounds(1, 1_000_000_000, 1, "requests");
/// Default maximum size of a call: an image and its tensors.
const DEFAULT_MAX_BYTES: ByteSize = ByteSize(1 << 20);
/// Maximum size of a captured call, in bytes.
const MAX_CALL_BYTES: u64 = 64 << 20;
/// Default number of captures.
/// Maximum number of captures, so that a folder listing stays usable.
const KEEP: Bounds = bounds(1, 10_000, 1_000, "calls");
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
        let mut good = path.distinct(list);
        for (index, text) in list.iter().enumerate() {
            if !candidates.contains(&text.as_str()) {
                good = path
                    .index(index)
                    .unknown(kind, text, candidates.iter().copied());
            }
        }
        good
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
    let one_in = path.number("one_in", raw.one_in, &ONE_IN);
    let max_bytes = path.field("max_bytes").bytes_within(
        raw.max_bytes.unwrap_or(DEFAULT_MAX_BYTES),
        1,
        MAX_CALL_BYTES,
    );
    let keep = path.number("keep", raw.keep, &KEEP);
    // At least one call must fit.
    let largest = raw.max_bytes.unwrap_or(DEFAULT_MAX_BYTES).0;
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
        path.warn(
            "there are no handlers whose calls could be kept",
            "remove it",
        );
    } else if raw.outcomes.contains(&CallOutcome::Answered)
        && raw.models.is_empty()
        && raw.clients.is_empty()
    {
        path.warn(
            "keeps what every client sends to every model with a handler",
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
