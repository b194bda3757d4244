//! The latency of a model's answered inferences against its usual latency.

use tensorgate_audit::record::Verdict;
use tensorgate_policy::raw::WatchRule;

use super::{ModelTable, Rule};
use crate::alert::{Evidence, Finding, Subject};
use crate::baseline::Baseline;
use crate::observation::Observation;
use crate::table::Slot;
use crate::time::Time;
use crate::window::{AbnormalWindows, Closed, Needed, Windows};

const WINDOW_S: u64 = 60;
/// Abnormal windows that make an alert.
const NEEDED: Needed = Needed {
    abnormal: 5,
    of_last: 7,
};
/// Windows with enough requests until the usual latency is known.
const LEARNED: u32 = 30;
/// A window with fewer inferences is not judged.
const MIN_INFERENCES: u32 = 5;
/// An abnormal mean is this many times the usual one,
const TIMES_MEAN: f64 = 2.0;
/// and this many mean deviations above it.
const DEVIATIONS: f64 = 6.0;

/// The rule `latency`.
#[derive(Debug, Default)]
pub(super) struct Latency {
    models: ModelTable<Model>,
}

/// Latencies are compared as logarithms, so that a few slow requests do not decide.
#[derive(Debug, Default)]
struct Model {
    windows: Windows<Counts>,
    usual_log: Baseline,
    abnormal: AbnormalWindows,
}

#[derive(Debug, Default)]
struct Counts {
    inferences: u32,
    sum_log: f64,
}

impl Rule for Latency {
    fn id(&self) -> WatchRule {
        WatchRule::Latency
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        let name = seen.model.as_ref().filter(|_| seen.is_inference)?;
        // The client has ended the others, at a time of its choice.
        if seen.verdict != Verdict::Allow {
            return None;
        }
        let Slot { state, is_shared } = self.models.slot(name, now);
        let closed = state.windows.advance(now, WINDOW_S);
        let counts = &mut state.windows.counts;
        counts.inferences = counts.inferences.saturating_add(1);
        counts.sum_log += (seen.total_us.max(1) as f64).ln();
        let (since, evidence) = state.judge(&closed?, now)?;
        Some(Finding {
            subject: Subject::model(name, is_shared),
            since,
            evidence,
            what: "answers far more slowly than usual".to_owned(),
            advice: "Compare `dispatch_us`, `queue_us` and `handler_us` in the audit log: they say \
                     whether the backend, its queue or a handler is slow.",
        })
    }

    fn shared_uses(&self) -> u64 {
        self.models.shared_uses()
    }
}

impl Model {
    /// Judges a window. Returns when high latency began, if an alert is due.
    fn judge(&mut self, closed: &Closed<Counts>, now: Time) -> Option<(Time, Evidence)> {
        let Counts {
            inferences,
            sum_log,
        } = closed.counts;
        if inferences < MIN_INFERENCES {
            return None;
        }
        let mean_log = sum_log / f64::from(inferences);
        let usual_log = self.usual_log.mean();
        let bound = (usual_log + TIMES_MEAN.ln()).max(self.usual_log.above(DEVIATIONS));
        let is_abnormal = self.usual_log.has_learned(LEARNED) && mean_log > bound;
        self.usual_log.add_judged(mean_log, bound, is_abnormal);
        let first = self.abnormal.add(closed.number, is_abnormal, NEEDED, now)?;
        let evidence = Evidence {
            observed: mean_log.exp() / 1_000.0,
            usual: usual_log.exp() / 1_000.0,
            unit: "ms",
        };
        Some((Time::of_window(first, WINDOW_S), evidence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The alerts of an hour in which inferences take longer and end this way, after a usual hour.
    fn alerts(verdict: Verdict) -> usize {
        let mut rule = Latency::default();
        let mut show = |minute, total_us, verdict| {
            let seen = Observation {
                model: Some("resnet".to_owned()),
                is_inference: true,
                verdict,
                total_us,
                ..Observation::default()
            };
            let now = Time::of_window(minute, WINDOW_S);
            (0..10).filter_map(|_| rule.observe(&seen, now)).count()
        };
        let usual: usize = (0..60)
            .map(|minute| show(minute, 20_000, Verdict::Allow))
            .sum();
        assert_eq!(usual, 0);
        (60..120).map(|minute| show(minute, 200_000, verdict)).sum()
    }

    #[test]
    fn only_answered_inferences_count() {
        assert_eq!(alerts(Verdict::Allow), 1);
        assert_eq!(alerts(Verdict::Aborted), 0);
    }
}
