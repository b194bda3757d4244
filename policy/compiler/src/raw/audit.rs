//! The audit section.

use serde::{Deserialize, Serialize};
use tensorgate_policy::values::AuditFailure;

use super::number::{Bytes, Files, Number};
use super::{AuditExport, Tracing};

/// Minimum size of a file: an opening line, a checkpoint and some records.
const MIN_FILE_BYTES: u64 = 64 << 10;
/// Maximum size of a file that tools still open.
const MAX_FILE_BYTES: u64 = 16 << 30;
/// Maximum number of files, so that a folder listing stays usable.
const MAX_FILES: u64 = 10_000;

/// The audit log: one JSON line for every request with any outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Audit {
    /// The log's file; a relative path is below the gate's state folder.
    pub path: String,
    /// Format of a line: `json`.
    pub format: String,
    /// Every line carries the hash of the previous one, with signed checkpoints in between.
    pub chain: bool,
    /// File of the key that signs checkpoints, 64 hex digits; created beside the log by default.
    /// Relative like `path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
    /// Size at which a file is closed and the next one begun.
    pub file_bytes: Number<MIN_FILE_BYTES, MAX_FILE_BYTES, { 64 << 20 }, Bytes>,
    /// Closed files to keep; the oldest are deleted.
    pub files: Number<1, MAX_FILES, 16, Files>,
    /// What happens to a request whose line cannot be written: `refuse` rejects it with
    /// `overloaded`, `allow` answers it and counts the line as dropped.
    pub on_failure: AuditFailure,
    /// Where lines are also sent. No request waits for it. If absent, the hosts of a cluster that
    /// `tensorgate render` writes print them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<AuditExport>,
    /// Traces of requests; none if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            path: "audit/decisions.jsonl".into(),
            format: "json".into(),
            chain: true,
            key_file: None,
            file_bytes: Number::default(),
            files: Number::default(),
            on_failure: AuditFailure::Refuse,
            export: None,
            tracing: None,
        }
    }
}
