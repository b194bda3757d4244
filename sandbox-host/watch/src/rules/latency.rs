//! The latency of a model's answered inferences: how long they take altogether, and how many of
//! them are slow.
//!
//! An inference is compared with what its client usually waits for this model. So a batch of large
//! requests is not a slow model. A nightly one that slows the model is learned after three nights.

use tensorgate_audit::record::Verdict;
use tensorgate_policy::values::WatchRule;

use super::clients_of_model::ClientsOfModel;
use super::hours::Hours;
use super::{ModelTable, Rule, Thresholds};
use crate::alert::{Evidence, Finding, Subject};
use crate::baseline::Baseline;
use crate::observation::Observation;
use crate::saved::saved;
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
/// Windows until the usual latency of a client is known. Its inferences do not count before.
const CLIENT_LEARNED: u32 = 3;
/// The windows that the usual latency of a client remembers.
const CLIENT_MEMORY: f64 = 120.0;
/// A window with fewer inferences is not judged.
const MIN_INFERENCES: u32 = 5;
/// An abnormal mean is this many times the usual one,
const TIMES_MEAN: f64 = 2.0;
/// and this many mean deviations above it.
const DEVIATIONS: f64 = 6.0;
/// A slow inference takes this many times as long as is usual for its client,
const TIMES_SLOW: f64 = 3.0;
/// and this many mean deviations longer.
const SLOW_DEVIATIONS: f64 = 4.0;
/// An abnormal share of slow inferences is so far above the usual one.
const RISE: f64 = 0.15;
/// A window with fewer slow inferences is not abnormal because of their share.
const MIN_SLOW: u32 = 3;
/// A client with more of the slow inferences is named.
const NAMED_SHARE: f64 = 0.5;

/// The rule `latency`.
#[derive(Debug, Default)]
pub(super) struct Latency {
    models: ModelTable<Model>,
    thresholds: Thresholds,
}

/// Latencies are compared as logarithms, so that a few slow requests do not decide.
#[derive(Debug, Default)]
struct Model {
    windows: Windows<Counts>,
    clients: ClientsOfModel<Client>,
    /// The usual logarithm of how many times longer than usual inferences take.
    usual_excess: Baseline,
    usual_slow: Baseline,
    /// Of how much the logarithm is above the usual one, by hour of the day,
    excess_by_hour: Hours,
    /// and of the share of slow inferences.
    slow_by_hour: Hours,
    abnormal: AbnormalWindows,
}

saved!(Model {
    excess_by_hour,
    slow_by_hour
});

#[derive(Debug, Default)]
struct Counts {
    inferences: u32,
    slow: u32,
    sum_log: f64,
    /// How much the logarithms are above what is usual for the client.
    sum_excess: f64,
}

/// What is usual for a client, and its current window.
#[derive(Debug, Default)]
struct Client {
    windows: Windows<ClientCounts>,
    /// The windows that were learned.
    learned: u32,
    mean_log: f64,
    deviation: f64,
}

#[derive(Debug, Default)]
struct ClientCounts {
    inferences: u32,
    slow: u32,
    sum_log: f64,
    sum_distance: f64,
}

/// An abnormal window.
struct Slow {
    evidence: Evidence,
    what: String,
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
        let judged = closed.and_then(|closed| state.judge(&closed, self.thresholds, now));
        state.count(seen, now);
        let (since, Slow { evidence, what }) = judged?;
        Some(Finding {
            subject: Subject::model(name, is_shared),
            since,
            evidence,
            what,
            advice: "Compare `dispatch_us`, `queue_us` and `handler_us` in the audit log: they say \
                     whether the backend, its queue or a handler is slow.",
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
    /// Counts an inference.
    fn count(&mut self, seen: &Observation, now: Time) {
        let log = (seen.total_us.max(1) as f64).ln();
        let client = self.clients.slot(seen.client.as_deref(), now).state;
        let Some((excess, is_slow)) = client.count(log, now) else {
            return;
        };
        let counts = &mut self.windows.counts;
        counts.inferences = counts.inferences.saturating_add(1);
        counts.slow = counts.slow.saturating_add(u32::from(is_slow));
        counts.sum_log += log;
        counts.sum_excess += excess;
    }

    /// Judges a window. Returns when high latency began, if an alert is due.
    fn judge(
        &mut self,
        closed: &Closed<Counts>,
        thresholds: Thresholds,
        now: Time,
    ) -> Option<(Time, Slow)> {
        let Counts {
            inferences,
            slow,
            sum_log,
            sum_excess,
        } = closed.counts;
        if inferences < thresholds.at_least.unwrap_or(MIN_INFERENCES) {
            return None;
        }
        let at = Time::of_window(closed.number, WINDOW_S);
        let has_learned = self.usual_excess.has_learned(LEARNED);
        let excess = sum_excess / f64::from(inferences);
        let usual_excess = self.usual_excess.mean();
        let times = thresholds.times.unwrap_or(TIMES_MEAN);
        let fixed_bound = usual_excess + times.ln();
        let bound = fixed_bound.max(self.usual_excess.above(DEVIATIONS));
        let is_slow = has_learned && excess > bound;
        self.usual_excess.add_judged(excess, bound, is_slow);
        let is_usual_now = excess <= self.excess_by_hour.usual(at);
        self.excess_by_hour
            .add(at, excess, has_learned && excess > fixed_bound);

        let share = f64::from(slow) / f64::from(inferences);
        let usual_share = self.usual_slow.mean();
        let share_bound = (usual_share + RISE).max(self.usual_slow.above(DEVIATIONS));
        let may_have_slow = has_learned && slow >= MIN_SLOW;
        let has_slow = may_have_slow && share > share_bound;
        self.usual_slow.add_judged(share, share_bound, has_slow);
        let is_share_usual_now = share <= self.slow_by_hour.usual(at);
        self.slow_by_hour
            .add(at, share, may_have_slow && share > usual_share + RISE);

        let is_mean_abnormal = is_slow && !is_usual_now;
        let is_abnormal = is_mean_abnormal || (has_slow && !is_share_usual_now);
        let first = self.abnormal.add(closed.number, is_abnormal, NEEDED, now)?;
        let mean_log = sum_log / f64::from(inferences);
        let evidence = if is_mean_abnormal {
            Evidence {
                observed: mean_log.exp() / 1_000.0,
                usual: (mean_log - excess + usual_excess).exp() / 1_000.0,
                unit: "ms",
            }
        } else {
            Evidence {
                observed: share * 100.0,
                usual: usual_share * 100.0,
                unit: "% of inferences slow",
            }
        };
        let what = self.describe(closed.number, slow);
        Some((Time::of_window(first, WINDOW_S), Slow { evidence, what }))
    }

    /// What happened in a window. It names the client with most of the slow inferences.
    fn describe(&self, number: u64, slow: u32) -> String {
        let clients = self.clients.named().filter_map(|(name, client)| {
            let counts = client.windows.of_window(number)?;
            Some((counts.slow, name))
        });
        match clients.max() {
            Some((most, name)) if f64::from(most) > NAMED_SHARE * f64::from(slow) => {
                format!("answers far more slowly than usual, most of all client {name}")
            }
            _ => "answers far more slowly than usual".to_owned(),
        }
    }
}

impl Client {
    /// Counts an inference by the logarithm of its latency. Returns how far it is above the usual
    /// one and whether it is slow, once the client is known.
    fn count(&mut self, log: f64, now: Time) -> Option<(f64, bool)> {
        if let Some(closed) = self.windows.advance(now, WINDOW_S) {
            self.learn(&closed.counts);
        }
        let excess = log - self.mean_log;
        let is_known = self.learned >= CLIENT_LEARNED;
        let is_slow = is_known && excess > self.slow_bound();
        let counts = &mut self.windows.counts;
        counts.inferences = counts.inferences.saturating_add(1);
        counts.slow = counts.slow.saturating_add(u32::from(is_slow));
        counts.sum_log += log;
        counts.sum_distance += excess.abs();
        is_known.then_some((excess, is_slow))
    }

    fn slow_bound(&self) -> f64 {
        TIMES_SLOW.ln().max(SLOW_DEVIATIONS * self.deviation)
    }

    /// Learns a window. A slow one counts as one at the bound, so that it does not become usual at
    /// once.
    fn learn(&mut self, counts: &ClientCounts) {
        if counts.inferences == 0 {
            return;
        }
        let inferences = f64::from(counts.inferences);
        let mean_log = counts.sum_log / inferences;
        let distance = counts.sum_distance / inferences;
        self.learned = self.learned.saturating_add(1);
        if self.learned == 1 {
            self.mean_log = mean_log;
            return;
        }
        let weight = f64::from(self.learned).min(CLIENT_MEMORY).recip();
        let is_known = self.learned > CLIENT_LEARNED;
        let most = if is_known { TIMES_MEAN.ln() } else { f64::MAX };
        self.mean_log += weight * (mean_log - self.mean_log).min(most);
        self.deviation += weight * (distance.min(most) - self.deviation);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;

    /// An inference of a client.
    fn inference(client: &str, total_us: u64, verdict: Verdict) -> Observation {
        Observation {
            client: Some(client.to_owned()),
            model: Some("resnet".to_owned()),
            is_inference: true,
            verdict,
            total_us,
            ..Observation::default()
        }
    }

    /// The alerts of minutes in which client `web` has ten inferences. The latency depends on the
    /// number of the inference in its minute.
    fn show(
        rule: &mut Latency,
        minutes: std::ops::Range<u64>,
        verdict: Verdict,
        total_us: impl Fn(u64) -> u64,
    ) -> Vec<Finding> {
        let mut alerts = Vec::new();
        for minute in minutes {
            let now = Time::of_window(minute, WINDOW_S);
            for number in 0..10 {
                let seen = inference("web", total_us(number), verdict);
                alerts.extend(rule.observe(&seen, now));
            }
        }
        alerts
    }

    /// A rule after a usual hour.
    fn learned() -> Latency {
        let mut rule = Latency::default();
        assert!(show(&mut rule, 0..60, Verdict::Allow, |_| 20_000).is_empty());
        rule
    }

    #[test]
    fn only_answered_inferences_count() {
        let slow = |_| 200_000;
        assert_eq!(show(&mut learned(), 60..120, Verdict::Allow, slow).len(), 1);
        assert!(show(&mut learned(), 60..120, Verdict::Aborted, slow).is_empty());
    }

    #[test]
    fn three_of_ten_inferences_that_take_ten_times_as_long_are_reported_with_their_client() {
        let part = |number| if number < 3 { 200_000 } else { 20_000 };
        let found = show(&mut learned(), 60..70, Verdict::Allow, part);
        let [Finding { what, evidence, .. }] = found.as_slice() else {
            unreachable!("one alert: {found:?}")
        };
        assert_eq!(
            what,
            "answers far more slowly than usual, most of all client web"
        );
        assert!((29.0..31.0).contains(&evidence.observed), "{evidence:?}");
        let one = |number| if number < 1 { 200_000 } else { 20_000 };
        assert!(show(&mut learned(), 60..120, Verdict::Allow, one).is_empty());
    }

    #[test]
    fn a_batch_of_large_requests_is_not_a_slow_model() {
        let mut rule = learned();
        let mut alerts = 0;
        for minute in 60..100 {
            let now = Time::of_window(minute, WINDOW_S);
            for number in 0..40 {
                let seen = if number % 4 == 0 {
                    inference("web", 20_000, Verdict::Allow)
                } else {
                    inference("batch", 400_000, Verdict::Allow)
                };
                alerts += usize::from(rule.observe(&seen, now).is_some());
            }
        }
        assert_eq!(alerts, 0);
    }

    #[test]
    fn a_nightly_slowdown_is_learned_after_three_nights() {
        let mut rule = Latency::default();
        let nights: Vec<_> = (0..5_u64)
            .map(|day| {
                let night = day * 1_440 + 120;
                let (fast, slow) = (|_| 20_000, |_| 100_000);
                let mut found = show(&mut rule, day * 1_440..night, Verdict::Allow, fast);
                found.extend(show(&mut rule, night..night + 40, Verdict::Allow, slow));
                let rest = night + 40..(day + 1) * 1_440;
                found.extend(show(&mut rule, rest, Verdict::Allow, fast));
                found.len()
            })
            .collect();
        assert_eq!(nights, [1, 1, 1, 0, 0]);
    }
}
