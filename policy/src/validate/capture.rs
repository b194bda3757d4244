//! Which calls of handlers are kept: of known models and clients, so many, and nowhere without a key.

use alloc::string::String;
use alloc::vec::Vec;

use super::names;
use super::report::{Path, Report, unknown};
use crate::policy::Capture;
use crate::raw::{self, ByteSize};

/// How a call ends.
const OUTCOMES: [&str; 3] = ["answered", "rejected", "fault"];
/// How a call ends that is kept, unless the policy says.
const DEFAULT_OUTCOME: &str = "fault";

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
    let outcomes = known("outcomes", "outcome", &raw.outcomes, OUTCOMES.to_vec());
    let one_in = report.within(
        &path.field("one_in"),
        raw.one_in.unwrap_or(1),
        1,
        1_000_000_000,
        "requests",
    );
    let max_bytes = report.bytes_within(
        &path.field("max_bytes"),
        raw.max_bytes.unwrap_or(ByteSize(1 << 20)),
        1,
        64 << 20,
    );
    let keep = report.within(
        &path.field("keep"),
        raw.keep.unwrap_or(1_000),
        1,
        100_000,
        "calls",
    );
    if policy.handlers.is_empty() {
        report.warn(
            path,
            "there are no handlers whose calls could be kept",
            "remove it",
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
            [DEFAULT_OUTCOME].map(String::from).to_vec()
        } else {
            raw.outcomes.clone()
        },
        one_in: one_in?,
        max_bytes: max_bytes?,
        keep: usize::try_from(keep?).ok()?,
    }))
}
