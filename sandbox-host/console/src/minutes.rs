//! Requests and rejections of clients and models for each minute of the last hour: the evidence
//! beside an alert.

use std::collections::{BTreeMap, VecDeque};

use tensorgate_audit::record::{Decision, Verdict};

/// The minutes that are kept.
pub const MINUTES: u64 = 60;
/// The most subjects. Further ones have no series.
const MAX_SUBJECTS: usize = 256;

/// A minute of a subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    /// Its number, by the recorder's clock.
    pub number: u64,
    /// All requests.
    pub requests: u64,
    /// Those that were denied.
    pub denied: u64,
}

/// The minutes of a subject that had requests, the oldest first.
pub type Series = VecDeque<Minute>;

/// The series, by the subjects of alerts: `client NAME`, `model NAME`.
#[derive(Debug, Default)]
pub(crate) struct MinuteSeries(BTreeMap<String, Series>);

impl MinuteSeries {
    /// Counts a request in this minute.
    pub(crate) fn count(&mut self, minute: u64, decision: &Decision) {
        let is_denied = decision.verdict == Verdict::Deny;
        if let Some(client) = &decision.client {
            self.add(format!("client {client}"), minute, is_denied);
        }
        if let Some(model) = &decision.model {
            self.add(format!("model {model}"), minute, is_denied);
        }
    }

    /// The series of a subject.
    pub(crate) fn of(&self, subject: &str) -> Option<&Series> {
        self.0.get(subject)
    }

    fn add(&mut self, subject: String, minute: u64, is_denied: bool) {
        if !self.0.contains_key(&subject) && self.0.len() >= MAX_SUBJECTS {
            let is_over = |it: &Minute| it.number.saturating_add(MINUTES) <= minute;
            self.0
                .retain(|_, series| !series.back().is_none_or(is_over));
            if self.0.len() >= MAX_SUBJECTS {
                return;
            }
        }
        let series = self.0.entry(subject).or_default();
        if series.back().is_none_or(|last| last.number < minute) {
            series.push_back(Minute {
                number: minute,
                ..Minute::default()
            });
        }
        while series
            .front()
            .is_some_and(|it| it.number.saturating_add(MINUTES) <= minute)
        {
            series.pop_front();
        }
        if let Some(last) = series.back_mut() {
            last.requests = last.requests.saturating_add(1);
            last.denied = last.denied.saturating_add(u64::from(is_denied));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn decision(client: &str, verdict: Verdict) -> Decision {
        Decision {
            client: Some(client.to_owned()),
            verdict,
            ..Decision::default()
        }
    }

    #[test]
    fn a_subject_has_its_last_hour() {
        let mut series = MinuteSeries::default();
        for minute in [0, 1, 1, 60] {
            series.count(minute, &decision("a", Verdict::Allow));
        }
        series.count(60, &decision("a", Verdict::Deny));
        let of_a = series.of("client a").unwrap();
        let minutes: Vec<_> = of_a
            .iter()
            .map(|it| (it.number, it.requests, it.denied))
            .collect();
        assert_eq!(minutes, [(1, 2, 0), (60, 2, 1)]);
        assert!(series.of("client b").is_none());
    }

    #[test]
    fn subjects_are_bounded_and_those_of_the_last_hour_stay() {
        let mut series = MinuteSeries::default();
        for number in 0..1_000 {
            series.count(0, &decision(&number.to_string(), Verdict::Allow));
        }
        assert_eq!(series.0.len(), MAX_SUBJECTS);
        series.count(MINUTES, &decision("late", Verdict::Allow));
        assert_eq!(series.0.len(), 1, "those before are over");
    }
}
