//! Failed credentials of all sources together over an hour: guessing from so few sources that their
//! number is usual, and so slowly that no source is reported.
//!
//! Of each source a bounded number counts, so that one client with an old key is no attack on the
//! gateway.

use tensorgate_policy::values::WatchRule;

use super::usual_count::{CountBounds, UsualCount};
use super::{Rule, SourceTable, Thresholds};
use crate::alert::{Evidence, Finding, Subject};
use crate::observation::Observation;
use crate::saved::Saved as _;
use crate::time::{HOUR_S, Time};
use crate::window::{Repeats, Windows};

/// The hour is counted in parts of this length.
const PART_S: u64 = 300;
/// The parts of an hour.
const PARTS: usize = 12;
/// The most parts without a request that are learned at once. More change nothing.
const MAX_SILENT_PARTS: u64 = 144;
/// The most failed credentials of one source that count in an hour.
const MAX_OF_SOURCE: u32 = 100;
/// The bounds of failed credentials in an hour. Each part ends one.
const BOUNDS: CountBounds = CountBounds {
    learned: 12,
    unlearned: 2_000.0,
    least: 400.0,
    times_mean: 3.0,
};

/// The rule `credential-guessing`.
#[derive(Debug, Default)]
pub(super) struct CredentialGuessing {
    /// The failed credentials of each source in an hour.
    sources: SourceTable<Windows<u32>>,
    hour: Hour,
    usual: UsualCount,
    repeats: Repeats,
    thresholds: Thresholds,
}

/// The failed credentials of the last hour.
#[derive(Debug, Default)]
struct Hour {
    /// The number of the last part. Absent before the first request.
    number: Option<u64>,
    /// The parts, the last one first.
    parts: [u32; PARTS],
}

impl Rule for CredentialGuessing {
    fn id(&self) -> WatchRule {
        WatchRule::CredentialGuessing
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        self.advance(now);
        if !seen.has_failed_credential() || !self.counts(seen, now) {
            return None;
        }
        self.hour.add();
        let failed = self.hour.failed();
        let bound = self.usual.bound(&BOUNDS, self.thresholds, now);
        if failed <= bound || !self.repeats.permit(now) {
            return None;
        }
        Some(Finding {
            subject: Subject::Gateway,
            since: self.hour.since(now),
            evidence: Evidence {
                observed: failed,
                usual: self.usual.mean(),
                unit: "failed credentials an hour",
            },
            what: "gets far more failed credentials than usual".to_owned(),
            advice: "`tensorgate audit query --reason unauthenticated` lists the sources. Set \
                     `lockout`, and block them before the gateway. If a key was just rotated, \
                     clients still have the old one.",
        })
    }

    fn shared_uses(&self) -> u64 {
        self.sources.shared_uses()
    }

    fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.usual.save(out);
    }

    fn load(&mut self, input: &mut &[u8]) -> Option<()> {
        self.usual = UsualCount::load(input)?;
        Some(())
    }
}

impl CredentialGuessing {
    /// Learns the parts that are over, those without a request too.
    fn advance(&mut self, now: Time) {
        let number = now.window(PART_S);
        let last = self.hour.number.replace(number).unwrap_or(number);
        let passed = number.saturating_sub(last).min(MAX_SILENT_PARTS);
        for _ in 0..passed {
            let failed = self.hour.failed();
            self.usual.learn(failed, &BOUNDS, self.thresholds, now);
            self.hour.begin_part();
        }
    }

    /// Whether a failed credential counts: if its source has not had too many. Sources that share
    /// state, and unknown ones, are many.
    fn counts(&mut self, seen: &Observation, now: Time) -> bool {
        let Some(source) = seen.source_host() else {
            return true;
        };
        let slot = self.sources.slot(&source, now);
        slot.state.advance(now, HOUR_S);
        let failed = &mut slot.state.counts;
        *failed = failed.saturating_add(1);
        slot.is_shared || *failed <= MAX_OF_SOURCE
    }
}

impl Hour {
    /// Counts a failed credential.
    fn add(&mut self) {
        if let Some(part) = self.parts.first_mut() {
            *part = part.saturating_add(1);
        }
    }

    /// Begins another part in place of the oldest one.
    fn begin_part(&mut self) {
        self.parts.rotate_right(1);
        if let Some(part) = self.parts.first_mut() {
            *part = 0;
        }
    }

    fn failed(&self) -> f64 {
        f64::from(self.parts.iter().copied().fold(0, u32::saturating_add))
    }

    /// When the oldest part with failed credentials began.
    fn since(&self, now: Time) -> Time {
        let oldest = self.parts.iter().rposition(|part| *part > 0);
        let parts_ago = u64::try_from(oldest.unwrap_or_default()).unwrap_or_default();
        Time::of_window(now.window(PART_S).saturating_sub(parts_ago), PART_S)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "tests")]
    use std::net::{IpAddr, Ipv4Addr};

    use tensorgate_audit::record::Verdict;
    use tensorgate_policy::Reason;

    use super::*;

    /// A request from a source, with a wrong key or with a valid one.
    fn request(source: u32, is_wrong: bool) -> Observation {
        Observation {
            source: Some(IpAddr::V4(Ipv4Addr::from_bits(source))),
            verdict: if is_wrong {
                Verdict::Deny
            } else {
                Verdict::Allow
            },
            reason: is_wrong.then_some(Reason::Unauthenticated),
            ..Observation::default()
        }
    }

    /// A rule after some hours with a valid request and so many wrong keys a minute, and the time.
    fn learned(hours: u64, wrong: u32) -> (CredentialGuessing, u64) {
        let mut rule = CredentialGuessing::default();
        let minutes = hours * 60;
        for minute in 0..minutes {
            let now = Time::from_s(minute * 60);
            assert_eq!(rule.observe(&request(0, false), now), None);
            for number in 0..wrong {
                assert_eq!(rule.observe(&request(7 + number, true), now), None);
            }
        }
        (rule, minutes * 60)
    }

    /// The minutes until an alert, if so many sources send so many wrong keys a minute each.
    fn delay(rule: &mut CredentialGuessing, start_s: u64, sources: u32, each: u32) -> Option<u64> {
        (0..180).find(|minute| {
            let now = Time::from_s(start_s + minute * 60);
            let guesses = (0..sources * each).map(|number| request(1_000 + number % sources, true));
            let found: Vec<_> = guesses
                .filter_map(|seen| rule.observe(&seen, now))
                .collect();
            found.iter().any(|found| found.subject == Subject::Gateway)
        })
    }

    #[test]
    fn guessing_from_few_sources_is_reported_after_hours_without_a_wrong_key() {
        for wrong in [0, 1] {
            let (mut rule, start_s) = learned(6, wrong);
            // 12,000 guesses in six minutes.
            assert_eq!(
                delay(&mut rule, start_s, 40, 50),
                Some(0),
                "{wrong} a minute"
            );
            let (mut rule, start_s) = learned(6, wrong);
            // A guess a minute from each source.
            let slowly = delay(&mut rule, start_s, 40, 1);
            assert!(slowly.is_some_and(|minutes| minutes < 30), "{slowly:?}");
        }
    }

    #[test]
    fn one_client_with_an_old_key_is_no_attack_on_the_gateway() {
        let (mut rule, start_s) = learned(6, 0);
        assert_eq!(delay(&mut rule, start_s, 1, 60), None);
    }

    #[test]
    fn in_the_first_hour_more_is_needed() {
        let mut rule = CredentialGuessing::default();
        assert_eq!(delay(&mut rule, 0, 10, 10), None);
        let mut rule = CredentialGuessing::default();
        assert_eq!(delay(&mut rule, 0, 40, 50), Some(1));
    }
}
