//! The writer thread of the audit log, behind a bounded queue.
//!
//! A caller may wait until its record is written, always with a timeout. Concurrent responses queue
//! their records first, and the thread is woken once for all of them. Records that do not fit in
//! the queue are dropped and counted, and the count is recorded later. A failed write is retried
//! completely until it succeeds or the host stops.
//!
//! Before and after each write the thread checks that the open file is still at the log's path. If
//! another program removed, moved, replaced, truncated or wrote the file, the batch goes to a new
//! file at that path. The first record of the new file says what was found. So a record counts as
//! written only when it is in the file at the path. A change after the second check is found by the
//! next write, or within a second. Records that the change removed stay lost, and [`crate::verify`]
//! reports them.
//!
//! If a caller stops waiting, its record is withdrawn unless the writer has taken it already. The
//! caller learns which of the two happened. Responses and Envoy's entries have separate slots, so
//! that neither can displace the other. A client with many responses on a slow disk leaves slots to
//! other active clients (`Shares`). Of a flood of unknown callers only the first rejections have
//! records (`rejections`), so that it cannot displace others from the log's files.

mod chain;
mod counts;
mod queue;
mod rejections;
mod thread;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tensorgate_base::client_key::ClientKey;
use tensorgate_base::shares::Shares;
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::{Denial, Reason};
use tensorgate_telemetry::metrics::Metrics;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::files::Store;
use crate::line::Seal;
use crate::listener::RecordListener;
use crate::record::{Event, Found, Open, START};
use crate::recover::{Recovered, opening};
use crate::sequence::SequenceTracker;
pub(super) use chain::{Chain, End};
use counts::DecisionCounts;
use queue::{Queue, Taken};
use rejections::RejectionSummaries;
use thread::Writer;

/// The most queued records of one kind: 8 MiB at two KiB each, which is long. There are two kinds.
const QUEUED_LINES: usize = 4_096;
/// The most records in one write.
const BATCH_LINES: usize = 1_024;
/// How long a response waits for its record: as long as a busy disk may take.
pub const WRITE_WAIT: Duration = Duration::from_secs(3);
/// The pause between two attempts to write.
const RETRY: Duration = Duration::from_millis(50);
/// The most records between two checkpoints.
const CHECKPOINT_LINES: u64 = 1_000;
/// The longest time between two checkpoints, if there were records.
const CHECKPOINT_TIME: Duration = Duration::from_secs(10);
/// How far the head file may lag behind the log.
const HEAD_TIME: Duration = Duration::from_millis(100);
/// The interval of file checks while there are no records.
const IDLE_TIME: Duration = Duration::from_secs(1);
/// How long the host waits for the last records at shutdown.
const END_TIME: Duration = Duration::from_secs(3);

/// Why a record was not written in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritten {
    /// It is not in the log and will not be. It is not counted, so its caller may try another way.
    #[error("the audit log cannot be written")]
    Never,
    /// The writer has taken it, and it will be in the log. A different outcome needs another
    /// record.
    #[error("the audit log is written too slowly")]
    Late,
}

impl Unwritten {
    /// The denial of a request whose record has to be written first.
    pub fn to_denial(self) -> Denial {
        let denial = Denial::new(Reason::Overloaded, self.to_string());
        denial.overloaded_by(OverloadCause::AuditLog)
    }
}

/// The kind of slot that a record uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotKind {
    /// A client's response waits for it.
    Answer(ClientKey),
    /// Nothing waits, or Envoy's stream can be slowed down.
    Entry,
}

/// The record can still be withdrawn.
const WAITING: u8 = 0;
/// The writer has taken it.
const TAKEN: u8 = 1;
/// It is withdrawn.
const CALLED_OFF: u8 = 2;

struct Item {
    time: SystemTime,
    event: Event,
    sort: SlotKind,
    state: Option<(Arc<AtomicU8>, oneshot::Sender<()>)>,
}

/// Why no line can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteFailure {
    /// The cause of the last failed write.
    pub cause: String,
    /// When writes began to fail.
    pub since: SystemTime,
}

struct Shared {
    answers: Mutex<Shares>,
    entries: Semaphore,
    /// The number of dropped records that were not recorded yet.
    untold: AtomicU64,
    /// Why no line can be written, if so.
    failure: Mutex<Option<WriteFailure>>,
    ending: AtomicBool,
    metrics: Arc<Metrics>,
    queue: Queue,
    /// See the records once they are written.
    listeners: Mutex<Vec<Arc<dyn RecordListener>>>,
    /// The number of the last written record, 0 if there is none.
    written: watch::Sender<u64>,
}

impl Shared {
    /// The slots for responses, by client.
    fn answers(&self) -> MutexGuard<'_, Shares> {
        // No code panics while it holds this lock.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why no line can be written, if so.
    fn failure(&self) -> MutexGuard<'_, Option<WriteFailure>> {
        // No code panics while it holds this lock.
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who sees the records.
    fn listeners(&self) -> MutexGuard<'_, Vec<Arc<dyn RecordListener>>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the result of the last write. Returns whether the write before it failed.
    fn set_failure(&self, cause: Option<String>) -> bool {
        self.metrics.audit_failing.set(i64::from(cause.is_some()));
        let mut failure = self.failure();
        let before = failure.take();
        let was_failing = before.is_some();
        *failure = cause.map(|cause| WriteFailure {
            cause,
            since: before.map_or_else(SystemTime::now, |before| before.since),
        });
        was_failing
    }
}

/// A handle to the audit log.
#[derive(Clone)]
pub struct Audit {
    shared: Arc<Shared>,
    /// The log's ID.
    log: Arc<str>,
    /// The ID of the key that signs checkpoints. `None` without a chain.
    key_id: Option<Arc<str>>,
    /// What the host found in the log that it continues.
    found: Arc<[Found]>,
    _speaks: Arc<Sender>,
}

/// Shared by all handles. The log is closed when the last one is dropped.
struct Sender(Arc<Shared>);

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.queue.sender_dropped();
    }
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit")
            .field("failing", &self.failing())
            .finish_non_exhaustive()
    }
}

impl Audit {
    /// Starts the writer of a log that a previous host left.
    pub fn start(
        recovered: Recovered,
        file_bytes: u64,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let opening = opening(&recovered, START);
        let chain = Chain {
            log: recovered.log,
            seal: recovered.seal,
            end: End {
                seq: recovered.seq,
                last: recovered.last,
                first_seq: recovered.first_seq,
            },
        };
        Self::with_store(recovered.store, chain, opening, file_bytes, metrics)
    }

    /// Starts the writer of a store.
    pub(super) fn with_store(
        store: impl Store,
        chain: Chain,
        opening: Open,
        file_bytes: u64,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let log = Arc::from(chain.log.as_str());
        let key_id = match &chain.seal {
            Seal::Chain(key) => Some(Arc::from(key.public().id())),
            Seal::None => None,
        };
        let found = Arc::from(opening.found.as_slice());
        let shared = Arc::new(Shared {
            answers: Mutex::default(),
            entries: Semaphore::new(QUEUED_LINES),
            untold: AtomicU64::new(0),
            failure: Mutex::default(),
            ending: AtomicBool::new(false),
            metrics,
            queue: Queue::default(),
            listeners: Mutex::default(),
            written: watch::Sender::new(chain.end.seq),
        });
        let writer = Writer {
            store,
            chain,
            sequence: SequenceTracker::new(&opening.heard),
            opening: Some(opening),
            file_bytes,
            counts: DecisionCounts::new(&shared.metrics),
            rejections: RejectionSummaries::default(),
            shared: Arc::clone(&shared),
            decisions: 0,
            dropped: 0,
            unsigned: 0,
            checkpoint_at: Instant::now(),
            head_at: Instant::now(),
            head_behind: true,
        };
        let writer = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run())?;
        shared.queue.taken_by(writer.thread());
        let speaks = Sender(Arc::clone(&shared));
        Ok(Self {
            shared,
            log,
            key_id,
            found,
            _speaks: Arc::new(speaks),
        })
    }

    /// Adds one who sees the records from here on.
    pub fn listen(&self, listener: Arc<dyn RecordListener>) {
        self.shared.listeners().push(listener);
    }

    /// The log's ID.
    pub fn log(&self) -> &Arc<str> {
        &self.log
    }

    /// The ID of the key that signs checkpoints. `None` if the log has no chain.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// The damage that the host found in the log when it started.
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    /// The number of the last written record, 0 if there is none.
    pub fn last_seq(&self) -> u64 {
        *self.shared.written.borrow()
    }

    /// The number of the last written record, 0 if there is none. What a file has after that record
    /// may still change.
    pub(crate) fn last_written(&self) -> watch::Receiver<u64> {
        self.shared.written.subscribe()
    }

    /// Whether the last write failed. It is retried meanwhile.
    pub fn failing(&self) -> bool {
        self.shared.failure().is_some()
    }

    /// Why no line can be written, if so.
    pub fn failure(&self) -> Option<WriteFailure> {
        self.shared.failure().clone()
    }

    /// Queues a record. Without a slot it is counted as dropped.
    pub fn write(&self, time: SystemTime, event: Event) {
        match self.shared.entries.try_acquire() {
            Ok(place) => {
                place.forget();
                self.put(time, event, SlotKind::Entry, None);
                self.shared.queue.wake();
            }
            Err(_) => self.drop_lines(1),
        }
    }

    /// Queues a record once there is a slot, within [`WRITE_WAIT`]. For callers that can be slowed
    /// down. Without a slot it is counted as dropped.
    pub(crate) async fn write_when_room(&self, time: SystemTime, event: Event) {
        let place = tokio::time::timeout(WRITE_WAIT, self.shared.entries.acquire()).await;
        match place {
            Ok(Ok(place)) => {
                place.forget();
                self.put(time, event, SlotKind::Entry, None);
                self.shared.queue.wake();
            }
            Ok(Err(_)) | Err(_) => self.drop_lines(1),
        }
    }

    /// Writes a record and waits until it is written.
    ///
    /// # Errors
    /// Returns an error if it was not written within `WRITE_WAIT`, or sooner if writes fail.
    pub async fn written(&self, time: SystemTime, event: Event) -> Result<(), Unwritten> {
        let client = match &event {
            Event::Decision(decision) => decision.client.as_deref(),
            _ => None,
        };
        let (client_key, now) = (ClientKey::from_name(client), tokio::time::Instant::now());
        let has_place = (self.shared.answers()).acquire(client_key, (0, 1), QUEUED_LINES, now);
        if !has_place {
            return Err(Unwritten::Never);
        }
        let fate = Arc::new(AtomicU8::new(WAITING));
        let (done, mut written) = oneshot::channel();
        self.put(
            time,
            event,
            SlotKind::Answer(client_key),
            Some((Arc::clone(&fate), done)),
        );
        // Other tasks queue their records first, and the thread is woken once for all of them.
        // Dropping this future wakes it too.
        let wakes = WakeOnDrop(&self.shared.queue);
        tokio::task::yield_now().await;
        drop(wakes);
        // While writes fail, a long wait is useless. One or two more attempts suffice.
        let attempts = RETRY.saturating_mul(2);
        loop {
            match tokio::time::timeout(attempts, &mut written).await {
                Ok(Ok(())) => return Ok(()),
                Err(_) if !self.failing() && now.elapsed() < WRITE_WAIT => {}
                Ok(Err(_)) | Err(_) => break,
            }
        }
        let called_off =
            fate.compare_exchange(WAITING, CALLED_OFF, Ordering::AcqRel, Ordering::Acquire);
        Err(match called_off {
            Ok(_) => Unwritten::Never,
            Err(_) => Unwritten::Late,
        })
    }

    /// Counts records that were lost before they were queued.
    pub(crate) fn drop_lines(&self, count: u64) {
        self.shared.untold.fetch_add(count, Ordering::Relaxed);
        self.shared.metrics.audit_dropped.inc_by(count);
    }

    /// Counts outcomes whose entries Envoy lost.
    pub(crate) fn count_lost(&self, count: u64) {
        self.shared.metrics.audit_lost.inc_by(count);
    }

    fn put(
        &self,
        time: SystemTime,
        event: Event,
        sort: SlotKind,
        fate: Option<(Arc<AtomicU8>, oneshot::Sender<()>)>,
    ) {
        self.shared.metrics.audit_queue.inc();
        let item = Item {
            time,
            event,
            sort,
            state: fate,
        };
        if !self.shared.queue.put(item) {
            // The writer has ended, as the host is stopping.
            self.shared.metrics.audit_dropped.inc();
        }
    }

    /// Writes queued records, a last signed record and the head file, with a timeout.
    pub fn stop(&self) {
        self.shared.ending.store(true, Ordering::Relaxed);
        let (done, wait) = sync_channel(1);
        self.shared.queue.stop(done);
        // A writer that has ended drops the sender.
        let _ = wait.recv_timeout(END_TIME.saturating_mul(2));
    }
}

/// Wakes the thread on drop.
struct WakeOnDrop<'a>(&'a Queue);

impl Drop for WakeOnDrop<'_> {
    fn drop(&mut self) {
        self.0.wake();
    }
}

#[cfg(test)]
pub(super) mod tests;
