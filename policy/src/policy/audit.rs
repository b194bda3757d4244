//! The validated audit section.

use alloc::string::String;

use crate::raw::AuditFailure;
use crate::values::getters;

/// The audit log; see [`crate::raw::Audit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    pub(crate) path: String,
    pub(crate) chain: bool,
    pub(crate) key_file: Option<String>,
    pub(crate) file_bytes: u64,
    pub(crate) files: u32,
    pub(crate) on_failure: AuditFailure,
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
