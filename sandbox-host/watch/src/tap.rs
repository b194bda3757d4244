//! Takes the records of the audit log, and runs the rules on a thread of their own.
//!
//! The thread that writes the log only makes summaries and puts them into a bounded queue, without
//! waiting. Summaries that find the queue full are dropped and counted. So rules delay neither the
//! log nor a request. While no rule runs, records are not even summarised.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tensorgate_audit::RecordListener;
use tensorgate_audit::record::Event;
use tensorgate_policy::Policy;
use tensorgate_telemetry::metrics::Metrics;

use crate::alert::Alert;
use crate::failed_rules;
use crate::gate_alerts::GateAlerts;
use crate::learned_file::LearnedFile;
use crate::monitor::Monitor;
use crate::observation::Observation;
use crate::report::{AlertListener, Reporter, report_all};
use crate::settings::{CurrentSettings, WatchSettings};
use crate::time::Time;

/// The most batches in the queue.
const QUEUED_BATCHES: usize = 1_024;
/// The most records in the queue.
const QUEUED_RECORDS: usize = 16_384;
/// After the first record, how long more are gathered. Waking the thread for each one costs more
/// than judging it.
const GATHER_TIME: Duration = Duration::from_millis(10);

/// How often the thread looks for what is due without a record.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often what rules have learned is saved. It is also saved when the host stops.
const SAVE_INTERVAL: Duration = Duration::from_secs(300);

/// Summaries of the records of one write.
type Batch = Vec<Observation>;

/// What the thread of the rules gets.
enum Message {
    Seen(Batch),
    /// The names of the policy's clients.
    Clients(Vec<String>),
    /// It reports what would be due later, and answers.
    Pending(SyncSender<()>),
    /// It saves what rules have learned, and ends.
    Stop,
}

/// The end of the queue at the audit log.
pub struct Tap {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the tap and its thread share.
struct Shared {
    settings: Arc<CurrentSettings>,
    reporter: Arc<Mutex<Reporter>>,
    gate: Arc<GateAlerts>,
    /// The rules that still learn.
    learning: Mutex<Vec<&'static str>>,
    /// The number of records in the queue.
    queued: AtomicUsize,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").finish_non_exhaustive()
    }
}

impl Tap {
    /// Starts the thread that runs rules, with what they have saved in the file. It ends when the
    /// tap is dropped.
    pub fn start(
        settings: WatchSettings,
        metrics: &Arc<Metrics>,
        listeners: Vec<Arc<dyn AlertListener>>,
        learned: Option<LearnedFile>,
    ) -> io::Result<Self> {
        let (queue, batches) = sync_channel(QUEUED_BATCHES);
        let shared = Arc::new(Shared::new(settings, metrics, listeners)?);
        let (watched, counts) = (Arc::clone(&shared), Arc::clone(metrics));
        // The key of hashes is read before anything is hashed.
        let monitor = learned.as_ref().map(load).unwrap_or_default();
        let watching = move || {
            let monitor = watched.run(monitor, &batches, learned.as_ref(), &counts);
            save(&monitor, learned.as_ref());
        };
        let thread = std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(watching)?;
        Ok(Self {
            queue,
            shared,
            metrics: Arc::clone(metrics),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Shows the clients of a policy to the rules: the first use of one that was just added is
    /// expected.
    pub fn set_clients(&self, policy: &Policy) {
        let names = policy
            .clients()
            .iter()
            .map(|client| client.name().to_owned());
        // With a full queue, the first use of a new client may be reported.
        let _ = self.queue.try_send(Message::Clients(names.collect()));
    }

    /// Reports what would be due later, because the host stops: to be called before the audit log
    /// ends. It waits for the rules.
    pub fn report_pending(&self) {
        let (answer, answered) = sync_channel(1);
        if self.queue.send(Message::Pending(answer)).is_ok() {
            // After a panic of the thread, nothing is pending.
            let _ = answered.recv();
        }
        self.shared.gate.report_pending();
    }

    /// Saves what rules have learned, and ends their thread. It waits for them.
    pub fn end(&self) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // Without a receiver, or after a panic, it has ended.
            let _ = self.queue.send(Message::Stop);
            let _ = thread.join();
        }
    }

    /// Sets the settings and clients of a policy that replaces another one.
    pub fn follow(&self, policy: &Policy, generation: &str) {
        let settings = &self.shared.settings;
        settings.replace(policy, generation, SystemTime::now());
        self.set_clients(policy);
    }

    /// Reports conditions of the gate.
    pub fn gate_alerts(&self) -> Arc<GateAlerts> {
        Arc::clone(&self.shared.gate)
    }

    /// The name of the gateway in alerts.
    pub fn gateway_name(&self) -> String {
        self.shared.settings.get().gateway.to_string()
    }

    /// The rules that run and cannot know yet what is usual.
    pub fn learning(&self) -> Vec<&'static str> {
        let learning = self.shared.learning.lock();
        learning.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl RecordListener for Tap {
    fn written(&self, events: &[(SystemTime, Event)]) {
        if !self.shared.settings.get().running.reads_records() {
            return;
        }
        let seen = events.iter().map(|(_, event)| event);
        let batch: Batch = seen.filter_map(Observation::from_event).collect();
        let count = batch.len();
        if count == 0 {
            return;
        }
        // Only this thread adds, so the sum is never above the limit.
        let queued = &self.shared.queued;
        let has_room = queued.load(Ordering::Relaxed).saturating_add(count) <= QUEUED_RECORDS;
        if has_room {
            queued.fetch_add(count, Ordering::Relaxed);
            if self.queue.try_send(Message::Seen(batch)).is_ok() {
                return;
            }
            queued.fetch_sub(count, Ordering::Relaxed);
        }
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.metrics.watch_dropped.inc_by(count);
    }
}

/// The next message. After a wait for records, more of them are gathered.
fn next(batches: &Receiver<Message>) -> Result<Message, RecvTimeoutError> {
    match batches.try_recv() {
        Ok(message) => return Ok(message),
        Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
        Err(TryRecvError::Empty) => {}
    }
    let message = batches.recv_timeout(LOOK_EVERY);
    if matches!(message, Ok(Message::Seen(_))) {
        std::thread::sleep(GATHER_TIME);
    }
    message
}

/// A monitor with what rules have saved, or one that learns anew.
fn load(file: &LearnedFile) -> Monitor {
    let damaged = || "it is damaged, or another release has written it".to_owned();
    let loaded = file.read().and_then(|learned| {
        let monitor = learned.map(|learned| Monitor::load(&learned).ok_or_else(damaged));
        monitor.transpose()
    });
    match loaded {
        Ok(monitor) => monitor.unwrap_or_default(),
        Err(cause) => {
            let path = file.path().display();
            tracing::warn!(
                "anomaly rules learn anew what is usual: cannot use {path}: {cause}; it is replaced"
            );
            Monitor::default()
        }
    }
}

/// Saves what rules have learned. If it fails, the rules go on.
fn save(monitor: &Monitor, file: Option<&LearnedFile>) {
    let Some(file) = file else {
        return;
    };
    if let Err(error) = file.write(&monitor.save()) {
        let path = file.path().display();
        tracing::warn!("cannot save to {path} what anomaly rules have learned: {error}");
    }
}

/// The time of day at the start, or the last saved time: times of rules never go back.
fn first_time(monitor: &Monitor) -> Time {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let clock = Time::default().after(clock.unwrap_or_default());
    clock.max(monitor.latest())
}

impl Shared {
    fn new(
        settings: WatchSettings,
        metrics: &Arc<Metrics>,
        listeners: Vec<Arc<dyn AlertListener>>,
    ) -> io::Result<Self> {
        let settings = Arc::new(CurrentSettings::new(settings));
        let reporter = Reporter::new(Arc::clone(metrics), listeners)?;
        let reporter = Arc::new(Mutex::new(reporter));
        let gate = GateAlerts::new(Arc::clone(&reporter), Arc::clone(&settings));
        Ok(Self {
            settings,
            reporter,
            gate: Arc::new(gate),
            learning: Mutex::default(),
            queued: AtomicUsize::new(0),
        })
    }

    /// Runs the rules over each batch. Times are those of its arrival, by a clock that no one sets,
    /// so a jump of the time of day changes no window. Returns the monitor when the host stops.
    fn run(
        &self,
        mut monitor: Monitor,
        batches: &Receiver<Message>,
        learned: Option<&LearnedFile>,
        metrics: &Metrics,
    ) -> Monitor {
        let (started, first) = (Instant::now(), first_time(&monitor));
        let (mut saved, mut looked) = (started, None::<Instant>);
        let mut shared_uses = 0_u64;
        loop {
            if saved.elapsed() >= SAVE_INTERVAL {
                save(&monitor, learned);
                saved = Instant::now();
            }
            let batch = match next(batches) {
                Ok(Message::Seen(batch)) => {
                    self.queued.fetch_sub(batch.len(), Ordering::Relaxed);
                    batch
                }
                Ok(Message::Clients(names)) => {
                    monitor.set_clients(&names, first.after(started.elapsed()));
                    continue;
                }
                Ok(Message::Pending(answer)) => {
                    self.report(monitor.take_pending(), &self.settings.get());
                    let _ = answer.send(());
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => Batch::new(),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return monitor,
            };
            let settings = self.settings.get();
            monitor.set_settings(&settings);
            let (now, clock) = (first.after(started.elapsed()), SystemTime::now());
            for seen in &batch {
                self.report(monitor.observe(seen, now, clock), &settings);
            }
            if looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
                continue;
            }
            looked = Some(Instant::now());
            self.report(monitor.due(now), &settings);
            self.gate.look();
            let learning = monitor.learning();
            *self.learning.lock().unwrap_or_else(PoisonError::into_inner) = learning;
            failed_rules::report(monitor.take_failed(), metrics);
            let uses = monitor.shared_uses();
            let more = uses.saturating_sub(shared_uses);
            metrics.watch_shared.inc_by(more);
            shared_uses = uses;
        }
    }

    fn report(&self, alerts: Vec<Alert>, settings: &WatchSettings) {
        report_all(&self.reporter, alerts, &settings.gateway);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tensorgate_audit::record::Decision;
    use tensorgate_telemetry::labels::AlertLabels;

    use super::*;
    use crate::settings::RuleSet;

    fn settings(rules: RuleSet) -> WatchSettings {
        WatchSettings::running(rules)
    }

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
        let tap = Tap::start(settings(rules), &metrics, Vec::new(), None).unwrap();
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
    fn rules_that_need_requests_first_are_listed_as_learning() {
        let metrics = Arc::new(Metrics::new());
        let tap = Tap::start(settings(RuleSet(u64::MAX)), &metrics, Vec::new(), None).unwrap();
        tap.written(&[management()]);
        let started = Instant::now();
        while tap.learning().is_empty() && started.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let learning = tap.learning();
        assert!(learning.contains(&"volume") && learning.contains(&"confidence"));
        assert!(!learning.contains(&"management"), "{learning:?}");
    }

    #[test]
    fn what_was_learned_is_saved_at_the_end_and_read_at_the_start() {
        let folder = std::env::temp_dir().join(format!("tg-tap-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = || LearnedFile::beside(&folder.join("decisions.jsonl"));
        let metrics = Arc::new(Metrics::new());
        let first = SystemTime::now();
        for _ in 0..2 {
            let rules = settings(RuleSet(u64::MAX));
            let tap = Tap::start(rules, &metrics, Vec::new(), Some(file())).unwrap();
            tap.written(&[management()]);
            tap.end();
        }
        let monitor = load(&file());
        let started = Time::default().after(first.duration_since(UNIX_EPOCH).unwrap());
        assert!(monitor.latest() >= started, "it has the time of day");
        std::fs::write(file().path(), "damaged").unwrap();
        assert_eq!(load(&file()).latest(), Time::default(), "it learns anew");
        let _ = std::fs::remove_dir_all(&folder);
    }

    #[test]
    fn times_go_on_after_the_last_saved_one_if_the_clock_was_set_back() {
        let mut monitor = Monitor::default();
        assert!(first_time(&monitor) > Time::from_s(1_700_000_000));
        let later = Time::from_s(1 << 40);
        monitor.observe(&Observation::default(), later, UNIX_EPOCH);
        assert_eq!(first_time(&monitor), later);
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let metrics = Arc::new(Metrics::new());
        let (queue, batches) = sync_channel(1);
        let rules = settings(RuleSet(u64::MAX));
        let shared = Shared::new(rules, &metrics, Vec::new()).unwrap();
        let tap = Tap {
            queue,
            shared: Arc::new(shared),
            metrics: Arc::clone(&metrics),
            thread: Mutex::new(None),
        };
        let events = [management(), management(), (SystemTime::now(), Event::Stop)];
        (0..3).for_each(|_| tap.written(&events));
        assert_eq!(metrics.watch_dropped.get(), 4);
        assert_eq!(batches.try_iter().count(), 1);
    }

    #[test]
    fn records_are_bounded_also_where_batches_are_few() {
        let metrics = Arc::new(Metrics::new());
        let tap = Tap::start(settings(RuleSet(u64::MAX)), &metrics, Vec::new(), None).unwrap();
        tap.shared
            .queued
            .store(QUEUED_RECORDS - 1, Ordering::Relaxed);
        tap.written(&[management(), management()]);
        assert_eq!(metrics.watch_dropped.get(), 2);
        tap.written(&[management()]);
        assert_eq!(metrics.watch_dropped.get(), 2);
        // What was judged makes room again.
        while tap.shared.queued.load(Ordering::Relaxed) >= QUEUED_RECORDS {
            std::thread::yield_now();
        }
    }
}
