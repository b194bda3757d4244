//! Which rules of a grant are in shadow: judged, told and counted, and refusing nobody.
//!
//! | field of `mode` | reasons that it lets pass | what of them holds all the same |
//! |---|---|---|
//! | `rate` | `rate-limited`: requests a window and a day | a store of limits that fails: `overloaded` |
//! | `cost` | `cost-exceeded`: elements and bytes a window and a day | the same |
//! | `values` | `not-finite`, `out-of-range` of an input or a raw body, and of what a preprocess handler makes of it | a value that the datatype cannot hold: there is nothing to send on |
//! | `outputs` | the same of a backend's answer, and of what a postprocess handler makes of it | a value that the caller's protocol cannot say |
//!
//! Every other reason holds in any mode: who asks and what for (`unauthenticated`, `not-granted`, routes, types), how many at once (`concurrency`,
//! which keeps memory), and all that says how bytes are read or how many there are (`malformed`, `parameter`, names, `datatype`, `shape`, `size-mismatch`,
//! `item-too-long`, `body-too-large`), and where a URL leads (`url-blocked`).
//!
//! What a limit in shadow refuses is not charged, as if it had refused it; answers do not tell of it.

use super::Unit;
use alloc::vec::Vec;

use crate::denial::{Denial, Reason};

/// Notes what was let pass: the first denial of each reason, of which there are few.
pub fn note(noted: &mut Vec<Denial>, denial: Denial) {
    if noted.iter().all(|known| known.reason != denial.reason) {
        noted.push(denial);
    }
}

/// Which rules are in shadow. None, unless a grant says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shadow {
    pub(crate) rate: bool,
    pub(crate) cost: bool,
    pub(crate) values: bool,
    pub(crate) outputs: bool,
}

impl Shadow {
    /// Every reason that may be in shadow, in order of precedence.
    pub const REASONS: [Reason; 4] = [
        Reason::RateLimited,
        Reason::NotFinite,
        Reason::OutOfRange,
        Reason::CostExceeded,
    ];

    /// Whether a request passes that a rule refuses for this reason.
    pub const fn lets_pass(self, reason: Reason) -> bool {
        match reason {
            Reason::RateLimited => self.rate,
            Reason::CostExceeded => self.cost,
            Reason::NotFinite | Reason::OutOfRange => self.values,
            // Whatever comes to be a reason holds.
            _ => false,
        }
    }

    /// Whether an answer passes whose values a rule refuses for this reason.
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
