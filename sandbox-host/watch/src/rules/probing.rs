//! A source whose requests are rejected for many different reasons: a scanner, a fuzzer, or an
//! attacker who looks for a way in.
//!
//! A job with invalid rows has some reasons, too, all of them about the content of a request. So
//! those count only up to a number, unless there are far more of them.

use tensorgate_policy::Reason;
use tensorgate_policy::values::WatchRule;

use super::{Rule, SourceTable, Thresholds};
use crate::alert::{Evidence, Finding, Subject};
use crate::observation::Observation;
use crate::table::Slot;
use crate::time::Time;
use crate::window::{Repeats, Windows};

const WINDOW_S: u64 = 600;
/// Different reasons in one window that make an alert.
const REASONS: u32 = 6;
/// The most reasons about the content of a request among them.
const MAX_OF_CONTENT: u32 = 4;
/// Different reasons about the content in one window that make an alert by themselves.
const CONTENT_REASONS: u32 = 9;
/// The fewest rejections of a window.
const MIN_REJECTIONS: u32 = 12;

/// The rule `probing`.
#[derive(Debug, Default)]
pub(super) struct Probing {
    sources: SourceTable<Source>,
    thresholds: Thresholds,
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
    /// A bit for each reason about the content of a request.
    of_content: u64,
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
        let bit = 1_u64.checked_shl(reason as u32).unwrap_or_default();
        counts.reasons |= bit;
        if is_about_content(reason) {
            counts.of_content |= bit;
        }
        let (reasons, of_content) = (counts.reasons.count_ones(), counts.of_content.count_ones());
        let counted = reasons
            .saturating_sub(of_content)
            .saturating_add(of_content.min(MAX_OF_CONTENT));
        let has_reasons = counted >= REASONS || of_content >= CONTENT_REASONS;
        let least = self.thresholds.at_least.unwrap_or(MIN_REJECTIONS);
        let is_probing = has_reasons && counts.rejections >= least;
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

    fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
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

/// Whether this reason is about the content of a request to a model that its client may use.
const fn is_about_content(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Malformed
            | Reason::DuplicateKey
            | Reason::TooDeep
            | Reason::Parameter
            | Reason::OutputNotAllowed
            | Reason::UnknownInput
            | Reason::DuplicateInput
            | Reason::MissingInput
            | Reason::Datatype
            | Reason::Shape
            | Reason::SizeMismatch
            | Reason::ItemTooLong
            | Reason::NotFinite
            | Reason::OutOfRange
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]
    use std::net::Ipv4Addr;

    use tensorgate_audit::record::Verdict;

    use super::*;

    /// The alerts after 30 rejections for these reasons in turn.
    fn alerts(reasons: &[Reason]) -> usize {
        let mut rule = Probing::default();
        let rejected = reasons.iter().cycle().take(30);
        let alerts = rejected.filter_map(|reason| {
            let seen = Observation {
                source: Some(Ipv4Addr::LOCALHOST.into()),
                verdict: Verdict::Deny,
                reason: Some(*reason),
                ..Observation::default()
            };
            rule.observe(&seen, Time::from_s(1))
        });
        alerts.count()
    }

    #[test]
    fn a_job_with_invalid_rows_does_not_probe_and_a_fuzzer_does() {
        let of_rows = [
            Reason::Malformed,
            Reason::MissingInput,
            Reason::UnknownInput,
            Reason::Datatype,
            Reason::Shape,
            Reason::NotFinite,
            Reason::OutOfRange,
        ];
        assert_eq!(alerts(&of_rows), 0);
        let fuzzer = [&of_rows[..], &[Reason::TooDeep, Reason::DuplicateKey]].concat();
        assert_eq!(alerts(&fuzzer), 1);
        let scanner = [
            &of_rows[..],
            &[Reason::NotGranted, Reason::NotAnInferenceRoute],
        ]
        .concat();
        assert_eq!(alerts(&scanner), 1);
    }
}
