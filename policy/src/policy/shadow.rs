//! Shadow mode of a grant: rules that are evaluated, logged and counted, but do not reject.
//!
//! | field of `mode` | reasons that may pass | what is still enforced |
//! |---|---|---|
//! | `rate` | `rate-limited` | a failing store of limits: `overloaded` |
//! | `cost` | `cost-exceeded` | the same |
//! | `values` | `not-finite`, `out-of-range` of inputs | values outside the datatype |
//! | `outputs` | the same of outputs | values that the caller's protocol cannot represent |
//!
//! `values` covers inputs, raw bodies and the outputs of preprocess handlers. `outputs` covers
//! backend responses and the outputs of postprocess handlers.
//!
//! All other reasons are always enforced: authentication and authorization (`unauthenticated`,
//! `not-granted`, routes, types), `concurrency`, which protects memory, structure and size
//! (`malformed`, `parameter`, names, `datatype`, `shape`, `size-mismatch`, `item-too-long`,
//! `body-too-large`), and URLs (`url-blocked`).
//!
//! A limit in shadow that is exceeded is not charged, as if it had rejected. Responses do not
//! mention it.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use super::Unit;

use crate::denial::{Denial, Reason};

/// Records a denial that was allowed to pass: the first one of each reason.
pub fn note(noted: &mut Vec<Denial>, denial: Denial) {
    if noted.iter().all(|known| known.reason != denial.reason) {
        noted.push(denial);
    }
}

/// Rules in shadow; none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    pub rate: bool,
    pub cost: bool,
    pub values: bool,
    pub outputs: bool,
}

impl Shadow {
    /// All reasons that may be in shadow, in order of precedence.
    pub const REASONS: [Reason; 4] = [
        Reason::RateLimited,
        Reason::NotFinite,
        Reason::OutOfRange,
        Reason::CostExceeded,
    ];

    /// Whether a request with this denial may pass.
    pub const fn lets_pass(self, reason: Reason) -> bool {
        // New reasons are enforced.
        self.rate && matches!(reason, Reason::RateLimited)
            || self.cost && matches!(reason, Reason::CostExceeded)
            || self.values && matches!(reason, Reason::NotFinite | Reason::OutOfRange)
    }

    /// Whether a response with this denial may pass.
    pub const fn lets_answer_pass(self, reason: Reason) -> bool {
        self.outputs && matches!(reason, Reason::NotFinite | Reason::OutOfRange)
    }

    /// Whether a limit on this unit is in shadow.
    pub const fn limits(self, unit: Unit) -> bool {
        match unit {
            Unit::Requests => self.rate,
            Unit::Elements | Unit::Bytes | Unit::Tokens => self.cost,
        }
    }

    /// Fields in shadow, as a policy names them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let Self {
            rate,
            cost,
            values,
            outputs,
        } = self;
        [
            ("rate", rate),
            ("cost", cost),
            ("values", values),
            ("outputs", outputs),
        ]
        .into_iter()
        .filter_map(|(name, shadowed)| shadowed.then_some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_rate_cost_and_values_ever_passes() {
        let all = Shadow {
            rate: true,
            cost: true,
            values: true,
            outputs: true,
        };
        let passing: Vec<Reason> = Reason::ALL
            .into_iter()
            .filter(|reason| all.lets_pass(*reason))
            .collect();
        assert_eq!(passing, Shadow::REASONS);
        for reason in Reason::ALL {
            assert!(!Shadow::default().lets_pass(reason), "{reason}");
            assert!(!Shadow::default().lets_answer_pass(reason), "{reason}");
        }
    }
}
