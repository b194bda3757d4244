//! Request volume of a client against its own usual volume: a stolen credential, or a client that
//! repeats requests in a loop.

use tensorgate_policy::raw::WatchRule;

use super::{ClientTable, Rule};
use crate::alert::{Evidence, Finding, Subject};
use crate::baseline::Baseline;
use crate::observation::Observation;
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

/// The bytes of a client's state.
#[cfg(test)]
pub(super) const CLIENT_BYTES: usize = crate::table::key_bytes::<Client>();

/// The rule `volume`.
#[derive(Debug, Default)]
pub(super) struct Volume {
    clients: ClientTable<Client>,
}

#[derive(Debug, Default)]
struct Client {
    windows: Windows<u32>,
    usual: Baseline,
    peak: f64,
    abnormal: AbnormalWindows,
}

impl Rule for Volume {
    fn id(&self) -> WatchRule {
        WatchRule::Volume
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        let name = seen.client.as_ref()?;
        let Slot { state, is_shared } = self.clients.slot(name, now);
        let closed = state.windows.advance(now, WINDOW_S);
        state.windows.counts = state.windows.counts.saturating_add(1);
        let (since, evidence) = state.judge(&closed?, now)?;
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
}

impl Client {
    /// Judges a window. Returns when an abnormal volume began, if an alert is due.
    fn judge(&mut self, closed: &Closed<u32>, now: Time) -> Option<(Time, Evidence)> {
        let requests = f64::from(closed.counts);
        let usual = self.usual.mean();
        let has_learned = self.usual.has_learned(LEARNED);
        let bound_of_mean = MIN_REQUESTS
            .max(TIMES_MEAN * usual)
            .max(self.usual.above(DEVIATIONS));
        let bound = bound_of_mean.max(TIMES_PEAK * self.peak);
        let is_abnormal = has_learned && requests > bound;
        self.usual.add_judged(requests, bound, is_abnormal);
        self.peak *= PEAK_DECAY;
        if !is_abnormal {
            // A volume that grows in each minute must not raise its own bound.
            let peak = if has_learned {
                requests.min(bound_of_mean)
            } else {
                requests
            };
            self.peak = self.peak.max(peak);
        }
        let first = self.abnormal.add(closed.number, is_abnormal, NEEDED, now)?;
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
}
