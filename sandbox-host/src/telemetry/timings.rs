//! The durations of a request's parts, for its log line and for the statistics of its model.

use std::time::Duration;

use crate::sandbox::EgressLog;

/// The durations of a request's parts, for its log line.
#[derive(Clone, Debug, Default)]
pub struct Timings {
    /// The time in handlers.
    pub handler: Duration,
    /// The part of it after the backend's response.
    pub postprocess: Duration,
    /// The time at the backend.
    pub dispatch: Duration,
    /// The part of it spent waiting for a permit.
    pub queue: Duration,
    /// The fuel of all handler calls.
    pub fuel: u64,
    /// The egress records of its handlers.
    pub reached: EgressLog,
}
