//! Takes the records of the audit log, and runs the rules on a thread of their own.
//!
//! The thread that writes the log only makes summaries and puts them into a bounded queue, without
//! waiting. Summaries that find the queue full are dropped and counted. So rules delay neither the
//! log nor a request. While no rule runs, records are not even summarised.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Instant, SystemTime};

use tensorgate_audit::RecordListener;
use tensorgate_audit::record::Event;
use tensorgate_telemetry::metrics::Metrics;

use crate::failed_rules;
use crate::monitor::{Monitor, RuleSet};
use crate::observation::Observation;
use crate::report::{AlertListener, Reporter};
use crate::time::Time;

/// The most batches in the queue. A batch has the records of one write, about a thousand at most.
const QUEUED_BATCHES: usize = 16;

/// Summaries of the records of one write.
type Batch = Vec<Observation>;

/// The end of the queue at the audit log.
#[derive(Debug)]
pub struct Tap {
    queue: SyncSender<Batch>,
    running: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
}

impl Tap {
    /// Starts the thread that runs rules. It ends when the tap is dropped.
    pub fn start(
        rules: RuleSet,
        metrics: &Arc<Metrics>,
        listeners: Vec<Arc<dyn AlertListener>>,
    ) -> io::Result<Self> {
        let (queue, batches) = sync_channel(QUEUED_BATCHES);
        let running = Arc::new(AtomicU64::new(rules.0));
        let (runs, counts) = (Arc::clone(&running), Arc::clone(metrics));
        let mut reporter = Reporter::new(Arc::clone(metrics), listeners)?;
        std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || run(&batches, &runs, &mut reporter, &counts))?;
        Ok(Self {
            queue,
            running,
            metrics: Arc::clone(metrics),
        })
    }

    /// Sets which rules run.
    pub fn set_rules(&self, rules: RuleSet) {
        self.running.store(rules.0, Ordering::Relaxed);
    }
}

impl RecordListener for Tap {
    fn written(&self, events: &[(SystemTime, Event)]) {
        if RuleSet(self.running.load(Ordering::Relaxed)).is_empty() {
            return;
        }
        let seen = events.iter().map(|(_, event)| event);
        let batch: Batch = seen.filter_map(Observation::from_event).collect();
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        if count > 0 && self.queue.try_send(batch).is_err() {
            self.metrics.watch_dropped.inc_by(count);
        }
    }
}

/// Runs the rules over each batch. Times are those of its arrival, by a clock that no one sets, so
/// a jump of the time of day changes no window.
fn run(batches: &Receiver<Batch>, running: &AtomicU64, reporter: &mut Reporter, metrics: &Metrics) {
    let started = Instant::now();
    let mut monitor = Monitor::default();
    let mut shared_uses = 0_u64;
    while let Ok(batch) = batches.recv() {
        monitor.set_rules(RuleSet(running.load(Ordering::Relaxed)));
        let (now, clock) = (Time::since_start(started.elapsed()), SystemTime::now());
        for seen in &batch {
            for alert in monitor.observe(seen, now, clock) {
                reporter.report(alert);
            }
        }
        failed_rules::report(monitor.take_failed(), metrics);
        let uses = monitor.shared_uses();
        let more = uses.saturating_sub(shared_uses);
        metrics.watch_shared.inc_by(more);
        shared_uses = uses;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::Duration;

    use tensorgate_audit::record::Decision;
    use tensorgate_telemetry::labels::AlertLabels;

    use super::*;

    /// The record of a rejected request for a server's management.
    fn management() -> (SystemTime, Event) {
        let decision = Decision {
            source: Some("203.0.113.10".into()),
            reason: "not-an-inference-route".into(),
            method: Some("POST".into()),
            path: Some("/v2/repository/models/m/load".into()),
            ..Decision::default()
        };
        (SystemTime::now(), Event::Decision(Box::new(decision)))
    }

    /// The number of alerts after a record, once it is 1 or half a second has passed.
    fn alerts(rules: RuleSet) -> u64 {
        let metrics = Arc::new(Metrics::new());
        let tap = Tap::start(rules, &metrics, Vec::new()).unwrap();
        tap.written(&[management()]);
        let labels = AlertLabels { rule: "management" };
        let count = || metrics.alerts.get_or_create(&labels).get();
        let started = Instant::now();
        while count() == 0 && started.elapsed() < Duration::from_millis(500) {
            std::thread::sleep(Duration::from_millis(1));
        }
        count()
    }

    #[test]
    fn a_written_record_becomes_an_alert_unless_its_rule_is_off() {
        assert_eq!(alerts(RuleSet(u64::MAX)), 1);
        assert_eq!(alerts(RuleSet(0)), 0);
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let metrics = Arc::new(Metrics::new());
        let (queue, batches) = sync_channel(1);
        let tap = Tap {
            queue,
            running: Arc::new(AtomicU64::new(u64::MAX)),
            metrics: Arc::clone(&metrics),
        };
        let events = [management(), management(), (SystemTime::now(), Event::Stop)];
        (0..3).for_each(|_| tap.written(&events));
        assert_eq!(metrics.watch_dropped.get(), 4);
        assert_eq!(batches.try_iter().count(), 1);
    }
}
