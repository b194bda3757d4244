//! Request volume of a client against its own usual volume: a stolen credential, or a client that
//! repeats requests in a loop.

use tensorgate_policy::values::WatchRule;

use super::{ClientTable, Rule, Thresholds};
use crate::alert::{Evidence, Finding, Subject};
use crate::baseline::Baseline;
use crate::levels::Levels;
use crate::observation::Observation;
use crate::saved::saved;
use crate::table::Slot;
use crate::time::Time;
use crate::window::{AbnormalWindows, Closed, Needed, Windows};

const WINDOW_S: u64 = 60;
/// Abnormal windows that make an alert.
const NEEDED: Needed = Needed {
    abnormal: 3,
    of_last: 5,
};
/// Windows with requests until a client's usual volume is known.
const LEARNED: u32 = 30;
/// Fewer requests a minute are never abnormal.
const MIN_REQUESTS: f64 = 100.0;
/// An abnormal volume is this many times the mean,
const TIMES_MEAN: f64 = 4.0;
/// this many mean deviations above it,
const DEVIATIONS: f64 = 8.0;
/// and this many times the busiest minute.
const TIMES_PEAK: f64 = 1.5;
/// The busiest minute is forgotten by this factor in each window: by half in 23 hours.
const PEAK_DECAY: f64 = 0.999_5;

/// The bytes of a client's state, with what it has on the heap.
#[cfg(test)]
pub(super) const CLIENT_BYTES: usize = crate::table::key_bytes::<Client>() + size_of::<Levels>();

/// The rule `volume`.
#[derive(Debug, Default)]
pub(super) struct Volume {
    clients: ClientTable<Client>,
    thresholds: Thresholds,
}

#[derive(Debug, Default)]
struct Client {
    windows: Windows<u32>,
    usual: Baseline,
    peak: f64,
    abnormal: AbnormalWindows,
    levels: Box<Levels>,
}

saved!(Client {
    usual,
    peak,
    levels
});

impl Rule for Volume {
    fn id(&self) -> WatchRule {
        WatchRule::Volume
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        let name = seen.client.as_ref()?;
        let Slot { state, is_shared } = self.clients.slot(name, now);
        let closed = state.windows.advance(now, WINDOW_S);
        state.windows.counts = state.windows.counts.saturating_add(1);
        let (since, evidence) = state.judge(&closed?, self.thresholds)?;
        Some(Finding {
            subject: Subject::client(name, is_shared),
            since,
            evidence,
            what: "sends far more requests than usual".to_owned(),
            advice: "Check that the client still is who uses its credential. If not, revoke it. \
                     A rate limit in its grant bounds what it can send.",
        })
    }

    fn shared_uses(&self) -> u64 {
        self.clients.shared_uses()
    }

    fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.clients.save(out);
    }

    fn load(&mut self, input: &mut &[u8]) -> Option<()> {
        self.clients = ClientTable::load(input)?;
        Some(())
    }
}

impl Client {
    /// Judges a window. Returns when an abnormal volume began, if an alert is due.
    fn judge(&mut self, closed: &Closed<u32>, thresholds: Thresholds) -> Option<(Time, Evidence)> {
        let at = Time::of_window(closed.number, WINDOW_S);
        let requests = f64::from(closed.counts);
        let usual = self.usual.mean();
        let has_learned = self.usual.has_learned(LEARNED);
        let times = thresholds.times.unwrap_or(TIMES_MEAN);
        let fewest = thresholds.at_least.map_or(MIN_REQUESTS, f64::from);
        let bound_of_mean = (times * usual).max(self.usual.above(DEVIATIONS));
        // Small steps must not raise their own bound.
        let highest = self.levels.ceiling.highest(at);
        let bound_of_ceiling = highest.map_or(f64::INFINITY, |highest| times * highest);
        let bound = bound_of_mean
            .max(TIMES_PEAK * self.peak)
            .min(bound_of_ceiling)
            .max(fewest);
        let is_unusual = has_learned && requests > bound;
        self.usual.add_judged(requests, bound, is_unusual);
        if !is_unusual {
            self.levels.ceiling.add(requests, at);
        } else if highest.is_some() {
            self.levels.ceiling.add(bound, at);
        }
        self.peak *= PEAK_DECAY;
        if !is_unusual {
            // A volume that grows in each minute must not raise its own bound.
            let peak = if has_learned {
                requests.min(bound_of_mean.max(fewest))
            } else {
                requests
            };
            self.peak = self.peak.max(peak);
        }
        let is_abnormal = is_unusual && !self.levels.accept(closed.counts, at);
        let first = self
            .abnormal
            .first_of_enough(closed.number, is_abnormal, NEEDED)?;
        // The next request, which ends the window, may come hours after it.
        let is_due = self
            .abnormal
            .permit(self.levels.is_worse(closed.counts), at);
        self.levels.count(closed.counts, is_due, at);
        if !is_due {
            return None;
        }
        let evidence = Evidence {
            observed: requests,
            usual,
            unit: "requests a minute",
        };
        Some((Time::of_window(first, WINDOW_S), evidence))
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "tests"
    )]
    use super::*;

    /// The minute of the first alert about a client that sends so many requests in each minute
    /// after two usual hours, counted from there.
    fn first_alert(mut volume: impl FnMut(u64) -> u32) -> Option<u64> {
        let mut rule = Volume::default();
        let seen = Observation {
            client: Some("web".to_owned()),
            ..Observation::default()
        };
        let mut alerts = |minute, requests: u32| {
            let now = Time::of_window(minute, WINDOW_S);
            let findings = (0..requests).filter_map(|_| rule.observe(&seen, now));
            findings.count()
        };
        for minute in 0..120 {
            assert_eq!(alerts(minute, 20), 0);
        }
        (0..20).find(|minute| alerts(120_u64.saturating_add(*minute), volume(*minute)) > 0)
    }

    #[test]
    fn a_volume_that_grows_in_each_minute_is_reported() {
        let mut requests = 99_u32;
        let grows = |_: u64| {
            let now = requests;
            requests = requests.saturating_mul(7).div_euclid(5);
            now
        };
        assert_eq!(first_alert(grows), Some(5));
    }

    #[test]
    fn a_volume_with_pauses_is_reported() {
        let pauses = |minute: u64| if minute.is_multiple_of(2) { 300 } else { 20 };
        assert_eq!(first_alert(pauses), Some(5));
        assert_eq!(first_alert(|_: u64| 20), None);
    }

    const DAY: u64 = 1_440;

    /// The days and minutes of the alerts about a client that sends so many requests a minute.
    fn alerts(days: u64, volume: impl Fn(u64, u64) -> u32) -> Vec<(u64, u64)> {
        let mut client = Client::default();
        let mut alert = |minute: u64| {
            let counts = volume(minute.div_euclid(DAY), minute.rem_euclid(DAY));
            let closed = Closed {
                number: minute,
                counts,
            };
            client.judge(&closed, Thresholds::default())
        };
        let minutes = 0..days.saturating_mul(DAY);
        let alerts = minutes.filter(|minute| alert(*minute).is_some());
        alerts
            .map(|minute| (minute.div_euclid(DAY), minute.rem_euclid(DAY)))
            .collect()
    }

    #[test]
    fn a_nightly_batch_is_usual_after_three_nights_and_only_at_night() {
        let batch = |day: u64, minute: u64| match minute {
            120..180 => 400,
            // A thief repeats the batch by day, and later sends more at night.
            840..860 if day == 10 => 400,
            _ => 20,
        };
        let expected = [(0, 122), (1, 122), (2, 122), (10, 842)];
        assert_eq!(alerts(14, batch), expected);
        let more = |day: u64, minute: u64| match minute {
            120..180 if day == 12 => 900,
            120..180 => 400,
            _ => 20,
        };
        assert_eq!(alerts(14, more).last(), Some(&(12, 122)));
    }

    #[test]
    fn a_job_of_each_hour_is_usual_after_three_hours() {
        // The first minutes are between two runs.
        let job = |_: u64, minute: u64| match minute.rem_euclid(60) {
            40..45 => 400,
            _ => 20,
        };
        assert_eq!(alerts(14, job), [(0, 42), (0, 102), (0, 162)]);
    }

    #[test]
    fn small_steps_teach_at_most_twofold_a_week() {
        // The thief sends a tenth more in each hour from the second week on.
        let teacher = |day: u64, minute: u64| {
            let steps = day.saturating_sub(7).saturating_mul(24) + minute.div_euclid(60);
            let volume = 20.0 * 1.1_f64.powf(if day < 7 { 0.0 } else { steps as f64 });
            volume.min(100_000.0).round() as u32
        };
        let first = alerts(14, teacher).first().copied();
        assert!(first.is_some_and(|(day, _)| day == 7), "{first:?}");
    }
}
