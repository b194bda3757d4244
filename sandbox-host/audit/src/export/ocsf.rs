//! Audit records as events of OCSF, the Open Cybersecurity Schema Framework.
//!
//! A `decision` is an event of the class API Activity (6003) with the profiles `ai_operation` and
//! `security_control`. Every other record is a Base Event (0), because it is about no request of
//! its own. `docs/reference/ocsf.md` has the table of members. Members of a line without an
//! attribute in OCSF are in `unmapped`, so that nothing of a line is missing in its event.

mod integrity;
mod parts;

use std::time::UNIX_EPOCH;

use serde_json::{Map, Value as Json};
use tensorgate_base::rfc3339;
use tensorgate_policy::values::OcsfVersion;

use super::severity::Severity;
use super::spool::Record;
use crate::line::MAX_WRITTEN_BYTES;
use parts::{Line, object};

/// The longest event in bytes, without the end of its line. Container runtimes split longer lines.
const MAX_EVENT_BYTES: usize = MAX_WRITTEN_BYTES.saturating_sub(1);
/// What seals a line. An event keeps it, so that the chain has no gap.
const SEALS: [&str; 3] = ["prev", "hash", "signature"];
/// The `type` of the record of a request.
const DECISION: &str = "decision";

/// The name of a version.
const fn name(version: OcsfVersion) -> &'static str {
    match version {
        OcsfVersion::V1_8 => "1.8.0",
        OcsfVersion::V1_9 => "1.9.0",
    }
}

/// The event of a record as one line of JSON, of at most [`MAX_EVENT_BYTES`]. A longer one loses
/// what OCSF has no attribute for, except for what seals the line.
pub(super) fn text(record: &Record, log: &str, version: OcsfVersion) -> String {
    let mut event = event(record, log, version);
    let text = Json::Object(event.clone()).to_string();
    if text.len() <= MAX_EVENT_BYTES {
        return text;
    }
    if let Some(Json::Object(mut unmapped)) = event.remove("unmapped") {
        unmapped.retain(|name, _| SEALS.contains(&name.as_str()));
        if !unmapped.is_empty() {
            event.insert("unmapped".to_owned(), Json::Object(unmapped));
        }
    }
    if let Some(Json::Object(metadata)) = event.get_mut("metadata") {
        metadata.insert("is_truncated".to_owned(), true.into());
        metadata.insert("untruncated_size".to_owned(), text.len().into());
    }
    Json::Object(event).to_string()
}

/// The event of a record.
fn event(record: &Record, log: &str, version: OcsfVersion) -> Map<String, Json> {
    // The log only has objects.
    let members: Map<String, Json> = serde_json::from_str(&record.text).unwrap_or_default();
    let severity = Severity::of(record, &members);
    let line = Line::new(&members);
    let is_request = line.text("type") == Some(DECISION);
    let attestation = integrity::attestations(&line, record, log, version);
    let mut profiles = Vec::new();
    if is_request {
        profiles.extend(["ai_operation", "security_control"]);
        profiles.extend(line.text("trace_id").map(|_| "trace"));
    }
    profiles.extend(attestation.as_ref().map(|_| "record_integrity"));
    let mut event = if is_request {
        parts::request(&line)
    } else {
        parts::other(&line)
    };
    event.extend(object([
        ("severity_id", Some(severity_id(severity).0.into())),
        ("severity", Some(severity_id(severity).1.into())),
        ("time", Some(time_ms(&line).into())),
        (
            "metadata",
            Some(parts::metadata(
                &line,
                record,
                log,
                name(version),
                &profiles,
            )),
        ),
        ("attestation_list", attestation),
    ]));
    let unmapped = line.unmapped();
    if !unmapped.is_empty() {
        event.insert("unmapped".to_owned(), Json::Object(unmapped));
    }
    event
}

/// The identifier of a severity, and its caption.
const fn severity_id(severity: Severity) -> (u64, &'static str) {
    match severity {
        Severity::Info => (1, "Informational"),
        Severity::Warn => (2, "Low"),
        Severity::Error => (4, "High"),
    }
}

/// The milliseconds since 1970 of a line's time, 0 without one.
fn time_ms(line: &Line<'_>) -> u64 {
    let time = line.text("time").and_then(rfc3339::parse);
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests;
