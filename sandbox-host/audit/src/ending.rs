//! The end of a streamed response. Its record is written before the first chunk, and amended if it
//! ends early.

use std::sync::Arc;

use tensorgate_policy::Denial;
use tensorgate_telemetry::metrics::micros;

use crate::outcomes::Outcomes;
use crate::record::{Decision, Verdict};

/// A request with a streamed response.
#[derive(Debug)]
pub struct Ending {
    outcomes: Arc<Outcomes>,
    decision: Decision,
    started: tokio::time::Instant,
}

impl Ending {
    /// Creates it for a request that arrived at `started` and has this record.
    pub fn new(
        outcomes: &Arc<Outcomes>,
        decision: Decision,
        started: tokio::time::Instant,
    ) -> Self {
        Self {
            outcomes: Arc::clone(outcomes),
            decision,
            started,
        }
    }

    /// Amends the record: the response ended early for this reason, after this many bytes.
    pub fn broke_off(self, denial: &Denial, response_bytes: usize) {
        self.outcomes.amend_outcome(Decision {
            verdict: Verdict::Aborted,
            reason: denial.reason.name().to_owned(),
            response_bytes: u64::try_from(response_bytes).unwrap_or(u64::MAX),
            total_us: micros(self.started.elapsed()),
            ..self.decision
        });
    }
}
