//! The audit log's section, validated.

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

    /// The signing key's file, if the policy names one.
    pub fn key_file(&self) -> Option<&str> {
        self.key_file.as_deref()
    }

    /// Size at which a file is closed, bytes.
    pub const fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Closed files that are kept.
    pub const fn files(&self) -> u32 {
        self.files
    }

    /// Whether another policy's log is the same, kept in the same way.
    pub fn same_log(&self, other: &Self) -> bool {
        let on_failure = self.on_failure;
        *self
            == Self {
                on_failure,
                ..other.clone()
            }
    }

    /// What becomes of a request whose line cannot be written.
    pub const fn on_failure(&self) -> AuditFailure {
        self.on_failure
    }
}
