//! The one thread that writes, behind a bounded queue. Whoever hands it a line may wait for it to be written, within a bound;
//! nobody waits without one. Answers that are ready at the same time put their lines down before the thread is woken, once for all of them.
//! What does not fit into the queue is dropped and counted, and the count is itself a line once there is room again. A write that fails is tried again, whole, until it succeeds or the host ends.
//!
//! A line whose request was meanwhile told that it could not be written is not written; one that the writer has taken by then is, and
//! whoever waited is told which of the two it is. Answers and Envoy's entries have places of their own: a flood of the one cannot keep the
//! other out. Nor can a client that has many answers while the disk stands still: it leaves places to others that ask (`sharing`).

mod chain;
mod queue;
mod thread;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Semaphore, oneshot};

use super::files::Store;
use super::heard::Heard;
use super::record::{Event, Open};
use super::recover::{Recovered, opening};
use crate::dispatch::Whose;
use crate::metrics::Metrics;
use crate::sharing::Shares;

pub(super) use chain::Chain;
use queue::Queue;
use thread::Writer;

/// Lines of one sort that wait for the disk. At two KiB each, which is a long one, 8 MiB, and there are two sorts.
const QUEUED_LINES: usize = 4_096;
/// Lines that are written at once.
const BATCH_LINES: usize = 1_024;
/// How long an answer waits for its line: as long as a disk may take that is only busy.
pub const WRITE_WAIT: Duration = Duration::from_secs(3);
/// Between two tries to write.
const RETRY: Duration = Duration::from_millis(50);
/// Lines between two checkpoints.
const CHECKPOINT_LINES: u64 = 1_000;
/// Time between two checkpoints, if there were lines.
const CHECKPOINT_TIME: Duration = Duration::from_secs(10);
/// How far the head may lag behind the log.
const HEAD_TIME: Duration = Duration::from_millis(100);
/// How long the end of the host waits for the last lines.
const END_TIME: Duration = Duration::from_secs(3);

/// Why a line was not written in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritten {
    /// It is not in the log and will not be. Nobody has counted it: whoever waited for it may try another way.
    #[error("the audit log cannot be written")]
    Never,
    /// It is in the writer's hands, and will be in the log: what else becomes of its request must be said by another line.
    #[error("the audit log is written too slowly")]
    Late,
}

/// Whose places a line takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    /// Somebody waits for it with a client's answer.
    Answer(Whose),
    /// Nobody waits, or Envoy's stream can be held back.
    Entry,
}

/// A line whose writing somebody may still call off.
const WAITING: u8 = 0;
/// It is in the writer's hands.
const TAKEN: u8 = 1;
/// It is not to be written.
const CALLED_OFF: u8 = 2;

struct Item {
    time: SystemTime,
    event: Event,
    sort: Sort,
    fate: Option<(Arc<AtomicU8>, oneshot::Sender<()>)>,
}

struct Shared {
    answers: Mutex<Shares>,
    entries: Semaphore,
    /// Dropped and not yet told in the log.
    untold: AtomicU64,
    /// The last write failed.
    failing: AtomicBool,
    ending: AtomicBool,
    metrics: Arc<Metrics>,
    queue: Queue,
}

impl Shared {
    /// Places of answers' lines, by whose they are.
    fn answers(&self) -> MutexGuard<'_, Shares> {
        // Nothing panics while it holds them.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log, for whoever has something to say in it.
#[derive(Clone)]
pub struct Audit {
    shared: Arc<Shared>,
    _speaks: Arc<Speaks>,
}

/// Somebody has something to say. Once nobody has, the log is ended.
struct Speaks(Arc<Shared>);

impl Drop for Speaks {
    fn drop(&mut self) {
        self.0.queue.leave();
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
    /// Starts writing a log where a former host left it.
    pub fn start(
        recovered: Recovered,
        file_bytes: u64,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let opening = opening(&recovered, "start");
        let chain = Chain {
            log: recovered.log,
            seal: recovered.seal,
            seq: recovered.seq,
            last: recovered.last,
            first_seq: recovered.first_seq,
        };
        Self::with_store(recovered.store, chain, opening, file_bytes, metrics)
    }

    /// Starts writing into a store.
    pub(super) fn with_store(
        store: impl Store,
        chain: Chain,
        opening: Open,
        file_bytes: u64,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            answers: Mutex::default(),
            entries: Semaphore::new(QUEUED_LINES),
            untold: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            metrics,
            queue: Queue::default(),
        });
        let writer = Writer {
            store,
            chain,
            file_bytes,
            shared: Arc::clone(&shared),
            decisions: 0,
            dropped: 0,
            heard: Heard::new(&opening.heard),
            unsigned: 0,
            checkpoint_at: Instant::now(),
            head_at: Instant::now(),
            head_behind: true,
        };
        let writer = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(opening))?;
        shared.queue.taken_by(writer.thread());
        let speaks = Speaks(Arc::clone(&shared));
        Ok(Self {
            shared,
            _speaks: Arc::new(speaks),
        })
    }

    /// Whether the last write failed. It is tried again all the while.
    pub fn failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed)
    }

    /// Hands a line over; what finds no room is counted.
    pub fn write(&self, time: SystemTime, event: Event) {
        match self.shared.entries.try_acquire() {
            Ok(place) => {
                place.forget();
                self.put(time, event, Sort::Entry, None);
                self.shared.queue.wake();
            }
            Err(_) => self.drop_lines(1),
        }
    }

    /// Hands a line over once there is room, for at most [`WRITE_WAIT`]: for whoever can be held back. What finds none is counted.
    pub async fn write_when_room(&self, time: SystemTime, event: Event) {
        let place = tokio::time::timeout(WRITE_WAIT, self.shared.entries.acquire()).await;
        match place {
            Ok(Ok(place)) => {
                place.forget();
                self.put(time, event, Sort::Entry, None);
                self.shared.queue.wake();
            }
            Ok(Err(_)) | Err(_) => self.drop_lines(1),
        }
    }

    /// Writes a line and waits until it is written.
    ///
    /// # Errors
    /// It was not written within [`WRITE_WAIT`].
    pub async fn written(&self, time: SystemTime, event: Event) -> Result<(), Unwritten> {
        let client = match &event {
            Event::Decision(decision) => decision.client.as_deref(),
            _ => None,
        };
        let (whose, now) = (Whose::of(client), tokio::time::Instant::now());
        let has_place = (self.shared.answers()).give(whose, (0, 1), QUEUED_LINES, now);
        if !has_place {
            return Err(Unwritten::Never);
        }
        let fate = Arc::new(AtomicU8::new(WAITING));
        let (done, written) = oneshot::channel();
        self.put(
            time,
            event,
            Sort::Answer(whose),
            Some((Arc::clone(&fate), done)),
        );
        // Others that are as far put theirs down first, and the thread is woken for all of them; by whoever leaves meanwhile, too.
        let wakes = Wakes(&self.shared.queue);
        tokio::task::yield_now().await;
        drop(wakes);
        // While writes fail, waiting helps nobody: one more try or two, and no more.
        let wait = if self.failing() {
            RETRY.saturating_mul(2)
        } else {
            WRITE_WAIT
        };
        match tokio::time::timeout(wait, written).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                let called_off =
                    fate.compare_exchange(WAITING, CALLED_OFF, Ordering::AcqRel, Ordering::Acquire);
                Err(match called_off {
                    Ok(_) => Unwritten::Never,
                    Err(_) => Unwritten::Late,
                })
            }
        }
    }

    /// Counts lines that were lost before they came here.
    pub fn drop_lines(&self, count: u64) {
        self.shared.untold.fetch_add(count, Ordering::Relaxed);
        self.shared.metrics.audit_dropped.inc_by(count);
    }

    /// Counts outcomes whose entries Envoy lost.
    pub fn count_lost(&self, count: u64) {
        self.shared.metrics.audit_lost.inc_by(count);
    }

    fn put(
        &self,
        time: SystemTime,
        event: Event,
        sort: Sort,
        fate: Option<(Arc<AtomicU8>, oneshot::Sender<()>)>,
    ) {
        self.shared.metrics.audit_queue.inc();
        let item = Item {
            time,
            event,
            sort,
            fate,
        };
        if !self.shared.queue.put(item) {
            // The writer has ended, and so does the host.
            self.shared.metrics.audit_dropped.inc();
        }
    }

    /// Writes what is queued, a last signed line and the head, within a bound.
    pub fn stop(&self) {
        self.shared.ending.store(true, Ordering::Relaxed);
        let (done, wait) = sync_channel(1);
        self.shared.queue.stop(done);
        // A writer that has ended already drops the sender.
        let _ = wait.recv_timeout(END_TIME.saturating_mul(2));
    }
}

/// Wakes the thread when it is dropped.
struct Wakes<'a>(&'a Queue);

impl Drop for Wakes<'_> {
    fn drop(&mut self) {
        self.0.wake();
    }
}

#[cfg(test)]
pub(super) mod tests;
