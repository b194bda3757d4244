//! The webhook for alerts: each alert is sent to the URL of the policy until the server accepts it.
//!
//! Every rule has two queues and tasks of its own, one for alerts about sources and one for others.
//! So neither a flood of one alert nor a retry delays or displaces another alert. Anyone can
//! make alerts about sources, and they take no room from those about clients and models. A full
//! queue drops alerts and counts them. They are in the audit log in any case.
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
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

use crate::audit::record::AlertRecord;
use crate::egress::Resolve;
use crate::sandbox::os_sandbox;
use crate::telemetry::labels::WebhookLabels;
use crate::telemetry::metrics::Metrics;
use crate::watch::Alert;
use crate::watch::report::AlertListener;
use message::Message;
use schedule::Schedule;
pub use secret::SecretFault;
pub use target::{Target, WebhookFault};

/// The most alerts in a queue, beside the one that is being sent.
pub const QUEUED_ALERTS: usize = 16;

/// A rule, and whether the alerts are about sources. The number of rules bounds their number.
type Lane = (&'static str, bool);

/// Sends alerts.
pub struct AlertWebhook {
    shared: Arc<Shared>,
    lanes: Mutex<HashMap<Lane, LaneTask>>,
    runtime: Handle,
}

/// What the tasks of all lanes share.
struct Shared {
    target: RwLock<Option<Arc<Target>>>,
    resolver: Arc<dyn Resolve>,
    schedule: Schedule,
    metrics: Arc<Metrics>,
}

/// The queue of a lane, and the task that sends its alerts in order.
struct LaneTask {
    queue: Sender<Message>,
    task: JoinHandle<()>,
}

impl Drop for LaneTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What became of an alert.
#[derive(Clone, Copy)]
enum Outcome {
    Delivered,
    Failed,
    Dropped,
}

impl Outcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

impl AlertWebhook {
    /// Creates a webhook without a target. Must be called within a Tokio runtime, on which alerts
    /// are sent.
    pub fn new(resolver: Arc<dyn Resolve>, schedule: Schedule, metrics: Arc<Metrics>) -> Self {
        Self {
            shared: Arc::new(Shared {
                target: RwLock::new(None),
                resolver,
                schedule,
                metrics,
            }),
            lanes: Mutex::default(),
            runtime: Handle::current(),
        }
    }

    /// Sets where alerts are sent, those too that are queued.
    pub fn set_target(&self, target: Option<Arc<Target>>) {
        let mut current = (self.shared.target.write()).unwrap_or_else(PoisonError::into_inner);
        *current = target;
    }
}

impl AlertListener for AlertWebhook {
    fn raised(&self, alert: &Alert, record: &AlertRecord) {
        if self.shared.target().is_none() {
            return;
        }
        let lane = (alert.rule, alert.finding.subject.is_source());
        let Some(message) = Message::new(record, SystemTime::now()) else {
            return;
        };
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let task = lanes.entry(lane).or_insert_with(|| {
            let (queue, messages) = channel(QUEUED_ALERTS);
            let sending = send_all(Arc::clone(&self.shared), lane.0, messages);
            let task = self.runtime.spawn(sending);
            LaneTask { queue, task }
        });
        if task.queue.try_send(message).is_err() {
            self.shared.count(lane.0, Outcome::Dropped);
        }
    }
}

/// Sends the alerts of a lane, one after the other.
async fn send_all(shared: Arc<Shared>, rule: &'static str, mut messages: Receiver<Message>) {
    let sender: Arc<str> = Arc::from(rule);
    while let Some(message) = messages.recv().await {
        let outcome = shared.deliver(&sender, &message).await;
        shared.count(rule, outcome);
    }
}

impl Shared {
    fn target(&self) -> Option<Arc<Target>> {
        let target = self.target.read().unwrap_or_else(PoisonError::into_inner);
        target.clone()
    }

    /// Tries to send an alert until the server accepts it, or until it had its attempts.
    async fn deliver(&self, sender: &Arc<str>, message: &Message) -> Outcome {
        let (rule, id) = (&**sender, message.id.as_str());
        for failed in 1..=self.schedule.attempts {
            // A policy without a webhook may have been loaded meanwhile.
            let Some(target) = self.target() else {
                return Outcome::Dropped;
            };
            let sending = target.send(message, &*self.resolver, sender);
            let sent = tokio::time::timeout(self.schedule.timeout, sending).await;
            let sent = sent.unwrap_or_else(|_| Err("no response within the timeout".to_owned()));
            let Err(cause) = sent else {
                return Outcome::Delivered;
            };
            let cause = os_sandbox::with_hint(&cause);
            tracing::warn!(rule, id, attempt = failed, cause, "the webhook failed");
            if failed < self.schedule.attempts {
                tokio::time::sleep(self.schedule.pause(failed)).await;
            }
        }
        tracing::error!(rule, id, "an alert was not accepted by the webhook");
        Outcome::Failed
    }

    fn count(&self, rule: &'static str, outcome: Outcome) {
        let labels = WebhookLabels {
            rule,
            outcome: outcome.name(),
        };
        self.metrics.alert_webhooks.get_or_create(&labels).inc();
    }
}
