//! Where a request spent its time, and what was brought for it.

use std::time::Duration;

use crate::sandbox::Ledger;

/// How long the parts of a request took, for its log line.
#[derive(Clone, Debug, Default)]
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
    /// What handlers had brought from elsewhere.
    pub reached: Ledger,
}
