//! Keeps what the console shows of the audit log's records, in bounded memory. It runs on the
//! thread that writes the log, so no request waits for it, and it reads no file.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tensorgate_audit::record::{AlertRecord, Decision, Event, Verdict};
use tensorgate_audit::{GateTimeListener, RecordListener};
use tensorgate_values::WatchRule;
use tensorgate_watch::recent_outcomes::make_room;

use crate::minutes::{MinuteSeries, Series};
use crate::rows::{AlertRow, ArtifactRow, CheckpointRow, DecisionRow, LossRow, PolicyRow};
use crate::window::{NONE, RejectionKey, Window, WindowCounts};

/// The most requests that are kept, and the most denied or broken ones besides. So a flood of one
/// kind does not displace the other.
pub const KEPT_DECISIONS: usize = 200;
/// The most alerts that are kept. Half of them are for alerts about sources, which anyone can
/// cause, and half for others.
const KEPT_ALERTS: usize = 32;
/// The most changes of policies that are kept, and the most changes of artifacts.
const KEPT_CHANGES: usize = 32;
/// The most losses of records that are kept.
const KEPT_LOSSES: usize = 16;
/// The most kinds of rejections whose beginning is known.
const KEPT_STREAKS: usize = 256;
/// Rejections of a kind with a longer pause between them begin anew.
const STREAK_PAUSE: Duration = Duration::from_secs(900);

/// Keeps records as they are written.
pub struct Recorder {
    started: Instant,
    state: Mutex<State>,
}

/// What is kept at one moment.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    /// The minute of the moment, by the recorder's clock.
    pub minute: u64,
    /// The last requests, the newest first.
    pub decisions: Vec<Arc<DecisionRow>>,
    /// The last denied or broken ones, the newest first.
    pub refused: Vec<Arc<DecisionRow>>,
    /// The counts of the last five minutes.
    pub counts: WindowCounts,
    /// When rejections of each kind began, and when the last one was.
    pub streaks: BTreeMap<RejectionKey, Streak>,
    /// The last alerts, the newest first, each with the series of its subject.
    pub alerts: Vec<(AlertRow, Series)>,
    /// The policies that came into force, the newest first.
    pub policies: Vec<PolicyRow>,
    /// The changes of policies, handlers and files of models, the newest first.
    pub artifacts: Vec<ArtifactRow>,
    /// The last signed record.
    pub checkpoint: Option<CheckpointRow>,
    /// The last losses of records, the newest first.
    pub losses: Vec<LossRow>,
}

/// When rejections of a kind began, and when the last one was.
#[derive(Clone, Copy, Debug)]
pub struct Streak {
    /// The first one after a pause of fifteen minutes or more.
    pub first: SystemTime,
    /// The last one.
    pub last: SystemTime,
}

#[derive(Default)]
struct State {
    decisions: VecDeque<Arc<DecisionRow>>,
    refused: VecDeque<Arc<DecisionRow>>,
    window: Window,
    streaks: BTreeMap<RejectionKey, Streak>,
    minutes: MinuteSeries,
    alerts: VecDeque<AlertRow>,
    policies: VecDeque<PolicyRow>,
    artifacts: VecDeque<ArtifactRow>,
    checkpoint: Option<CheckpointRow>,
    losses: VecDeque<LossRow>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            state: Mutex::default(),
        }
    }
}

impl RecordListener for Recorder {
    fn written(&self, events: &[(SystemTime, Event)]) {
        let now_s = self.now_s();
        let mut state = self.state();
        // Only the last records of a large batch are kept, so only these are copied.
        let first_kept = events.len().saturating_sub(KEPT_DECISIONS);
        for (number, (time, event)) in events.iter().enumerate() {
            match event {
                Event::Decision(decision) => {
                    state.add_decision((*time, now_s), decision, number >= first_kept);
                }
                Event::Amend(amend) => state.window.amend(now_s, amend),
                Event::Alert(alert) => state.add_alert(*time, minute(now_s), alert),
                _ => state.add_other(*time, event),
            }
        }
    }
}

impl GateTimeListener for Recorder {
    fn completed(&self, model: Option<&str>, gate_us: u64) {
        let now_s = self.now_s();
        let mut state = self.state();
        state
            .window
            .add_gate_time(now_s, model.unwrap_or(NONE), gate_us);
    }
}

impl Recorder {
    /// All that is kept.
    pub fn recent(&self) -> Recent {
        let now_s = self.now_s();
        let (recent, buckets) = {
            let state = self.state();
            (state.recent(minute(now_s)), state.window.buckets(now_s))
        };
        // Added up without the lock, for which the log's thread and Envoy's reports wait.
        Recent {
            counts: buckets.total(),
            ..recent
        }
    }

    fn now_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// All that is kept, without the counts of the window.
    fn recent(&self, minute: u64) -> Recent {
        let with_series = |alert: &AlertRow| {
            let series = self.minutes.of(&alert.record.subject);
            (alert.clone(), series.cloned().unwrap_or_default())
        };
        Recent {
            minute,
            decisions: self.decisions.iter().rev().cloned().collect(),
            refused: self.refused.iter().rev().cloned().collect(),
            counts: WindowCounts::default(),
            streaks: self.streaks.clone(),
            alerts: self.alerts.iter().rev().map(with_series).collect(),
            policies: self.policies.iter().rev().cloned().collect(),
            artifacts: self.artifacts.iter().rev().cloned().collect(),
            checkpoint: self.checkpoint,
            losses: self.losses.iter().rev().cloned().collect(),
        }
    }

    fn add_decision(&mut self, (time, now_s): (SystemTime, u64), decision: &Decision, keep: bool) {
        self.window.count(now_s, decision);
        self.minutes.count(minute(now_s), decision);
        let is_answered = decision.verdict == Verdict::Allow;
        if decision.verdict == Verdict::Deny {
            self.extend_streak(time, RejectionKey::new(decision));
        }
        if is_answered && !keep {
            return;
        }
        let row = Arc::new(DecisionRow::new(time, decision));
        if !is_answered {
            push(&mut self.refused, Arc::clone(&row), KEPT_DECISIONS);
        }
        push(&mut self.decisions, row, KEPT_DECISIONS);
    }

    fn extend_streak(&mut self, time: SystemTime, key: RejectionKey) {
        if let Some(streak) = self.streaks.get_mut(&key) {
            let pause = time.duration_since(streak.last).unwrap_or_default();
            if pause >= STREAK_PAUSE {
                streak.first = time;
            }
            streak.last = streak.last.max(time);
            return;
        }
        if self.streaks.len() >= KEPT_STREAKS {
            let oldest = self.streaks.iter().min_by_key(|(_, streak)| streak.last);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.streaks.remove(&oldest);
            }
        }
        let (first, last) = (time, time);
        self.streaks.insert(key, Streak { first, last });
    }

    /// Adds an alert about requests. The gate's own state is shown as conditions.
    fn add_alert(&mut self, time: SystemTime, minute: u64, record: &AlertRecord) {
        let rule = WatchRule::from_name(&record.rule);
        if rule.is_some_and(WatchRule::is_about_gate) {
            return;
        }
        if record.is_over() && record.cause.is_some() {
            let alerts = self.alerts.iter_mut();
            let of_cause = alerts.filter(|it| it.record.cause == record.cause);
            of_cause.for_each(|it| it.is_over = true);
        }
        if record.state.is_some() {
            return;
        }
        make_room(&mut self.alerts, KEPT_ALERTS, |it| {
            it.record.is_about_source()
        });
        self.alerts.push_back(AlertRow {
            time,
            minute,
            record: record.clone(),
            is_over: false,
        });
    }

    fn add_other(&mut self, time: SystemTime, event: &Event) {
        match event {
            Event::Policy { generation } => {
                let generation = generation.clone();
                push(
                    &mut self.policies,
                    PolicyRow { time, generation },
                    KEPT_CHANGES,
                );
            }
            Event::Artifact(record) => {
                let record = record.clone();
                push(
                    &mut self.artifacts,
                    ArtifactRow { time, record },
                    KEPT_CHANGES,
                );
            }
            Event::Checkpoint {
                decisions, dropped, ..
            } => {
                self.checkpoint = Some(CheckpointRow {
                    time,
                    decisions: *decisions,
                    dropped: *dropped,
                });
            }
            Event::Dropped { count, cause } => {
                let (count, cause) = (*count, cause.clone());
                push(
                    &mut self.losses,
                    LossRow { time, count, cause },
                    KEPT_LOSSES,
                );
            }
            Event::Lost {
                vm,
                first: _,
                count,
            } => {
                let (count, cause) = (*count, format!("entries of Envoy's filter VM {vm}"));
                push(
                    &mut self.losses,
                    LossRow { time, count, cause },
                    KEPT_LOSSES,
                );
            }
            _ => {}
        }
    }
}

/// The minute of a time in seconds.
const fn minute(now_s: u64) -> u64 {
    now_s.div_euclid(60)
}

/// Adds a row. Beyond the bound the oldest one goes.
fn push<T>(rows: &mut VecDeque<T>, row: T, most: usize) {
    if rows.len() >= most {
        rows.pop_front();
    }
    rows.push_back(row);
}

#[cfg(test)]
mod tests;
