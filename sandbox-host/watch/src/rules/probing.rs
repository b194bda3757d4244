//! A source whose requests are rejected for many different reasons: a scanner, a fuzzer, or an
//! attacker who looks for a way in.

use tensorgate_policy::Reason;
use tensorgate_policy::raw::WatchRule;

use super::{Rule, SourceTable};
use crate::alert::{Evidence, Finding, Subject};
use crate::observation::Observation;
use crate::table::Slot;
use crate::time::Time;
use crate::window::{Repeats, Windows};

const WINDOW_S: u64 = 600;
/// Different reasons in one window that make an alert.
const REASONS: u32 = 6;
/// The fewest rejections of a window.
const MIN_REJECTIONS: u32 = 12;

/// The rule `probing`.
#[derive(Debug, Default)]
pub(super) struct Probing {
    sources: SourceTable<Source>,
}

#[derive(Debug, Default)]
struct Source {
    windows: Windows<Counts>,
    repeats: Repeats,
}

#[derive(Debug, Default)]
struct Counts {
    rejections: u32,
    /// A bit for each reason.
    reasons: u64,
}

impl Rule for Probing {
    fn id(&self) -> WatchRule {
        WatchRule::Probing
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        let reason = seen.reason.filter(|_| seen.is_denied())?;
        if !is_about_the_request(reason) {
            return None;
        }
        let address = seen.source_host()?;
        let Slot { state, is_shared } = self.sources.slot(&address, now);
        state.windows.advance(now, WINDOW_S);
        let counts = &mut state.windows.counts;
        counts.rejections = counts.rejections.saturating_add(1);
        counts.reasons |= 1_u64.checked_shl(reason as u32).unwrap_or_default();
        let reasons = counts.reasons.count_ones();
        let is_probing = reasons >= REASONS && counts.rejections >= MIN_REJECTIONS;
        if !is_probing || !state.repeats.permit(now) {
            return None;
        }
        Some(Finding {
            subject: Subject::source(address, is_shared),
            since: Time::of_window(now.window(WINDOW_S), WINDOW_S),
            evidence: Evidence {
                observed: f64::from(reasons),
                usual: 1.0,
                unit: "different reasons in ten minutes",
            },
            what: "has requests rejected for many different reasons".to_owned(),
            advice: "If it is not a test of yours, block the source before the gateway. If it used \
                     a valid credential, revoke it.",
        })
    }

    fn shared_uses(&self) -> u64 {
        self.sources.shared_uses()
    }
}

/// Whether the sender decides about this reason, and not the load or a server.
const fn is_about_the_request(reason: Reason) -> bool {
    let is_of_server = reason.is_chosen_by_server();
    !is_of_server
        && !matches!(
            reason,
            Reason::RateLimited
                | Reason::Concurrency
                | Reason::Overloaded
                | Reason::CostExceeded
                | Reason::HandlerFault
                | Reason::BackendUnavailable
                | Reason::BackendTimeout
                | Reason::BackendFault
        )
}
