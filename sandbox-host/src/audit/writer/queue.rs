//! Lines on their way to the thread that writes, in their order. Who puts one down need not wake the thread at once: it takes all that are there whenever
//! it comes. How many there may be, [`super::Audit`]'s places say.

use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::{BATCH_LINES, Item};

/// The queue.
#[derive(Default)]
pub(super) struct Queue {
    lines: Mutex<Lines>,
    /// Who takes them.
    writer: OnceLock<Thread>,
}

#[derive(Default)]
struct Lines {
    items: Vec<Item>,
    /// Whom to tell once all of them are written and the log is ended.
    stop: Option<SyncSender<()>>,
    /// Nobody puts down any more.
    left: bool,
    /// Nobody takes any more.
    over: bool,
}

/// What the thread takes.
pub(super) enum Taken {
    /// Lines, of which there may be more.
    Lines(Vec<Item>),
    /// There were none in its time.
    Nothing,
    /// There are none, and the log is to be ended.
    Stop(SyncSender<()>),
    /// The same, and nobody waits for that.
    Left,
}

impl Queue {
    /// Puts a line down. False, and it is lost, if nobody takes any more.
    pub(super) fn put(&self, item: Item) -> bool {
        let mut lines = self.lines();
        if !lines.over {
            lines.items.push(item);
        }
        !lines.over
    }

    /// Has what is there taken: costs next to nothing while the thread is awake.
    pub(super) fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// Has the log ended behind what is there.
    pub(super) fn stop(&self, done: SyncSender<()>) {
        let mut lines = self.lines();
        if !lines.over {
            lines.stop = Some(done);
        }
        drop(lines);
        self.wake();
    }

    /// Nobody puts down any more.
    pub(super) fn leave(&self) {
        self.lines().left = true;
        self.wake();
    }

    /// Says who takes them.
    pub(super) fn taken_by(&self, writer: &Thread) {
        // Once: there is one thread.
        let _ = self.writer.set(writer.clone());
    }

    /// Waits for lines, as long as that.
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

    /// Nobody takes any more: whoever waits for a line hears that it is not written.
    pub(super) fn close(&self) {
        let mut lines = self.lines();
        *lines = Lines {
            over: true,
            ..Lines::default()
        };
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        // Nothing panics while it holds them.
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
