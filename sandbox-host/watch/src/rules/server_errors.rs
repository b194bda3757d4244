//! Responses of a model with a server error (5xx), or with a client error that its server chose: a
//! failing backend or handler, or overload.
//!
//! A restart makes errors, too: a short time with many, or a longer one with a part of them, while
//! one endpoint after the other restarts. So what counts is the sum of the last minutes.

use tensorgate_policy::values::WatchRule;

use super::share::Counts;
use super::{ModelTable, Rule, Thresholds};
use crate::alert::{Evidence, Finding, Subject};
use crate::baseline::Baseline;
use crate::observation::{Kind, Observation};
use crate::saved::saved;
use crate::table::Slot;
use crate::time::Time;
use crate::window::{Closed, Repeats, Windows};

const WINDOW_S: u64 = 60;
/// Windows with requests until the usual share of errors is known.
const LEARNED: u32 = 30;
/// A window with fewer errors is not abnormal.
const MIN_OF_WINDOW: u32 = 2;
/// The fewest errors of the abnormal ones among the last windows that make an alert.
const MIN_ERRORS: u32 = 15;
/// An abnormal share is so far above the usual one, from 0 to 1,
const RISE: f64 = 0.2;
/// and this many mean deviations above it.
const DEVIATIONS: f64 = 6.0;
/// The last windows whose abnormal shares are added.
const REMEMBERED: usize = 8;
/// The sum that makes an alert: three minutes with errors alone, or five with every second one. A
/// restart of one endpoint of three after the other, two minutes each, comes to two.
const ALERT_SUM: f64 = 2.2;

/// The rule `server-errors`.
#[derive(Debug, Default)]
pub(super) struct ServerErrors {
    models: ModelTable<Model>,
    thresholds: Thresholds,
}

#[derive(Debug, Default)]
struct Model {
    windows: Windows<Counts>,
    usual: Baseline,
    last: LastShares,
    repeats: Repeats,
}

saved!(Model { usual });

/// How far the shares of the last windows are above the usual one. Zero for normal windows.
#[derive(Debug, Default)]
struct LastShares {
    /// The number of the last window.
    number: u64,
    /// The last one first, each with its errors: none for normal windows.
    last: [(f64, u32); REMEMBERED],
}

impl Rule for ServerErrors {
    fn id(&self) -> WatchRule {
        WatchRule::ServerErrors
    }

    fn reads(&self, kind: &Kind) -> bool {
        matches!(kind, Kind::Request | Kind::Ending)
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        // The request of an ending was counted when it was observed.
        let requests = u32::from(seen.kind == Kind::Request);
        let errors = u32::from(seen.is_server_error());
        // Without a model the gateway itself has failed, or no model was granted.
        let Slot { state, is_shared } = self.models.slot(&seen.model, now);
        let closed = state.windows.advance(now, WINDOW_S);
        state.windows.counts.add(requests, errors);
        let least = self.thresholds.at_least.unwrap_or(MIN_ERRORS);
        let (since, evidence) = state.judge(&closed?, least, now)?;
        Some(Finding {
            subject: match &seen.model {
                Some(name) => Subject::model(name, is_shared),
                None => Subject::Gateway,
            },
            since,
            evidence,
            what: "answers many requests with a server error".to_owned(),
            advice: "`tensorgate audit query --verdict deny` lists the reasons. Check the backend's \
                     health, its load and its last change.",
        })
    }

    fn shared_uses(&self) -> u64 {
        self.models.shared_uses()
    }

    fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.models.save(out);
    }

    fn load(&mut self, input: &mut &[u8]) -> Option<()> {
        self.models = ModelTable::load(input)?;
        Some(())
    }
}

impl Model {
    /// Judges a window. An alert needs at least so many errors. Returns when they began, if one is
    /// due.
    fn judge(
        &mut self,
        closed: &Closed<Counts>,
        least: u32,
        now: Time,
    ) -> Option<(Time, Evidence)> {
        let Counts { all, bad: errors } = closed.counts;
        if all == 0 {
            // Only earlier requests have ended, which is no share of anything.
            return None;
        }
        let share = closed.counts.share();
        let usual = self.usual.mean();
        let bound = (usual + RISE).max(self.usual.above(DEVIATIONS));
        let may_judge = self.usual.has_learned(LEARNED) && errors >= MIN_OF_WINDOW;
        let is_abnormal = may_judge && share > bound;
        self.usual.add_judged(share, bound, is_abnormal);
        let (excess, errors) = if is_abnormal {
            (share - usual, errors)
        } else {
            (0.0, 0)
        };
        self.last.add(closed.number, excess, errors);
        let is_alert = is_abnormal && self.last.are_enough(least);
        if !is_alert || !self.repeats.permit(now) {
            return None;
        }
        let evidence = Evidence {
            observed: share * 100.0,
            usual: usual * 100.0,
            unit: "% of requests",
        };
        Some((self.last.since(), evidence))
    }
}

impl LastShares {
    /// Adds a window. One without requests was normal.
    fn add(&mut self, number: u64, excess: f64, errors: u32) {
        let passed = number.saturating_sub(self.number);
        self.number = number;
        let passed = usize::try_from(passed).unwrap_or(REMEMBERED);
        for _ in 0..passed.min(REMEMBERED) {
            self.last.rotate_right(1);
            self.set_last(0.0, 0);
        }
        self.set_last(excess, errors);
    }

    /// Whether the errors of the last windows make an alert, with at least so many.
    fn are_enough(&self, least: u32) -> bool {
        let errors = self.last.iter().map(|(_, errors)| *errors);
        let excess: f64 = self.last.iter().map(|(excess, _)| excess).sum();
        excess >= ALERT_SUM && errors.fold(0, u32::saturating_add) >= least
    }

    fn set_last(&mut self, excess: f64, errors: u32) {
        if let Some(last) = self.last.first_mut() {
            *last = (excess, errors);
        }
    }

    /// When the oldest abnormal window began.
    fn since(&self) -> Time {
        let oldest = self.last.iter().rposition(|(excess, _)| *excess > 0.0);
        let windows_ago = u64::try_from(oldest.unwrap_or_default()).unwrap_or_default();
        Time::of_window(self.number.saturating_sub(windows_ago), WINDOW_S)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "tests")]
    use tensorgate_audit::record::Verdict;
    use tensorgate_policy::Reason;

    use super::*;

    /// The alerts of a minute with these requests, of which some end with a server error.
    fn alerts(
        rule: &mut ServerErrors,
        minute: u64,
        requests: usize,
        errors: usize,
    ) -> Vec<Finding> {
        let now = Time::of_window(minute, WINDOW_S);
        let answered = Observation {
            model: Some("resnet".to_owned()),
            verdict: Verdict::Allow,
            status: 200,
            ..Observation::default()
        };
        let ending = Observation {
            kind: Kind::Ending,
            verdict: Verdict::Deny,
            reason: Some(Reason::BackendFault),
            ..answered.clone()
        };
        let requests = std::iter::repeat_n(&answered, requests);
        let seen = requests.chain(std::iter::repeat_n(&ending, errors));
        seen.filter_map(|seen| rule.observe(seen, now)).collect()
    }

    /// The minutes after the first one with errors, if there is an alert. The errors of each minute
    /// are those of 100 requests.
    fn delay(errors: &[usize]) -> Option<usize> {
        let mut rule = ServerErrors::default();
        assert!((0..60).all(|minute| alerts(&mut rule, minute, 10, 0).is_empty()));
        let minutes = (60..).zip(errors.iter().copied().chain([0]));
        minutes
            .map(|(minute, errors)| alerts(&mut rule, minute, 100, errors))
            .position(|found| {
                let since = found.first().map(|found| found.since);
                assert!(since.is_none_or(|since| since == Time::of_window(60, WINDOW_S)));
                since.is_some()
            })
    }

    #[test]
    fn an_outage_is_reported_and_a_restart_is_not() {
        for (errors, expected) in [
            (vec![100; 5], Some(3)),
            (vec![80; 5], Some(3)),
            (vec![50; 10], Some(5)),
            (vec![30; 10], Some(8)),
            // With pauses.
            (vec![100, 0, 0, 100, 0, 0, 100], Some(7)),
            // One endpoint after the other restarts: of two, three and ten.
            (vec![50; 4], None),
            (vec![33; 6], None),
            (vec![10; 20], None),
            // The only endpoint restarts.
            (vec![100, 100], None),
        ] {
            assert_eq!(delay(&errors), expected, "{errors:?}");
        }
    }
}
