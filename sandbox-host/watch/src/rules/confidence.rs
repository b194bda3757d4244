//! Predictions of a model with far less confidence than usual: inputs that the model does not know,
//! a broken preprocessing, or an attack on the model.
//!
//! What is usual are the last 1,000 predictions. A prediction has low confidence if it is below
//! their mean by three standard deviations or, less dependent on outliers, below their median by
//! five median deviations. Some predictions always are. An alert needs far more of them than usual.

use tensorgate_policy::values::WatchRule;

use super::share::{Bounds, Share, Spike};
use super::{ModelTable, Rule, Thresholds};
use crate::alert::{Evidence, Finding, Subject};
use crate::observation::Observation;
use crate::table::Slot;
use crate::time::Time;
use crate::window::{Needed, Windows};

const WINDOW_S: u64 = 300;
const BOUNDS: Bounds = Bounds {
    window_s: WINDOW_S,
    needed: Needed {
        abnormal: 2,
        of_last: 4,
    },
    learned: 12,
    min_bad: 10,
    rise: 0.2,
};
/// The predictions that say what is usual.
const REMEMBERED: usize = 1_000;
/// Fewer say nothing.
const LEARNED: u32 = 200;
/// A confidence is remembered as one of so many steps above zero.
const STEPS: u32 = 200;
/// The steps, and zero.
const VALUES: usize = 201;
/// Millionths of a step.
const STEP_MILLIONTHS: u32 = 5_000;
/// Low confidence is so many standard deviations below the mean,
const DEVIATIONS: f64 = 3.0;
/// or so many median deviations below the median.
const MEDIAN_DEVIATIONS: f64 = 5.0;

/// The rule `confidence`.
#[derive(Debug, Default)]
pub(super) struct Confidence {
    models: ModelTable<Model>,
    thresholds: Thresholds,
}

#[derive(Debug, Default)]
struct Model {
    windows: Windows<()>,
    usual: Usual,
    below_mean: Share,
    below_median: Share,
}

impl Rule for Confidence {
    fn id(&self) -> WatchRule {
        WatchRule::Confidence
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        let top = seen.top_class?;
        let name = seen.model.as_ref()?;
        let Slot { state, is_shared } = self.models.slot(name, now);
        let step = top.confidence.div_euclid(STEP_MILLIONTHS).min(STEPS);
        let (below_mean, below_median) = state.usual.below(step);
        let bounds = BOUNDS.with(self.thresholds);
        let spike = state.below_mean.observe(below_mean, now, &bounds);
        let robust = state.below_median.observe(below_median, now, &bounds);
        let is_over = state.windows.advance(now, WINDOW_S).is_some();
        // An attack must not become usual.
        if !state.below_mean.is_abnormal() && !state.below_median.is_abnormal() {
            state.usual.add(step);
            if is_over {
                state.usual.renew();
            }
        }
        let Spike {
            since,
            percent,
            usual_percent,
        } = spike.or(robust)?;
        Some(Finding {
            subject: Subject::model(name, is_shared),
            since,
            evidence: Evidence {
                observed: percent,
                usual: usual_percent,
                unit: "% of predictions",
            },
            what: "predicts with far less confidence than usual".to_owned(),
            advice: "Check whether its inputs, its preprocessing or its version have changed. If \
                     not, find the clients with such inputs: they may probe the model.",
        })
    }

    fn shared_uses(&self) -> u64 {
        self.models.shared_uses()
    }

    fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }
}

/// The last confidences, in steps, and the bounds below which one is low.
#[derive(Debug)]
struct Usual {
    /// The last ones, from `oldest` on in a circle.
    last: Vec<u8>,
    oldest: usize,
    /// How often each step is among them.
    counts: [u16; VALUES],
    mean_bound: f64,
    median_bound: f64,
}

impl Default for Usual {
    fn default() -> Self {
        Self {
            last: Vec::new(),
            oldest: 0,
            counts: [0; VALUES],
            mean_bound: 0.0,
            median_bound: 0.0,
        }
    }
}

impl Usual {
    /// Whether a confidence is below the bound of the mean, and below that of the median.
    fn below(&self, step: u32) -> (bool, bool) {
        let step = f64::from(step);
        (step < self.mean_bound, step < self.median_bound)
    }

    /// Adds a confidence in place of the oldest one.
    fn add(&mut self, step: u32) {
        let value = u8::try_from(step).unwrap_or(u8::MAX);
        if self.last.len() < REMEMBERED {
            self.last.push(value);
        } else if let Some(oldest) = self.last.get_mut(self.oldest) {
            let replaced = std::mem::replace(oldest, value);
            self.count(replaced, |count| count.saturating_sub(1));
            self.oldest = self.oldest.saturating_add(1);
            if self.oldest >= REMEMBERED {
                self.oldest = 0;
            }
        }
        self.count(value, |count| count.saturating_add(1));
    }

    fn count(&mut self, value: u8, change: impl Fn(u16) -> u16) {
        if let Some(count) = self.counts.get_mut(usize::from(value)) {
            *count = change(*count);
        }
    }

    /// Computes the bounds, once a window was normal.
    fn renew(&mut self) {
        let all: u32 = self.counts.iter().copied().map(u32::from).sum();
        if all < LEARNED {
            return;
        }
        let weighted = |value: &dyn Fn(f64) -> f64| {
            let steps = (0_u32..).zip(&self.counts);
            let sum: f64 = steps
                .map(|(step, count)| value(f64::from(step)) * f64::from(*count))
                .sum();
            sum / f64::from(all)
        };
        let mean = weighted(&|step| step);
        let variance = weighted(&|step| (step - mean) * (step - mean));
        let middle = f64::from(all) / 2.0;
        let median = (0_u32..=STEPS)
            .map(f64::from)
            .find(|bound| self.within(0.0, *bound) >= middle)
            .unwrap_or_default();
        // A deviation of less than a step cannot be told from zero.
        let deviation = (1_u32..=STEPS)
            .map(f64::from)
            .find(|distance| self.within(median - distance, median + distance) >= middle)
            .unwrap_or(1.0);
        self.mean_bound = mean - DEVIATIONS * variance.sqrt();
        self.median_bound = median - MEDIAN_DEVIATIONS * deviation;
    }

    /// The number of confidences from one step to another.
    fn within(&self, least: f64, greatest: f64) -> f64 {
        let steps = (0_u32..).zip(&self.counts);
        let inside = steps.filter(|(step, _)| (least..=greatest).contains(&f64::from(*step)));
        inside.map(|(_, count)| f64::from(*count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use tensorgate_policy::release::TopClass;

    use super::*;

    /// The alerts in five windows in which every second prediction has this confidence in percent,
    /// after forty windows with usual ones, which depend on the number of the prediction.
    fn alerts(usual: impl Fn(u32) -> u32, attack: u32) -> usize {
        let mut rule = Confidence::default();
        let mut number = 0_u32;
        let mut window = |window, is_attacked| {
            let now = Time::of_window(window, WINDOW_S);
            let predictions = (0..40).filter_map(|_| {
                number = number.saturating_add(1);
                let is_low = is_attacked && number.is_multiple_of(2);
                let percent = if is_low { attack } else { usual(number) };
                let confidence = percent.saturating_mul(10_000);
                let seen = Observation {
                    model: Some("resnet".to_owned()),
                    top_class: Some(TopClass {
                        class: 0,
                        confidence,
                    }),
                    ..Observation::default()
                };
                rule.observe(&seen, now)
            });
            predictions.count()
        };
        let before: usize = (0..40).map(|number| window(number, false)).sum();
        assert_eq!(before, 0);
        (40..45).map(|number| window(number, true)).sum()
    }

    #[test]
    fn outliers_that_widen_the_standard_deviation_do_not_hide_low_confidence() {
        let usual = |number: u32| if number.rem_euclid(20) == 1 { 0 } else { 90 };
        assert_eq!(alerts(usual, 90), 0);
        assert_eq!(alerts(usual, 50), 1, "it is far below the median alone");
    }

    #[test]
    fn low_confidence_is_found_where_confidences_are_spread_evenly() {
        let usual = |number: u32| number.rem_euclid(31).saturating_add(60);
        assert_eq!(alerts(usual, 70), 0);
        assert_eq!(alerts(usual, 42), 1, "it is far below the mean alone");
    }
}
