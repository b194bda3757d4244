//! Which calls of handlers are kept: of known models and clients, so many and so much, and nowhere without a key.

use alloc::string::String;
use alloc::vec::Vec;

use super::names;
use super::report::{Path, Report, unknown};
use crate::policy::Capture;
use crate::raw::{self, ByteSize, CallOutcome};

/// Requests of which one is kept.
const MAX_ONE_IN: u64 = 1_000_000_000;
/// The largest call, unless the policy says, bytes: an image and what was made of it.
const DEFAULT_MAX_BYTES: ByteSize = ByteSize(1 << 20);
/// The largest call that a policy may keep, bytes.
const MAX_CALL_BYTES: u64 = 64 << 20;
/// Calls that are kept, unless the policy says.
const DEFAULT_KEEP: u64 = 1_000;
/// Calls that may be kept: what a folder listing still shows at once.
const MAX_KEEP: u64 = 10_000;
/// Bytes on disk, unless the policy says.
const DEFAULT_KEEP_BYTES: ByteSize = ByteSize(256 << 20);
/// Bytes on disk that a policy may ask for.
const MAX_KEEP_BYTES: u64 = 1 << 40;
/// What a call's bytes take on disk, at most, of themselves: they are base64.
const ON_DISK: u64 = 2;
/// What stands beside them, a handler's configuration for one, bytes; a file that is still larger than all may be is not kept.
const FACTS_BYTES: u64 = 1 << 20;

#[expect(
    clippy::option_option,
    reason = "the outer one is validity, as everywhere in these modules"
)]
pub(super) fn capture(
    report: &mut Report,
    path: &Path,
    policy: &raw::Policy,
) -> Option<Option<Capture>> {
    let Some(raw) = &policy.capture else {
        return Some(None);
    };
    let mut file = |name: &str, text: Option<&String>, fix: &str| {
        let path = path.field(name);
        let text = report.required(&path, text, fix)?;
        names::file(report, &path, text).map(|()| text.clone())
    };
    let folder = file("folder", raw.folder.as_ref(), "captures");
    let key_file = file("key_file", raw.key_file.as_ref(), "a file of 64 hex digits");
    let mut known = |name: &str, kind: &str, list: &[String], candidates: Vec<&str>| {
        let path = path.field(name);
        let mut good = report.distinct(&path, list);
        for (index, text) in list.iter().enumerate() {
            if !candidates.contains(&text.as_str()) {
                unknown(
                    report,
                    &path.index(index),
                    kind,
                    text,
                    candidates.iter().copied(),
                );
                good = None;
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
    let outcomes = report.distinct(&path.field("outcomes"), &raw.outcomes);
    let one_in = report.within(
        &path.field("one_in"),
        raw.one_in.unwrap_or(1),
        1,
        MAX_ONE_IN,
        "requests",
    );
    let max_bytes = report.bytes_within(
        &path.field("max_bytes"),
        raw.max_bytes.unwrap_or(DEFAULT_MAX_BYTES),
        1,
        MAX_CALL_BYTES,
    );
    let keep = report.within(
        &path.field("keep"),
        raw.keep.unwrap_or(DEFAULT_KEEP),
        1,
        MAX_KEEP,
        "calls",
    );
    // One call at least has to fit.
    let largest = raw.max_bytes.unwrap_or(DEFAULT_MAX_BYTES).0;
    let keep_bytes = report.within(
        &path.field("keep_bytes"),
        raw.keep_bytes.unwrap_or(DEFAULT_KEEP_BYTES).0,
        largest
            .min(MAX_CALL_BYTES)
            .saturating_mul(ON_DISK)
            .saturating_add(FACTS_BYTES),
        MAX_KEEP_BYTES,
        "bytes",
    );
    if policy.handlers.is_empty() {
        report.warn(
            path,
            "there are no handlers whose calls could be kept",
            "remove it",
        );
    } else if raw.outcomes.contains(&CallOutcome::Answered)
        && raw.models.is_empty()
        && raw.clients.is_empty()
    {
        report.warn(
            path,
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
        keep: usize::try_from(keep?).ok()?,
        keep_bytes: keep_bytes?,
    }))
}
