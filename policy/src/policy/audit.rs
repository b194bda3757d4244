//! The validated audit section.

use alloc::string::String;

use crate::raw::AuditFailure;

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

impl Audit {
    /// The log's file.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether lines are chained and checkpoints signed.
    pub const fn chain(&self) -> bool {
        self.chain
    }

    /// File of the signing key, if the policy names one.
    pub fn key_file(&self) -> Option<&str> {
        self.key_file.as_deref()
    }

    /// Maximum size of a file, in bytes.
    pub const fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Number of closed files to keep.
    pub const fn files(&self) -> u32 {
        self.files
    }

    /// Whether another policy has the same log with the same settings.
    pub fn same_log(&self, other: &Self) -> bool {
        let on_failure = self.on_failure;
        *self
            == Self {
                on_failure,
                ..other.clone()
            }
    }

    /// What happens to a request whose line cannot be written.
    pub const fn on_failure(&self) -> AuditFailure {
        self.on_failure
    }
}
