//! What the requests of the last five minutes came to, and the last alerts, from the records of the
//! audit log. It runs on the thread that writes the log, so no request waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use tensorgate_audit::RecordListener;
use tensorgate_audit::record::{AlertRecord, Amend, Decision, Event, Verdict};
use tensorgate_base::rfc3339::rfc3339;
use tensorgate_policy::values::WatchRule;

use crate::recent_buckets::{RecentBuckets, WINDOW_S};

/// The most reasons that a bucket tells apart. Further ones are counted as [`OTHER_REASONS`].
const MAX_REASONS: usize = 64;
/// The name of the reasons beyond them.
const OTHER_REASONS: &str = "others";
/// The most reasons that are shown.
const SHOWN_REASONS: usize = 5;
/// The most alerts that are kept. Half of them are for alerts about sources, and half for others:
/// anyone can make alerts about sources.
const KEPT_ALERTS: usize = 64;
/// The most alerts that are shown, divided in the same way.
const SHOWN_ALERTS: usize = 16;
/// The age up to which an alert counts as open.
const ALERT_OPEN: Duration = Duration::from_secs(3_600);

/// How many requests ended how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutcomeCounts {
    /// Over which time, in seconds.
    pub over_s: u64,
    /// Those that were answered.
    pub allow: u64,
    /// Those that were denied.
    pub deny: u64,
    /// Those that ended before their response was complete.
    pub aborted: u64,
    /// The most frequent reasons of denials.
    pub reasons: Vec<ReasonCount>,
}

/// How many requests were denied for a reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    /// The reason.
    pub reason: String,
    /// Their number.
    pub count: u64,
}

/// The last alerts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecentAlerts {
    /// The number of alerts in the last hour, at most 64.
    pub open: u64,
    /// The last ones, the oldest first.
    pub last: Vec<RecentAlert>,
}

/// An alert, in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecentAlert {
    /// Its number in this run of the host, from 1.
    pub number: u64,
    /// When it was raised, RFC 3339.
    pub time: String,
    /// Its ID in the audit log.
    pub id: String,
    /// The rule.
    pub rule: String,
    /// Who it is about.
    pub subject: String,
    /// What happened, as a sentence without its subject.
    pub what: String,
}

/// Counts records as they are written.
pub struct RecentOutcomes {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    buckets: RecentBuckets<Bucket>,
    /// The oldest first.
    alerts: VecDeque<KeptAlert>,
    numbered: u64,
}

struct KeptAlert {
    at: Instant,
    is_about_source: bool,
    alert: RecentAlert,
}

#[derive(Clone, Default)]
struct Bucket {
    allow: u64,
    deny: u64,
    aborted: u64,
    /// Requests that were counted as allowed, and ended otherwise.
    amended: u64,
    reasons: BTreeMap<String, u64>,
}

impl Default for RecentOutcomes {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            state: Mutex::default(),
        }
    }
}

impl RecordListener for RecentOutcomes {
    fn written(&self, events: &[(SystemTime, Event)]) {
        let now = Instant::now();
        let now_s = self.seconds(now);
        let mut state = self.state();
        for (time, event) in events {
            match event {
                Event::Decision(decision) => state.buckets.current(now_s).count(decision),
                Event::Amend(amend) => state.buckets.current(now_s).amend(amend),
                Event::Alert(alert) => state.add_alert(*time, now, alert),
                Event::Open(_)
                | Event::Policy { .. }
                | Event::Copy(_)
                | Event::CutOff(_)
                | Event::Artifact(_)
                | Event::Block(_)
                | Event::Rejections(_)
                | Event::Dropped { .. }
                | Event::Lost { .. }
                | Event::Checkpoint { .. }
                | Event::Stop
                | Event::Head { .. } => {}
            }
        }
    }
}

impl RecentOutcomes {
    /// The counts of the last five minutes.
    pub fn counts(&self) -> OutcomeCounts {
        self.state().counts(self.seconds(Instant::now()))
    }

    /// The last alerts.
    pub fn alerts(&self) -> RecentAlerts {
        let now = Instant::now();
        let state = self.state();
        let is_open = |at: Instant| now.saturating_duration_since(at) < ALERT_OPEN;
        let open = state.alerts.iter().filter(|kept| is_open(kept.at)).count();
        let about_sources = state.about_sources();
        let others = state.alerts.len().saturating_sub(about_sources);
        // What one half does not use is for the other.
        let room = |of_others: usize| SHOWN_ALERTS.saturating_sub(of_others.min(SHOWN_ALERTS / 2));
        let (mut room_for_sources, mut room_for_others) = (room(others), room(about_sources));
        let mut last = Vec::new();
        for kept in state.alerts.iter().rev() {
            let room = match kept.is_about_source {
                true => &mut room_for_sources,
                false => &mut room_for_others,
            };
            if let Some(less) = room.checked_sub(1) {
                *room = less;
                last.push(kept.alert.clone());
            }
        }
        last.reverse();
        RecentAlerts {
            open: u64::try_from(open).unwrap_or(u64::MAX),
            last,
        }
    }

    /// A time in seconds since the start.
    fn seconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn counts(&self, now_s: u64) -> OutcomeCounts {
        let mut total = Bucket::default();
        for bucket in self.buckets.recent(now_s) {
            total.allow = total.allow.saturating_add(bucket.allow);
            total.deny = total.deny.saturating_add(bucket.deny);
            total.aborted = total.aborted.saturating_add(bucket.aborted);
            total.amended = total.amended.saturating_add(bucket.amended);
            for (reason, count) in &bucket.reasons {
                add(&mut total.reasons, reason, *count);
            }
        }
        let mut reasons: Vec<_> = total.reasons.into_iter().collect();
        // Equal ones stay in the order of their names.
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        reasons.truncate(SHOWN_REASONS);
        let reasons = reasons.into_iter();
        OutcomeCounts {
            over_s: WINDOW_S,
            allow: total.allow.saturating_sub(total.amended),
            deny: total.deny,
            aborted: total.aborted,
            reasons: reasons
                .map(|(reason, count)| ReasonCount { reason, count })
                .collect(),
        }
    }

    /// Adds an alert about requests. Conditions are shown beside them.
    fn add_alert(&mut self, time: SystemTime, now: Instant, record: &AlertRecord) {
        let rule = WatchRule::from_name(&record.rule);
        if record.state.is_some() || rule.is_some_and(WatchRule::is_about_gate) {
            return;
        }
        self.numbered = self.numbered.saturating_add(1);
        make_room(&mut self.alerts, KEPT_ALERTS, |it| it.is_about_source);
        let alert = RecentAlert {
            number: self.numbered,
            time: rfc3339(time),
            id: record.id.clone(),
            rule: record.rule.clone(),
            subject: record.subject.clone(),
            what: record.what.clone(),
        };
        self.alerts.push_back(KeptAlert {
            at: now,
            is_about_source: record.is_about_source(),
            alert,
        });
    }

    fn about_sources(&self) -> usize {
        let alerts = self.alerts.iter();
        alerts.filter(|kept| kept.is_about_source).count()
    }
}

impl Bucket {
    fn count(&mut self, decision: &Decision) {
        self.add(decision.verdict, &decision.reason);
    }

    /// Counts a request that was allowed, and ended otherwise. One that was denied counts once,
    /// whatever becomes of its response.
    fn amend(&mut self, amend: &Amend) {
        let Some(verdict) = amend.late_verdict() else {
            return;
        };
        self.amended = self.amended.saturating_add(1);
        self.add(verdict, amend.reason.as_deref().unwrap_or_default());
    }

    fn add(&mut self, verdict: Verdict, reason: &str) {
        let count = match verdict {
            Verdict::Allow => &mut self.allow,
            Verdict::Aborted => &mut self.aborted,
            Verdict::Deny => {
                add(&mut self.reasons, reason, 1);
                &mut self.deny
            }
        };
        *count = count.saturating_add(1);
    }
}

/// Removes an alert if there are as many as fit: the oldest of those about sources or of the
/// others, of which more than half are.
pub fn make_room<T>(alerts: &mut VecDeque<T>, most: usize, is_about_source: impl Fn(&T) -> bool) {
    if alerts.len() >= most {
        let about_sources = alerts.iter().filter(|it| is_about_source(it)).count();
        let has_more_sources = about_sources > most / 2;
        let oldest = alerts
            .iter()
            .position(|it| is_about_source(it) == has_more_sources);
        alerts.remove(oldest.unwrap_or_default());
    }
}

/// Adds to the count of a reason, of which there is a bounded number.
fn add(reasons: &mut BTreeMap<String, u64>, reason: &str, more: u64) {
    let reason = match reasons.contains_key(reason) || reasons.len() < MAX_REASONS {
        true => reason,
        false => OTHER_REASONS,
    };
    match reasons.get_mut(reason) {
        Some(count) => *count = count.saturating_add(more),
        None => {
            reasons.insert(reason.to_owned(), more);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    fn decision(verdict: Verdict, reason: &str) -> Decision {
        Decision {
            verdict,
            reason: reason.to_owned(),
            ..Decision::default()
        }
    }

    #[test]
    fn outcomes_count_for_five_minutes_with_the_top_reasons() {
        let mut state = State::default();
        state
            .buckets
            .current(0)
            .count(&decision(Verdict::Allow, "ok"));
        for _ in 0..3 {
            let denied = decision(Verdict::Deny, "out-of-range");
            state.buckets.current(10).count(&denied);
        }
        state
            .buckets
            .current(10)
            .count(&decision(Verdict::Allow, "ok"));
        let ended = Amend {
            verdict: Some(Verdict::Aborted),
            reason: Some("incomplete".to_owned()),
            ..Amend::default()
        };
        state.buckets.current(20).amend(&ended);
        // The client of a denied request did not wait for the response.
        state.buckets.current(20).amend(&Amend {
            recorded: Some(Verdict::Deny),
            ..ended
        });
        let counts = |now_s| {
            let OutcomeCounts {
                allow,
                deny,
                aborted,
                reasons,
                ..
            } = state.counts(now_s);
            let top = reasons.first().map(|top| top.count).unwrap_or_default();
            (allow, deny, aborted, top)
        };
        assert_eq!(counts(20), (1, 3, 1, 3));
        assert_eq!(counts(WINDOW_S), (0, 3, 1, 3), "the first bucket is over");
    }

    #[test]
    fn buckets_reasons_and_alerts_are_bounded() {
        let mut state = State::default();
        for number in 0..100 {
            for reason in 0..200 {
                let denied = decision(Verdict::Deny, &reason.to_string());
                state.buckets.current(number * 10).count(&denied);
            }
        }
        assert!(state.buckets.current(990).reasons.len() <= MAX_REASONS + 1);
        let counts = state.counts(990);
        assert_eq!(counts.reasons.len(), SHOWN_REASONS);
        assert_eq!(counts.reasons.first().unwrap().reason, OTHER_REASONS);
        let record = alert("volume", "client c");
        let outcomes = RecentOutcomes::default();
        let alert = (SystemTime::now(), Event::Alert(Box::new(record)));
        let raised: Vec<_> = std::iter::repeat_n(alert, 100).collect();
        outcomes.written(&raised);
        let alerts = outcomes.alerts();
        assert_eq!(alerts.open, 64);
        assert_eq!(alerts.last.len(), SHOWN_ALERTS);
        assert_eq!(alerts.last.last().unwrap().number, 100);
    }

    fn alert(rule: &str, subject: &str) -> AlertRecord {
        serde_json::from_value(json!({
            "id": "alert-1", "rule": rule, "subject": subject, "since": "", "observed": 1,
            "usual": 0, "unit": "requests", "what": "sent more", "advice": "", "withheld": 0,
        }))
        .unwrap()
    }

    #[test]
    fn alerts_about_sources_displace_none_about_a_client() {
        let outcomes = RecentOutcomes::default();
        let raise = |rule: &str, subject: &str| {
            let event = Event::Alert(Box::new(alert(rule, subject)));
            outcomes.written(&[(SystemTime::now(), event)]);
        };
        raise("dormant-credential", "client victim");
        for number in 0..200 {
            raise("management", &format!("source 192.0.2.{number}"));
        }
        let alerts = outcomes.alerts();
        assert_eq!((alerts.open, alerts.last.len()), (64, SHOWN_ALERTS));
        assert_eq!(alerts.last.first().unwrap().subject, "client victim");
        // Nor do those about clients displace all others.
        for number in 0..200 {
            raise("volume", &format!("client {number}"));
        }
        let alerts = outcomes.alerts().last;
        let of_sources = alerts.iter().filter(|it| it.rule == "management");
        assert_eq!((of_sources.count(), alerts.len()), (8, SHOWN_ALERTS));
    }
}
