//! The webhooks for alerts: each alert is sent to the URLs of the policy that want its severity,
//! until the server there accepts it.
//!
//! Every rule has two queues and tasks of its own for each webhook, one for alerts about sources
//! and one for others. So neither a flood of one alert, nor a retry, nor a server that hangs delays
//! or displaces another alert. Anyone can make alerts about sources, and they take no room from
//! those about clients and models. A full queue drops alerts and counts them, and so does the end
//! of the host. They are in the audit log in any case.
//!
//! Messages follow Standard Webhooks: an ID that is the same in each attempt, a timestamp, and an
//! HMAC over both and the body (`secret`). `target` sends one attempt, and [`schedule`] says when
//! the next one is due. A server can make an attempt as slow as its timeout and no slower: its
//! response is not read beyond the status, and redirects are not followed.

mod message;
pub mod schedule;
mod secret;
mod target;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use tensorgate_audit::record::AlertRecord;
use tensorgate_net::resolve::Resolve;
use tensorgate_os_sandbox as os_sandbox;
use tensorgate_telemetry::labels::WebhookLabels;
use tensorgate_telemetry::metrics::Metrics;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

use crate::alert::Alert;
use crate::report::AlertListener;
use message::Message;
use schedule::Schedule;
pub use secret::SecretFault;
pub use target::{Target, WebhookFault};

/// The most alerts in a queue, beside the one that is being sent.
pub const QUEUED_ALERTS: usize = 16;

/// The number of a webhook in the policy, a rule, and whether the alerts are about sources. The
/// numbers of webhooks and of rules bound their number.
type Lane = (usize, &'static str, bool);

/// Sends alerts.
pub struct AlertWebhook {
    shared: Arc<Shared>,
    lanes: Mutex<HashMap<Lane, LaneTask>>,
    runtime: Handle,
}

/// What the tasks of all lanes share.
struct Shared {
    /// In the order of the policy.
    targets: RwLock<Vec<Arc<Target>>>,
    resolver: Arc<dyn Resolve>,
    schedule: Schedule,
    metrics: Arc<Metrics>,
}

/// The queue of a lane, and the task that sends its alerts in order.
struct LaneTask {
    queue: Sender<Message>,
    unfinished: Arc<Unfinished>,
    task: JoinHandle<()>,
}

impl Drop for LaneTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The number of a lane's alerts that are queued or being sent.
#[derive(Default)]
struct Unfinished(AtomicU64);

impl Unfinished {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one, to count its outcome. Returns false if `end` has counted it as dropped.
    fn take(&self) -> bool {
        let one_less = |count: u64| count.checked_sub(1);
        let taken = (self.0).fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        taken.is_ok()
    }

    /// Takes all, and returns their number.
    fn take_all(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// What became of an alert.
#[derive(Clone, Copy)]
enum DeliveryOutcome {
    Delivered,
    Failed,
    Dropped,
}

impl DeliveryOutcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

impl AlertWebhook {
    /// Creates webhooks without a target. Must be called within a Tokio runtime, on which alerts
    /// are sent.
    pub fn new(resolver: Arc<dyn Resolve>, schedule: Schedule, metrics: Arc<Metrics>) -> Self {
        Self {
            shared: Arc::new(Shared {
                targets: RwLock::default(),
                resolver,
                schedule,
                metrics,
            }),
            lanes: Mutex::default(),
            runtime: Handle::current(),
        }
    }

    /// Sets where alerts are sent. Those that are queued go to the webhook that is now at the same
    /// place in the policy.
    pub fn set_targets(&self, targets: Vec<Arc<Target>>) {
        let mut current = (self.shared.targets.write()).unwrap_or_else(PoisonError::into_inner);
        *current = targets;
    }

    /// Stops sending. Counts and logs the alerts that are left as dropped.
    pub fn end(&self) {
        self.set_targets(Vec::new());
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dropped = 0_u64;
        for ((_, rule, _), lane) in lanes.drain() {
            let left = lane.unfinished.take_all();
            self.shared.count(rule, DeliveryOutcome::Dropped, left);
            dropped = dropped.saturating_add(left);
        }
        drop(lanes);
        if dropped > 0 {
            tracing::warn!(
                dropped,
                "the host stops before the webhook accepted all alerts: see `tensorgate alerts`"
            );
        }
    }
}

impl AlertListener for AlertWebhook {
    fn raised(&self, alert: &Alert, record: &AlertRecord) {
        let targets = self.shared.targets();
        if targets.is_empty() {
            return;
        }
        let Some(message) = Message::new(record, alert.context.severity, SystemTime::now()) else {
            return;
        };
        let is_source = alert.finding.subject.is_source();
        let wanted = targets.iter().enumerate();
        for (index, _) in wanted.filter(|(_, target)| target.takes(&message)) {
            self.queue((index, alert.rule, is_source), message.clone());
        }
    }
}

impl AlertWebhook {
    fn queue(&self, lane: Lane, message: Message) {
        let (index, rule, _) = lane;
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let task = lanes.entry(lane).or_insert_with(|| {
            let (queue, messages) = channel(QUEUED_ALERTS);
            let unfinished = Arc::<Unfinished>::default();
            let (shared, counted) = (Arc::clone(&self.shared), Arc::clone(&unfinished));
            let sending = send_all(shared, (index, rule), messages, counted);
            let task = self.runtime.spawn(sending);
            LaneTask {
                queue,
                unfinished,
                task,
            }
        });
        // Counted first, so that the task finds it counted.
        task.unfinished.add();
        if task.queue.try_send(message).is_err() && task.unfinished.take() {
            self.shared.count(rule, DeliveryOutcome::Dropped, 1);
        }
    }
}

/// Sends the alerts of a lane, one after the other.
async fn send_all(
    shared: Arc<Shared>,
    (index, rule): (usize, &'static str),
    mut messages: Receiver<Message>,
    unfinished: Arc<Unfinished>,
) {
    let sender: Arc<str> = Arc::from(rule);
    while let Some(message) = messages.recv().await {
        let outcome = shared.deliver(index, &sender, &message).await;
        if unfinished.take() {
            shared.count(rule, outcome, 1);
        }
    }
}

impl Shared {
    fn targets(&self) -> Vec<Arc<Target>> {
        let targets = self.targets.read().unwrap_or_else(PoisonError::into_inner);
        targets.clone()
    }

    /// The webhook at a place, if it wants a message.
    fn target(&self, index: usize, message: &Message) -> Option<Arc<Target>> {
        let targets = self.targets.read().unwrap_or_else(PoisonError::into_inner);
        let target = targets.get(index).filter(|it| it.takes(message));
        target.map(Arc::clone)
    }

    /// Tries to send an alert until the server accepts it, or until it had its attempts.
    async fn deliver(&self, index: usize, sender: &Arc<str>, message: &Message) -> DeliveryOutcome {
        let (rule, id) = (&**sender, message.id.as_str());
        for failed in 1..=self.schedule.attempts {
            // A policy without a webhook may have been loaded meanwhile.
            let Some(target) = self.target(index, message) else {
                return DeliveryOutcome::Dropped;
            };
            let sending = target.send(message, &*self.resolver, sender);
            let sent = tokio::time::timeout(self.schedule.timeout, sending).await;
            let sent = sent.unwrap_or_else(|_| Err("no response within the timeout".to_owned()));
            let Err(cause) = sent else {
                return DeliveryOutcome::Delivered;
            };
            let cause = os_sandbox::with_hint(&cause);
            tracing::warn!(rule, id, attempt = failed, cause, "the webhook failed");
            if failed < self.schedule.attempts {
                tokio::time::sleep(self.schedule.pause(failed)).await;
            }
        }
        tracing::error!(rule, id, "an alert was not accepted by the webhook");
        DeliveryOutcome::Failed
    }

    fn count(&self, rule: &'static str, outcome: DeliveryOutcome, alerts: u64) {
        let labels = WebhookLabels {
            rule,
            outcome: outcome.name(),
        };
        let counter = self.metrics.alert_webhooks.get_or_create(&labels);
        counter.inc_by(alerts);
    }
}
