//! Faults of a policy: all at once, each with location and fix.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Severity of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// The policy can be enforced but is weaker than it looks.
    Warning,
    /// The policy cannot be enforced.
    Error,
}

/// One fault in a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Severity.
    pub severity: Severity,
    /// Location, as a path from the document's root: `models.digits.inputs[0].shape[1]`. Keys with
    /// `.` or `[` are quoted: `models."a.b"`.
    pub path: String,
    /// Description, lowercase, without a full stop.
    pub message: String,
    /// Suggested replacement, if there is exactly one.
    pub fix: Option<String>,
}

impl Fault {
    /// An error without a suggestion.
    pub fn error(path: &str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            path: path.into(),
            message: message.into(),
            fix: None,
        }
    }
}

/// Faults in one line.
pub fn in_one_line(faults: &[Fault]) -> String {
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    faults.join("; ")
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
