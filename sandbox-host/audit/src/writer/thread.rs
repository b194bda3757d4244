//! The writer thread: batches, checkpoints, rotation, the signed head file, and a new file when the
//! log's file was removed or changed. How long a request waits is decided elsewhere.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use super::chain::Lines;
use super::chain::{Chain, End};
use super::counts::DecisionCounts;
use super::rejections::RejectionSummaries;
use super::{
    CHECKPOINT_LINES, CHECKPOINT_TIME, END_TIME, HEAD_TIME, IDLE_TIME, Item, Queue, RETRY, Shared,
    SlotKind, TAKEN, Taken, WAITING,
};
use crate::files::{AppendError, Store};
use crate::line::Seal;
use crate::record::{Event, Found, Open, REOPEN, Rejections};
use crate::recover::{head, note, note_sequence};
use crate::sequence::SequenceTracker;

/// The most findings in one opening record. Its file may be replaced again before the record is
/// written.
const MAX_FOUND: usize = 16;

/// Events to be written, with their times.
type Events = Vec<(SystemTime, Event)>;

pub(super) struct Writer<S> {
    pub(super) store: S,
    pub(super) chain: Chain,
    /// The opening record of the current file, until it is written.
    pub(super) opening: Option<Open>,
    pub(super) file_bytes: u64,
    pub(super) counts: DecisionCounts,
    pub(super) rejections: RejectionSummaries,
    pub(super) shared: Arc<Shared>,
    pub(super) decisions: u64,
    pub(super) dropped: u64,
    /// The entries that the records so far contain.
    pub(super) sequence: SequenceTracker,
    /// The number of records since the last signed one.
    pub(super) unsigned: u64,
    pub(super) checkpoint_at: Instant,
    pub(super) head_at: Instant,
    /// Whether the head file names an earlier record than the last.
    pub(super) head_behind: bool,
}

impl<S: Store> Writer<S> {
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _closes = CloseOnDrop(&shared.queue);
        if !self.put(&[]) {
            return;
        }
        self.write_head();
        loop {
            let items = match shared.queue.take(self.patience()) {
                Taken::Lines(items) => items,
                Taken::Nothing => Vec::new(),
                Taken::Left => return self.end(),
                Taken::Stop(done) => {
                    // Dropped records are reported first.
                    if self.write(Vec::new()) {
                        self.end();
                    }
                    // The lock is released before the caller learns of the end, because the log's
                    // next host may start at once.
                    drop(self);
                    let _ = done.try_send(());
                    return;
                }
            };
            if !self.write(items) {
                return;
            }
        }
    }

    /// How long to wait for a record before the head file, a checkpoint or a file check is due.
    fn patience(&self) -> Duration {
        let since = |bound: Duration, instant: Instant| bound.saturating_sub(instant.elapsed());
        let due = if self.head_behind {
            since(HEAD_TIME, self.head_at)
        } else if self.unsigned > 0 {
            since(CHECKPOINT_TIME, self.checkpoint_at)
        } else {
            IDLE_TIME
        };
        due.min(IDLE_TIME)
    }

    /// Writes a batch, and all that is due. Returns `false` if the host is stopping and the batch
    /// cannot be written.
    fn write(&mut self, items: Vec<Item>) -> bool {
        let mut entries = 0;
        let mut answers = self.shared.answers();
        for item in &items {
            match item.sort {
                SlotKind::Answer(client_key) => answers.release(client_key, (1, 1)),
                SlotKind::Entry => entries = usize::saturating_add(entries, 1),
            }
        }
        drop(answers);
        self.shared.entries.add_permits(entries);
        let queue = &self.shared.metrics.audit_queue;
        queue.dec_by(i64::try_from(items.len()).unwrap_or(i64::MAX));
        let mut batch = Events::new();
        let mut done = Vec::new();
        let untold = self.shared.untold.swap(0, Ordering::Relaxed);
        if untold > 0 {
            self.dropped = self.dropped.saturating_add(untold);
            let cause = "no room in the queue, or lost on the way from Envoy".to_owned();
            let event = Event::Dropped {
                count: untold,
                cause,
            };
            self.line(&mut batch, SystemTime::now(), event);
        }
        let now = Instant::now();
        let summaries = self.rejections.due(now);
        self.summarise(&mut batch, summaries);
        let mut absorbed = Events::new();
        for item in items {
            if let Some((fate, written)) = item.state {
                if fate
                    .compare_exchange(WAITING, TAKEN, Ordering::AcqRel, Ordering::Acquire)
                    .is_err()
                {
                    continue;
                }
                done.push(written);
            }
            if let Event::Decision(decision) = &item.event
                && self.rejections.absorbs(decision, item.time, now)
            {
                self.counts.count(decision);
                note_sequence(&mut self.sequence, &item.event);
                absorbed.push((item.time, item.event));
                continue;
            }
            self.line(&mut batch, item.time, item.event);
        }
        if self.unsigned > 0 && self.checkpoint_at.elapsed() >= CHECKPOINT_TIME {
            self.checkpoint(&mut batch);
        }
        // An empty batch checks the file.
        if !self.put(&batch) {
            return false;
        }
        for written in done {
            // The caller may have left.
            let _ = written.send(());
        }
        for listener in self.shared.listeners().iter() {
            listener.written(&batch);
            // Rules count every rejection, also those without a record of their own.
            if !absorbed.is_empty() {
                listener.written(&absorbed);
            }
        }
        if self.store.bytes() >= self.file_bytes && !self.rotate() {
            return false;
        }
        if self.head_behind && self.head_at.elapsed() >= HEAD_TIME {
            self.write_head();
        }
        true
    }

    fn line(&mut self, batch: &mut Events, time: SystemTime, event: Event) {
        if let Event::Decision(decision) = &event {
            self.decisions = self.decisions.saturating_add(1);
            self.counts.count(decision);
        } else if let Event::Amend(amend) = &event {
            self.counts.count_amendment(amend);
        }
        note_sequence(&mut self.sequence, &event);
        batch.push((time, event));
        self.shared.metrics.audit_lines.inc();
        self.unsigned = self.unsigned.saturating_add(1);
        if self.unsigned >= CHECKPOINT_LINES {
            self.checkpoint(batch);
        }
    }

    /// Adds summaries of rejections. The checkpoint after them says up to which number the entries
    /// of Envoy are recorded, so that the next host does not take the summarised ones for lost.
    fn summarise(&mut self, batch: &mut Events, summaries: Vec<Rejections>) {
        if summaries.is_empty() {
            return;
        }
        for summary in summaries {
            let event = Event::Rejections(Box::new(summary));
            self.line(batch, SystemTime::now(), event);
        }
        self.checkpoint(batch);
    }

    fn checkpoint(&mut self, batch: &mut Events) {
        let heard = self.sequence.marks();
        // Without a chain it proves nothing, and is for the host that continues the log.
        if matches!(self.chain.seal, Seal::Chain(_)) || !heard.is_empty() {
            let event = Event::Checkpoint {
                decisions: self.decisions,
                dropped: self.dropped,
                heard,
            };
            batch.push((SystemTime::now(), event));
        }
        self.unsigned = 0;
        self.checkpoint_at = Instant::now();
    }

    /// Writes events as records, and retries until it succeeds. Returns `false` if the host is
    /// stopping and they could not be written in its last seconds.
    fn put(&mut self, events: &[(SystemTime, Event)]) -> bool {
        self.insist(|writer| writer.append(events)).is_some()
    }

    /// Tries to write events as records. If the log's file was removed or changed, they go to a new
    /// file.
    fn append(&mut self, events: &[(SystemTime, Event)]) -> io::Result<()> {
        let mut lines = self.lines(events);
        if let Err(error) = self.store.append(&lines.bytes) {
            let AppendError::Displaced(found) = error else {
                return Err(error.into());
            };
            self.reopen(found)?;
            lines = self.lines(events);
            self.store.append(&lines.bytes)?;
        }
        if lines.bytes.is_empty() {
            return Ok(());
        }
        self.chain.end = lines.end;
        self.shared.written.send_replace(lines.end.seq);
        self.opening = None;
        self.head_behind = true;
        for (seq, hash) in lines.checkpoints {
            // A copy of the hash in another log, so that rewriting history takes both.
            tracing::info!(seq, hash = %hash, "audit checkpoint");
        }
        Ok(())
    }

    /// Formats events as records, after the file's opening record if that is not written yet.
    fn lines(&self, events: &[(SystemTime, Event)]) -> Lines {
        let opening = self.opening.clone();
        let opening = opening.map(|open| (SystemTime::now(), Event::Open(open)));
        self.chain.lines(opening.iter().chain(events))
    }

    /// Creates a new file at the log's path. Its first record says what happened to the old one.
    fn reopen(&mut self, found: Found) -> io::Result<()> {
        let End { seq, first_seq, .. } = self.chain.end;
        let Found { what, detail } = found;
        let oldest_seq = self.store.reopen(seq.saturating_add(1)).map_err(|error| {
            let message = format!("{detail}, and no new file can be created: {error}");
            io::Error::new(error.kind(), message)
        })?;
        self.shared.metrics.audit_file_losses.inc();
        let lines = first_seq.map_or_else(
            || "it had no lines".to_owned(),
            |first| format!("it had lines {first} to {seq}"),
        );
        let mut open = match self.opening.take() {
            Some(open) => Open { oldest_seq, ..open },
            None => self.open(REOPEN, oldest_seq),
        };
        note(&mut open.found, &what, format!("{detail}; {lines}"));
        open.found.truncate(MAX_FOUND);
        self.chain.end.first_seq = None;
        self.opening = Some(open);
        Ok(())
    }

    /// The opening record of a new file.
    fn open(&self, why: &str, oldest_seq: u64) -> Open {
        Open {
            log: self.chain.log.clone(),
            why: why.to_owned(),
            key: match &self.chain.seal {
                Seal::Chain(key) => Some(key.public().to_hex()),
                Seal::None => None,
            },
            oldest_seq,
            found: Vec::new(),
            heard: self.sequence.marks(),
        }
    }

    fn insist<T>(&mut self, mut act: impl FnMut(&mut Self) -> io::Result<T>) -> Option<T> {
        let mut ending: Option<Instant> = None;
        loop {
            match act(self) {
                Ok(value) => {
                    if self.shared.set_failure(None) {
                        tracing::info!("audit log writable again");
                    }
                    return Some(value);
                }
                Err(error) => {
                    self.shared.metrics.audit_failures.inc();
                    let cause = error.to_string();
                    if !self.shared.set_failure(Some(cause.clone())) {
                        tracing::error!(cause, "the audit log cannot be written");
                    }
                }
            }
            if self.shared.ending.load(Ordering::Relaxed) {
                let since = ending.get_or_insert_with(Instant::now);
                if since.elapsed() >= END_TIME {
                    tracing::error!("the last lines of the audit log are lost");
                    return None;
                }
            }
            std::thread::sleep(RETRY);
        }
    }

    /// Closes a full file with a last checkpoint, and continues in a new one.
    fn rotate(&mut self) -> bool {
        let mut last = Events::new();
        if self.unsigned > 0 {
            self.checkpoint(&mut last);
        }
        if !self.put(&last) {
            return false;
        }
        let End { seq, first_seq, .. } = self.chain.end;
        let Some(first_seq) = first_seq else {
            return true;
        };
        let next_seq = seq.saturating_add(1);
        let rotated = self.insist(|writer| writer.store.rotate(first_seq, next_seq));
        let Some(oldest_seq) = rotated else {
            return false;
        };
        self.chain.end.first_seq = None;
        self.opening = Some(self.open("rotate", oldest_seq));
        self.put(&[])
    }

    fn write_head(&mut self) {
        self.head_at = Instant::now();
        if let Seal::Chain(_) = self.chain.seal {
            let Chain { log, seal, end } = &self.chain;
            let written =
                head(log, end.seq, end.last, seal).and_then(|text| self.store.head(&text));
            if let Err(error) = written {
                // The head file is retried later.
                self.shared.metrics.audit_failures.inc();
                tracing::warn!(
                    cause = error.to_string(),
                    "cannot write the audit log's head"
                );
                return;
            }
        }
        self.head_behind = false;
    }

    fn end(&mut self) {
        let mut last = Events::new();
        let summaries = self.rejections.take();
        self.summarise(&mut last, summaries);
        last.push((SystemTime::now(), Event::Stop));
        if self.put(&last) {
            self.write_head();
        }
    }
}

/// Closes the queue, however the thread ends.
struct CloseOnDrop<'a>(&'a Queue);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
