//! What becomes of a process that was started: its unexpected end, and its restart.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An event of a process.
#[derive(Debug)]
pub enum ProcessEvent {
    /// It ended, and is started again after this delay.
    Ended(ProcessEnd, Duration),
    /// It is ready again, this time after its start.
    Restarted(String, Duration),
    /// A backend runs and is not ready: its name, and why.
    NotReady(String, String),
}

/// The unexpected end of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessEnd {
    /// Name of the process.
    pub process: String,
    /// When it ended, RFC 3339.
    pub at: String,
    /// How it ended: its exit status or signal, or why it was not started.
    pub how: String,
    /// The last words of its log, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// File in the state folder that its log was moved to, while that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// When it was ready again, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<String>,
}
