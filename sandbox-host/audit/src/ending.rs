//! The end of a streamed response. Its record is written before the first chunk, and amended if it
//! is denied later, or once its tokens are known.

use std::sync::Arc;

use tensorgate_policy::Denial;
use tensorgate_policy::values::safe_text::printable_prefix;
use tensorgate_telemetry::metrics::micros;
use tensorgate_telemetry::timings::TokenCounts;

use crate::outcomes::Outcomes;
use crate::record::{Decision, MAX_DETAIL_BYTES, Verdict};

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

    /// Amends the record: the rest of the response was denied, after this many bytes.
    pub fn denied(self, denial: &Denial, response_bytes: usize, token_counts: Option<TokenCounts>) {
        let outcomes = Arc::clone(&self.outcomes);
        outcomes.amend_outcome(Decision {
            verdict: Verdict::Deny,
            reason: denial.reason.name().to_owned(),
            detail: Some(printable_prefix(&denial.cause, MAX_DETAIL_BYTES)),
            ..self.at_end(response_bytes, token_counts)
        });
    }

    /// Amends the record of a complete response with the tokens that it used.
    pub fn complete(self, response_bytes: usize, token_counts: TokenCounts) {
        let outcomes = Arc::clone(&self.outcomes);
        outcomes.amend_outcome(self.at_end(response_bytes, Some(token_counts)));
    }

    fn at_end(self, response_bytes: usize, token_counts: Option<TokenCounts>) -> Decision {
        Decision {
            response_bytes: u64::try_from(response_bytes).unwrap_or(u64::MAX),
            prompt_tokens: token_counts.map(|counts| counts.prompt),
            completion_tokens: token_counts.and_then(|counts| counts.completion),
            total_us: micros(self.started.elapsed()),
            ..self.decision
        }
    }
}
