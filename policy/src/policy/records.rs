//! Validated rules of what is recorded: the audit log, and captured calls of handlers.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tensorgate_values::{AuditFailure, CallOutcome, getters};

use super::{AuditExport, Tracing};

/// Which handler calls are captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    pub folder: String,
    pub key_file: String,
    pub models: Vec<String>,
    pub clients: Vec<String>,
    pub outcomes: Vec<CallOutcome>,
    pub one_in: u64,
    pub max_bytes: usize,
    pub keep: usize,
    pub keep_bytes: u64,
}

getters! { Capture {
    /// Folder, relative to the policy.
    folder: &str,
    /// Key file, relative to the policy.
    key_file: &str,
    /// Maximum size of a call, in bytes.
    max_bytes: usize,
    /// Maximum number of captured calls.
    keep: usize,
    /// Maximum disk space, in bytes.
    keep_bytes: u64,
} }

impl Capture {
    /// Whether calls for a model and a client are captured.
    pub fn wants(&self, model: &str, client: &str) -> bool {
        let listed =
            |list: &[String], name: &str| list.is_empty() || list.iter().any(|it| it == name);
        listed(&self.models, model) && listed(&self.clients, client)
    }

    /// Whether calls with this outcome are captured.
    pub fn wants_outcome(&self, outcome: CallOutcome) -> bool {
        self.outcomes.contains(&outcome)
    }

    /// Whether the request with this number is sampled.
    pub const fn samples(&self, number: u64) -> bool {
        number.is_multiple_of(self.one_in)
    }
}

/// The audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    pub path: String,
    pub chain: bool,
    pub key_file: Option<String>,
    pub file_bytes: u64,
    pub files: u32,
    pub on_failure: AuditFailure,
    pub export: AuditExport,
    pub tracing: Option<Tracing>,
}

getters! { Audit {
    /// The log's file.
    path: &str,
    /// Whether lines are chained and checkpoints signed.
    chain: bool,
    /// File of the signing key, if the policy names one.
    key_file: Option<&str>,
    /// Maximum size of a file, in bytes.
    file_bytes: u64,
    /// Number of closed files to keep.
    files: u32,
    /// What happens to a request whose line cannot be written.
    on_failure: AuditFailure,
    /// Where lines are also sent.
    export: &AuditExport,
    /// Where traces of requests are sent, if they are.
    tracing: Option<&Tracing>,
} }

impl Audit {
    /// Whether another policy has the same log with the same settings.
    pub fn same_log(&self, other: &Self) -> bool {
        let on_failure = self.on_failure;
        *self
            == Self {
                on_failure,
                ..other.clone()
            }
    }
}
