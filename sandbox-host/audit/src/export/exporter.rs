//! The loop of one exporter: reads a batch, sends it until it is received, keeps the position.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tensorgate_net::post::otlp::Delivery;
use tensorgate_telemetry::metrics::ExportMetrics;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::spool::{Record, Source, Spool};

/// How long the first record waits for others to be sent with it.
const GATHER_TIME: Duration = Duration::from_millis(200);
/// The first pause after a failure. Each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause that a receiver may ask for.
const MAX_REQUESTED_PAUSE: Duration = Duration::from_secs(300);
/// The interval at which the lag is updated while records wait.
const LAG_INTERVAL: Duration = Duration::from_secs(1);

/// Receives batches of records.
pub(super) trait Receiver: Send + Sync + 'static {
    /// Sends a batch, which is not empty.
    fn send(&mut self, batch: &[Record]) -> impl Future<Output = Delivery> + Send;
}

/// An exporter of an audit log.
pub(super) struct Exporter<R> {
    name: &'static str,
    receiver: R,
    spool: Arc<Mutex<Spool>>,
    /// The number of the last written record.
    written: watch::Receiver<u64>,
    ending: watch::Receiver<bool>,
    counts: ExportMetrics,
    /// Records that are not received yet.
    pending: Vec<Record>,
    /// The most records in the next batch.
    batch_records: usize,
    /// The number of the last record that was received.
    received: u64,
    /// The pause after the next failure.
    pause: Duration,
    is_failing: bool,
    is_position_kept: bool,
}

impl<R: Receiver> Exporter<R> {
    pub(super) fn new(
        name: &'static str,
        receiver: R,
        source: Source,
        counts: ExportMetrics,
        ending: watch::Receiver<bool>,
    ) -> Self {
        Self {
            name,
            receiver,
            spool: Arc::new(Mutex::new(Spool::new(&source, name))),
            written: source.written,
            ending,
            counts,
            pending: Vec::new(),
            batch_records: usize::MAX,
            received: 0,
            pause: FIRST_PAUSE,
            is_failing: false,
            is_position_kept: true,
        }
    }

    /// Exports records until the log is closed. During a shutdown it ends once all records are
    /// received, or at the first failure.
    pub(super) async fn run(mut self) {
        loop {
            if self.pending.is_empty() && !self.has_more().await {
                return;
            }
            if self.pending.is_empty() {
                self.refill().await;
            }
            if !self.pending.is_empty() {
                self.send().await;
            }
            if self.is_failing && self.is_ending() {
                return;
            }
        }
    }

    /// Waits until there are records to read. Returns `false` if there will be none.
    async fn has_more(&mut self) -> bool {
        loop {
            let last_written = *self.written.borrow_and_update();
            let position = move |spool: &mut Spool| spool.position(last_written);
            match self.with_spool(position).await {
                Ok(next) if next <= last_written => return true,
                Ok(next) => {
                    self.received = next.saturating_sub(1);
                    self.update_lag();
                }
                Err(cause) => {
                    self.failed(&cause, None).await;
                    if self.is_ending() {
                        return false;
                    }
                    continue;
                }
            }
            if self.is_ending() {
                return false;
            }
            tokio::select! {
                changed = self.written.changed() => if changed.is_err() {
                    return false;
                },
                _ = self.ending.changed() => {}
            }
            if !self.is_ending() {
                sleep(GATHER_TIME).await;
            }
        }
    }

    /// Reads a batch.
    async fn refill(&mut self) {
        let last_written = *self.written.borrow();
        match self.with_spool(move |spool| spool.read(last_written)).await {
            Ok(records) => self.pending = records,
            Err(cause) => return self.failed(&cause, None).await,
        }
        if let Some(first) = self.pending.first() {
            self.received = first.seq.saturating_sub(first.lost.max(1));
        }
        self.update_lag();
        for record in self.pending.iter().filter(|record| record.lost > 0) {
            self.counts.lost.inc_by(record.lost);
            tracing::error!(
                exporter = self.name,
                count = record.lost,
                last = record.seq,
                "audit records were deleted before they were exported"
            );
        }
    }

    /// Sends the first records of those that wait.
    async fn send(&mut self) {
        let count = self.batch_records.clamp(1, self.pending.len());
        match self.deliver(count).await {
            Delivery::Received { rejected, why } => {
                let all = u64::try_from(count).unwrap_or(u64::MAX);
                let rejected = rejected.min(all);
                self.counts.exported.inc_by(all.saturating_sub(rejected));
                if rejected > 0 {
                    self.reject(rejected, &why);
                }
                self.worked();
                self.batch_records = usize::MAX;
                self.finish(count).await;
            }
            // The record that the receiver cannot use is found by halving.
            Delivery::Unusable(_) if count > 1 => self.batch_records = count.div_euclid(2),
            Delivery::Unusable(cause) => {
                self.reject(1, &cause);
                self.finish(count).await;
                // A receiver that can use nothing at all must not empty the log quickly.
                self.failed(&cause, None).await;
            }
            Delivery::Failed { cause, pause } => self.failed(&cause, pause).await,
        }
    }

    /// Sends a batch once. A receiver may never answer, so the lag is updated meanwhile.
    async fn deliver(&mut self, count: usize) -> Delivery {
        let Self {
            receiver,
            pending,
            counts,
            written,
            received,
            ..
        } = self;
        let batch = pending.get(..count).unwrap_or_default();
        let mut sending = pin!(receiver.send(batch));
        loop {
            tokio::select! {
                delivery = &mut sending => return delivery,
                () = sleep(LAG_INTERVAL) => set_lag(counts, written, *received),
            }
        }
    }

    /// Keeps the position after the first records.
    async fn finish(&mut self, count: usize) {
        let Some(last) = self.pending.drain(..count).next_back() else {
            return;
        };
        self.received = last.seq;
        self.update_lag();
        let kept = self.with_spool(move |spool| spool.keep(last.seq)).await;
        let was_kept = std::mem::replace(&mut self.is_position_kept, kept.is_ok());
        if let Err(cause) = kept {
            self.counts.failures.inc();
            if was_kept {
                tracing::error!(
                    exporter = self.name,
                    cause,
                    "cannot keep the position of an exporter: a restart exports records again"
                );
            }
        }
    }

    /// Counts records that the receiver does not accept.
    fn reject(&self, count: u64, cause: &str) {
        self.counts.rejected.inc_by(count);
        tracing::error!(
            exporter = self.name,
            count,
            cause,
            "a receiver rejected audit records"
        );
    }

    fn worked(&mut self) {
        self.pause = FIRST_PAUSE;
        if std::mem::take(&mut self.is_failing) {
            tracing::info!(exporter = self.name, "audit records are exported again");
        }
    }

    /// Counts a failure, and pauses. The first of several failures is logged.
    async fn failed(&mut self, cause: &str, requested: Option<Duration>) {
        self.counts.failures.inc();
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(
                exporter = self.name,
                cause,
                "audit records cannot be exported: they wait in the log's files"
            );
        }
        let requested = requested.unwrap_or_default().min(MAX_REQUESTED_PAUSE);
        let (started, pause) = (Instant::now(), self.pause.max(requested));
        self.pause = self.pause.saturating_mul(2).min(MAX_PAUSE);
        while !self.is_ending() {
            let left = pause.saturating_sub(started.elapsed());
            if left.is_zero() {
                return;
            }
            self.update_lag();
            tokio::select! {
                () = sleep(left.min(LAG_INTERVAL)) => {}
                _ = self.ending.changed() => {}
            }
        }
    }

    /// Whether the host is stopping, or has dropped its end.
    fn is_ending(&self) -> bool {
        *self.ending.borrow() || self.ending.has_changed().is_err()
    }

    fn update_lag(&self) {
        set_lag(&self.counts, &self.written, self.received);
    }

    /// Reads or writes files on a thread that may block.
    async fn with_spool<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Spool) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let spool = Arc::clone(&self.spool);
        let acting = tokio::task::spawn_blocking(move || {
            // No code panics while it holds this lock.
            let mut spool = spool.lock().unwrap_or_else(PoisonError::into_inner);
            act(&mut spool)
        });
        match acting.await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Sets the number of written records that are not received.
fn set_lag(counts: &ExportMetrics, written: &watch::Receiver<u64>, received: u64) {
    let lag = written.borrow().saturating_sub(received);
    counts.lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests;
