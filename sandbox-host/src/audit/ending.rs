//! An answer that goes out in pieces: its line is written before the first of them, and amended if it breaks off.

use std::sync::Arc;

use tensorgate_policy::Denial;
use tokio::time::Instant;

use super::Outcomes;
use super::record::{Decision, Verdict};
use crate::metrics::micros;

/// A request whose answer is on its way, piece by piece.
#[derive(Debug)]
pub struct Ending {
    outcomes: Arc<Outcomes>,
    decision: Decision,
    started: Instant,
}

impl Ending {
    /// Of a request that came when it `started` and whose line says this `decision`.
    pub fn new(outcomes: &Arc<Outcomes>, decision: Decision, started: Instant) -> Self {
        Self {
            outcomes: Arc::clone(outcomes),
            decision,
            started,
        }
    }

    /// It broke off for this, when its caller had so many bytes of it: its line says something else, and another one amends that.
    pub fn broke_off(self, denial: &Denial, response_bytes: usize) {
        self.outcomes.ends_otherwise(Decision {
            verdict: Verdict::Aborted,
            reason: denial.reason.name().to_owned(),
            response_bytes: u64::try_from(response_bytes).unwrap_or(u64::MAX),
            total_us: micros(self.started.elapsed()),
            ..self.decision
        });
    }
}
