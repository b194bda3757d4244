//! The queue of records to the writer thread, in order. A producer need not wake the thread at
//! once, because the thread takes all records that are there. The slots of [`crate::writer::Audit`]
//! limit their number.

use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::{BATCH_LINES, Item};

/// The queue.
#[derive(Default)]
pub(super) struct Queue {
    lines: Mutex<Lines>,
    /// The writer thread.
    writer: OnceLock<Thread>,
}

#[derive(Default)]
struct Lines {
    items: Vec<Item>,
    /// The channel to signal once all records are written and the log is closed.
    stop: Option<SyncSender<()>>,
    /// Whether all producers are gone.
    left: bool,
    /// Whether the writer is gone.
    over: bool,
}

/// What the writer takes.
pub(super) enum Taken {
    /// Records. There may be more.
    Lines(Vec<Item>),
    /// None arrived in time.
    Nothing,
    /// There are none, and the log must be closed.
    Stop(SyncSender<()>),
    /// There are none, and all producers are gone.
    Left,
}

impl Queue {
    /// Adds a record. Returns `false` if the writer is gone, and the record is lost.
    pub(super) fn put(&self, item: Item) -> bool {
        let mut lines = self.lines();
        if !lines.over {
            lines.items.push(item);
        }
        !lines.over
    }

    /// Wakes the writer. This is cheap while it is awake.
    pub(super) fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// Requests that the log is closed after the queued records.
    pub(super) fn stop(&self, done: SyncSender<()>) {
        let mut lines = self.lines();
        if !lines.over {
            lines.stop = Some(done);
        }
        drop(lines);
        self.wake();
    }

    /// Marks that all producers are gone.
    pub(super) fn sender_dropped(&self) {
        self.lines().left = true;
        self.wake();
    }

    /// Sets the writer thread.
    pub(super) fn taken_by(&self, writer: &Thread) {
        // Called once, because there is one thread.
        let _ = self.writer.set(writer.clone());
    }

    /// Waits for records, up to a timeout.
    pub(super) fn take(&self, patience: Duration) -> Taken {
        let began = Instant::now();
        loop {
            let taken = self.lines().taken();
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() || !matches!(taken, Taken::Nothing) {
                return taken;
            }
            std::thread::park_timeout(left);
        }
    }

    /// Closes the queue. Callers that wait for a record learn that it is not written.
    pub(super) fn close(&self) {
        let mut lines = self.lines();
        *lines = Lines {
            over: true,
            ..Lines::default()
        };
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        // No code panics while it holds this lock.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn taken(&mut self) -> Taken {
        if self.items.len() > BATCH_LINES {
            let rest = self.items.split_off(BATCH_LINES);
            return Taken::Lines(std::mem::replace(&mut self.items, rest));
        }
        if !self.items.is_empty() {
            return Taken::Lines(std::mem::take(&mut self.items));
        }
        match self.stop.take() {
            Some(done) => Taken::Stop(done),
            None if self.left => Taken::Left,
            None => Taken::Nothing,
        }
    }
}
