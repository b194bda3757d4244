//! The durations of a request's parts, for its log line and for the statistics of its model. Also
//! what else is noted of a request while it is processed.

use std::time::Duration;

use tensorgate_base::egress_log::EgressLog;
use tensorgate_policy::contract::NearBounds;
use tensorgate_policy::release::TopClass;

use crate::spans::RequestTrace;

/// The tokens of a language model, as its server counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenCounts {
    /// The tokens of the request that it has read.
    pub prompt: u64,
    /// The tokens that it has generated. `None` for embeddings.
    pub completion: Option<u64>,
}

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
    /// The most likely class of its response, if a rule on the audit stream reads it.
    pub top_class: Option<TopClass>,
    /// How many inputs have values near the bounds of their ranges, for the same rules.
    pub near_bounds: Option<NearBounds>,
    /// The tokens of a complete response.
    pub tokens: Option<TokenCounts>,
    /// The trace of the request.
    pub trace: RequestTrace,
}
