//! Sends spans to their receiver in the background: a bounded queue, batches, and a few attempts.
//! No request waits for it. Spans that do not fit or cannot be sent are dropped and counted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use prost::Message as _;
use tensorgate_net::post::otlp::{Delivery, OtlpClient};
use tensorgate_telemetry::labels::SpanLabels;
use tensorgate_telemetry::metrics::Metrics;
use tensorgate_telemetry::spans::{Span, SpanSink};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::encode;

/// The most requests whose spans wait.
const QUEUE_REQUESTS: usize = 2_048;
/// The most spans that wait. A request has a few, and a stream of responses may have many.
const QUEUE_SPANS: usize = 8_192;
/// The number of spans at which a batch is complete, as in the OpenTelemetry SDKs. It is exceeded
/// by the spans of one request at most.
const BATCH_SPANS: usize = 512;
/// How long the first spans wait for others to be sent with them.
const GATHER_TIME: Duration = Duration::from_secs(1);
/// The timeout of an attempt, including name resolution, as in the OpenTelemetry SDKs.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most attempts to send a batch.
const ATTEMPTS: u32 = 4;
/// The first pause after a failure. Each further failure of a batch doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that a receiver may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The spans of a request that wait, and their room in the queue.
pub(super) type WaitingSpans = (Vec<Span>, OwnedSemaphorePermit);

/// The spans that wait to be sent.
#[derive(Debug)]
pub(super) struct SpanQueue {
    sender: mpsc::Sender<WaitingSpans>,
    room: Arc<Semaphore>,
    dropped: Counter,
}

impl SpanQueue {
    pub(super) fn new(metrics: &Metrics) -> (Self, mpsc::Receiver<WaitingSpans>) {
        let (sender, receiver) = mpsc::channel(QUEUE_REQUESTS);
        let queue = Self {
            sender,
            room: Arc::new(Semaphore::new(QUEUE_SPANS)),
            dropped: dropped(metrics, "queue"),
        };
        (queue, receiver)
    }

    /// Adds the spans of a request. Returns `false` if there is no room.
    fn add(&self, spans: Vec<Span>) -> bool {
        let Ok(count) = u32::try_from(spans.len()) else {
            return false;
        };
        let room = Arc::clone(&self.room).try_acquire_many_owned(count);
        room.is_ok_and(|room| self.sender.try_send((spans, room)).is_ok())
    }
}

impl SpanSink for SpanQueue {
    fn take(&self, spans: Vec<Span>) {
        let count = wide(spans.len());
        if !self.add(spans) {
            self.dropped.inc_by(count);
        }
    }
}

/// The loop that sends spans.
pub(super) struct Exporter {
    client: OtlpClient,
    receiver: mpsc::Receiver<WaitingSpans>,
    ending: watch::Receiver<bool>,
    exported: Counter,
    failed: Counter,
    rejected: Counter,
    is_failing: bool,
}

impl Exporter {
    pub(super) fn new(
        client: OtlpClient,
        receiver: mpsc::Receiver<WaitingSpans>,
        metrics: &Metrics,
        ending: watch::Receiver<bool>,
    ) -> Self {
        Self {
            client,
            receiver,
            ending,
            exported: metrics.spans_exported.clone(),
            failed: dropped(metrics, "failed"),
            rejected: dropped(metrics, "rejected"),
            is_failing: false,
        }
    }

    /// Sends spans until the host stops, and then those that wait.
    pub(super) async fn run(mut self) {
        loop {
            let first = tokio::select! {
                first = self.receiver.recv() => first,
                _ = self.ending.wait_for(|ending| *ending) => self.receiver.try_recv().ok(),
            };
            let Some((mut batch, room)) = first else {
                return;
            };
            drop(room);
            self.gather(&mut batch).await;
            self.send(batch).await;
        }
    }

    /// Adds the spans of further requests, as long as they arrive soon.
    async fn gather(&mut self, batch: &mut Vec<Span>) {
        let length = match self.is_ending() {
            true => Duration::ZERO,
            false => GATHER_TIME,
        };
        let until = Instant::now().checked_add(length);
        let until = until.unwrap_or_else(Instant::now);
        while batch.len() < BATCH_SPANS {
            let Ok(Some((more, _room))) = timeout_at(until, self.receiver.recv()).await else {
                return;
            };
            batch.extend(more);
        }
    }

    /// Sends a batch until it is received, or a number of times. During a shutdown it is sent once.
    async fn send(&mut self, batch: Vec<Span>) {
        let count = wide(batch.len());
        let body = Bytes::from(encode::request(&batch).encode_to_vec());
        drop(batch);
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=ATTEMPTS {
            let sending = timeout(TIMEOUT, self.client.send(body.clone(), Vec::new()));
            let late = |_| Delivery::failed("the receiver did not answer in time");
            let (cause, requested) = match sending.await.unwrap_or_else(late) {
                Delivery::Received { rejected, why } => {
                    let rejected = rejected.min(count);
                    self.exported.inc_by(count.saturating_sub(rejected));
                    if rejected > 0 {
                        self.rejected.inc_by(rejected);
                        tracing::warn!(count = rejected, cause = why, "spans were rejected");
                    }
                    if std::mem::take(&mut self.is_failing) {
                        tracing::info!("spans are exported again");
                    }
                    return;
                }
                Delivery::Unusable(cause) => {
                    self.rejected.inc_by(count);
                    tracing::warn!(count, cause, "spans were rejected");
                    return;
                }
                Delivery::Failed { cause, pause } => (cause, pause),
            };
            if !std::mem::replace(&mut self.is_failing, true) {
                tracing::warn!(cause, "spans cannot be exported");
            }
            if attempt < ATTEMPTS && !self.is_ending() {
                let length = pause.max(requested.unwrap_or_default()).min(MAX_PAUSE);
                pause = pause.saturating_mul(2);
                let mut ending = self.ending.clone();
                tokio::select! {
                    () = sleep(length) => {}
                    _ = ending.wait_for(|ending| *ending) => {}
                }
            }
            if self.is_ending() {
                break;
            }
        }
        self.failed.inc_by(count);
    }

    /// Whether the host is stopping, or has dropped its end.
    fn is_ending(&self) -> bool {
        *self.ending.borrow() || self.ending.has_changed().is_err()
    }
}

/// The count of spans that were dropped for a cause, which has a value from now on.
fn dropped(metrics: &Metrics, cause: &'static str) -> Counter {
    let labels = SpanLabels { cause };
    metrics.spans_dropped.get_or_create_owned(&labels)
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
