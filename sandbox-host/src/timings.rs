//! Where a request spent its time.

use std::time::Duration;

/// How long the parts of a request took, for its log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// In handlers.
    pub handler: Duration,
    /// Of that, after the backend's answer.
    pub postprocess: Duration,
    /// At the backend.
    pub dispatch: Duration,
    /// Of that, the wait for a place.
    pub queue: Duration,
    /// Fuel of all handler calls.
    pub fuel: u64,
}
