//! How a supervisor and its workers run: their second argument.

use std::ffi::{OsStr, OsString};

use tensorgate_settings::folders::MAX_COMPONENT_BYTES;

use crate::fixed_limits::MAX_COMPILED_BYTES;

const SANDBOXED_ARG: &str = "sandboxed";
const REUSING_ARG: &str = "reusing";

/// How the supervisor and its workers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Plain,
    /// The worker's OS sandbox must be complete.
    Sandboxed,
    /// For authors: functions that were compiled before are passed to the worker, and back.
    Reusing,
}

impl Mode {
    pub(super) const fn argument(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Sandboxed => Some(SANDBOXED_ARG),
            Self::Reusing => Some(REUSING_ARG),
        }
    }

    pub(super) fn of(argument: Option<OsString>) -> Self {
        match argument.as_deref().and_then(OsStr::to_str) {
            Some(SANDBOXED_ARG) => Self::Sandboxed,
            Some(REUSING_ARG) => Self::Reusing,
            _ => Self::Plain,
        }
    }

    /// The largest request, in bytes.
    pub(super) const fn max_request_bytes(self) -> usize {
        match self {
            Self::Plain | Self::Sandboxed => MAX_COMPONENT_BYTES,
            Self::Reusing => MAX_COMPONENT_BYTES.saturating_add(MAX_COMPILED_BYTES),
        }
    }
}
