//! Faults in a policy: every one at once, each with where and what to do.

use alloc::string::String;
use core::fmt;

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The policy can be enforced but is weaker than it looks.
    Warning,
    /// The policy cannot be enforced.
    Error,
}

/// One fault in a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// How bad.
    pub severity: Severity,
    /// Where, as a path from the document's root: `models.digits.inputs[0].shape[1]`.
    /// Keys that hold `.` or `[` are quoted: `models."a.b"`.
    pub path: String,
    /// What is wrong, lowercase, without a full stop.
    pub message: String,
    /// What to write instead, if there is one answer.
    pub fix: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)?;
        if let Some(fix) = &self.fix {
            write!(f, " ({fix})")?;
        }
        Ok(())
    }
}
