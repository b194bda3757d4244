//! The thread's own work: batches into the chain, checkpoints, rotation, the signed head. It decides nothing about who waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use super::chain::Chain;
use super::queue::{Queue, Taken};
use super::{
    CHECKPOINT_LINES, CHECKPOINT_TIME, END_TIME, HEAD_TIME, Item, RETRY, Shared, Sort, TAKEN,
    WAITING,
};
use crate::audit::files::Store;
use crate::audit::heard::Heard;
use crate::audit::line::Seal;
use crate::audit::record::{Event, Open};
use crate::audit::recover::{head, note_heard};

pub(super) struct Writer<S> {
    pub(super) store: S,
    pub(super) chain: Chain,
    pub(super) file_bytes: u64,
    pub(super) shared: Arc<Shared>,
    pub(super) decisions: u64,
    pub(super) dropped: u64,
    /// Which entries the lines so far are made of.
    pub(super) heard: Heard,
    /// Lines since the last signed one.
    pub(super) unsigned: u64,
    pub(super) checkpoint_at: Instant,
    pub(super) head_at: Instant,
    /// The head names an earlier line than the last.
    pub(super) head_behind: bool,
}

impl<S: Store> Writer<S> {
    pub(super) fn run(mut self, opening: Open) {
        let shared = Arc::clone(&self.shared);
        let _closes = Closes(&shared.queue);
        let mut first = Vec::new();
        self.chain
            .append(&mut first, SystemTime::now(), Event::Open(opening));
        if !self.put(&first) {
            return;
        }
        self.write_head();
        loop {
            let items = match shared.queue.take(self.patience()) {
                Taken::Lines(items) => items,
                Taken::Nothing => Vec::new(),
                Taken::Left => return self.end(),
                Taken::Stop(done) => {
                    // What was dropped meanwhile is told first.
                    if self.write(Vec::new()) {
                        self.end();
                    }
                    // The lock is let go before anybody hears of the end: the log's next host may start at once.
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

    /// How long to wait for a line before head or checkpoint are due.
    fn patience(&self) -> Duration {
        let since = |bound: Duration, instant: Instant| bound.saturating_sub(instant.elapsed());
        if self.head_behind {
            since(HEAD_TIME, self.head_at)
        } else if self.unsigned > 0 {
            since(CHECKPOINT_TIME, self.checkpoint_at)
        } else {
            CHECKPOINT_TIME
        }
    }

    /// Writes a batch, and whatever is due with it. `false`: the host ends and it cannot be written.
    fn write(&mut self, items: Vec<Item>) -> bool {
        let mut entries = 0;
        let mut answers = self.shared.answers();
        for item in &items {
            match item.sort {
                Sort::Answer(whose) => answers.take_back(whose, (1, 1)),
                Sort::Entry => entries = usize::saturating_add(entries, 1),
            }
        }
        drop(answers);
        self.shared.entries.add_permits(entries);
        let queue = &self.shared.metrics.audit_queue;
        queue.dec_by(i64::try_from(items.len()).unwrap_or(i64::MAX));
        let mut batch = Vec::new();
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
        for item in items {
            if let Some((fate, written)) = item.fate {
                if fate
                    .compare_exchange(WAITING, TAKEN, Ordering::AcqRel, Ordering::Acquire)
                    .is_err()
                {
                    continue;
                }
                done.push(written);
            }
            self.line(&mut batch, item.time, item.event);
        }
        let late = self.unsigned > 0 && self.checkpoint_at.elapsed() >= CHECKPOINT_TIME;
        let full = self.store.bytes().saturating_add(length(&batch)) >= self.file_bytes;
        if late || (full && self.unsigned > 0) {
            self.checkpoint(&mut batch);
        }
        if !batch.is_empty() && !self.put(&batch) {
            return false;
        }
        for written in done {
            // Whoever waited may have gone.
            let _ = written.send(());
        }
        if full && !self.rotate() {
            return false;
        }
        if self.head_behind && self.head_at.elapsed() >= HEAD_TIME {
            self.write_head();
        }
        true
    }

    fn line(&mut self, batch: &mut Vec<u8>, time: SystemTime, event: Event) {
        let decision = matches!(event, Event::Decision(_));
        self.decisions = self.decisions.saturating_add(u64::from(decision));
        note_heard(&mut self.heard, &event);
        self.chain.append(batch, time, event);
        self.shared.metrics.audit_lines.inc();
        self.unsigned = self.unsigned.saturating_add(1);
        self.head_behind = true;
        if self.unsigned >= CHECKPOINT_LINES {
            self.checkpoint(batch);
        }
    }

    fn checkpoint(&mut self, batch: &mut Vec<u8>) {
        let chained = matches!(self.chain.seal, Seal::Chain(_));
        let heard = self.heard.marks();
        // Without a chain it vouches for nothing, and is there for the host that goes on with the log.
        if chained || !heard.is_empty() {
            let event = Event::Checkpoint {
                decisions: self.decisions,
                dropped: self.dropped,
                heard,
            };
            self.chain.append(batch, SystemTime::now(), event);
        }
        if chained {
            // A second witness, in another log: who rewrites both needs both.
            tracing::info!(seq = self.chain.seq, hash = %self.chain.last, "audit checkpoint");
        }
        self.unsigned = 0;
        self.checkpoint_at = Instant::now();
        self.head_behind = true;
    }

    /// Writes lines, again and again until it succeeds; `false` once the host's end has waited long enough.
    fn put(&mut self, lines: &[u8]) -> bool {
        self.insist(|store| store.append(lines)).is_some()
    }

    fn insist<T>(&mut self, mut act: impl FnMut(&mut S) -> std::io::Result<T>) -> Option<T> {
        let mut ending: Option<Instant> = None;
        loop {
            match act(&mut self.store) {
                Ok(value) => {
                    if self.shared.failing.swap(false, Ordering::Relaxed) {
                        tracing::info!("the audit log can be written again");
                    }
                    return Some(value);
                }
                Err(error) => {
                    self.shared.metrics.audit_failures.inc();
                    if !self.shared.failing.swap(true, Ordering::Relaxed) {
                        tracing::error!(
                            cause = error.to_string(),
                            "the audit log cannot be written"
                        );
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

    /// Goes on in a new file.
    fn rotate(&mut self) -> bool {
        let Some(first_seq) = self.chain.first_seq else {
            return true;
        };
        let Some(oldest_seq) = self.insist(|store| store.rotate(first_seq)) else {
            return false;
        };
        self.chain.first_seq = None;
        let open = Open {
            log: self.chain.log.clone(),
            why: "rotate".to_owned(),
            key: match &self.chain.seal {
                Seal::Chain(key) => Some(key.public().to_hex()),
                Seal::None => None,
            },
            oldest_seq,
            found: Vec::new(),
            heard: self.heard.marks(),
        };
        let mut first = Vec::new();
        self.chain
            .append(&mut first, SystemTime::now(), Event::Open(open));
        self.head_behind = true;
        self.put(&first)
    }

    fn write_head(&mut self) {
        self.head_at = Instant::now();
        if let Seal::Chain(_) = self.chain.seal {
            let Chain {
                log,
                seal,
                seq,
                last,
                ..
            } = &self.chain;
            let written = head(log, *seq, *last, seal).and_then(|text| self.store.head(&text));
            if let Err(error) = written {
                // The head stays behind and is tried again.
                self.shared.metrics.audit_failures.inc();
                tracing::warn!(
                    cause = error.to_string(),
                    "the audit log's head cannot be written"
                );
                return;
            }
        }
        self.head_behind = false;
    }

    fn end(&mut self) {
        let mut last = Vec::new();
        self.chain.append(&mut last, SystemTime::now(), Event::Stop);
        if self.put(&last) {
            self.write_head();
        }
    }
}

/// Says that nobody takes lines any more, however the thread ends.
struct Closes<'a>(&'a Queue);

impl Drop for Closes<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn length(batch: &[u8]) -> u64 {
    u64::try_from(batch.len()).unwrap_or(u64::MAX)
}
