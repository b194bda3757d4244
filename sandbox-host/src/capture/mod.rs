//! Calls of handlers, kept for who wants to run them again: which, the policy's `capture:` says. They hold what clients sent, so each is
//! encrypted before it touches a disk. One thread writes, behind a queue that is bounded by calls and by bytes: what does not fit is dropped and
//! counted, and no request waits or fails. A credential is in none: handlers are given none.

mod convert;
mod envelope;
pub mod folder;
mod record;
mod sealed;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use prometheus_client::metrics::counter::Counter;
use ring::rand::{SecureRandom as _, SystemRandom};
use tensorgate_policy::hex;
use tensorgate_policy::policy::Capture;
use tensorgate_policy::raw::CallOutcome;

use crate::owned::data_bytes;
use crate::sandbox::{HandlerError, Keep, Kept, Ran};
use convert::{End, Waiting, known_bytes};
use folder::Folder;
pub use record::{Blob, Came, Captured, FORMAT, HandlerFacts, Input, Outcome, RecordError};
pub use sealed::{CaptureKeys, SealError};

/// Calls that wait to be written.
const QUEUE_CALLS: usize = 64;
/// Bytes of what waits to be written, unless the policy keeps larger calls: then one of those.
const QUEUE_BYTES: usize = 64 << 20;
/// A log is no queue either: of what is lost, the first is told and then one in so many.
const TOLD_EVERY: u64 = 1_000;
/// Bytes of chance in a file's name: a request can have several calls.
const NAME_BYTES: usize = 4;

/// Why captured calls cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The keys cannot be used.
    #[error("capture: {0}")]
    Seal(#[from] SealError),
    /// The folder cannot be.
    #[error("capture: cannot use folder {folder}: {cause}")]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why not.
        cause: String,
    },
    /// The machine has no thread for it.
    #[error("capture: cannot start the thread that writes: {0}")]
    Thread(std::io::Error),
}

/// What became of calls that were to be kept.
#[derive(Clone, Debug, Default)]
pub struct CaptureCounts {
    /// They were.
    pub kept: Counter,
    /// The disk was too slow.
    pub dropped: Counter,
    /// They are larger than the policy keeps.
    pub too_large: Counter,
    /// They could not be written.
    pub failed: Counter,
}

/// Keeps calls, as one policy's rule says.
#[derive(Debug)]
pub struct Capturer {
    rule: Capture,
    key_file: PathBuf,
    keys: Arc<RwLock<CaptureKeys>>,
    queue: SyncSender<Waiting>,
    queued_bytes: Arc<AtomicUsize>,
    counts: CaptureCounts,
    seen: AtomicU64,
}

impl Capturer {
    /// Files are relative to `root`. The thread ends with this.
    ///
    /// # Errors
    /// A key or a folder that cannot be used.
    pub fn start(
        rule: &Capture,
        root: &Path,
        counts: CaptureCounts,
    ) -> Result<Arc<Self>, CaptureError> {
        let key_file = root.join(rule.key_file());
        let keys = Arc::new(RwLock::new(CaptureKeys::read(&key_file)?));
        let path = root.join(rule.folder());
        let folder = Folder::open(&path, rule.keep(), rule.keep_bytes()).map_err(|cause| {
            CaptureError::Folder {
                folder: path,
                cause: cause.to_string(),
            }
        })?;
        let (queue, calls) = sync_channel::<Waiting>(QUEUE_CALLS);
        let queued_bytes = Arc::<AtomicUsize>::default();
        let mut writer = Writer {
            folder,
            keys: Arc::clone(&keys),
            counts: counts.clone(),
        };
        let waiting = Arc::clone(&queued_bytes);
        std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || {
                for call in calls {
                    writer.keep(&call);
                    waiting.fetch_sub(call.bytes, Ordering::Relaxed);
                }
            })
            .map_err(CaptureError::Thread)?;
        Ok(Arc::new(Self {
            rule: rule.clone(),
            key_file,
            keys,
            queue,
            queued_bytes,
            counts,
            seen: AtomicU64::new(0),
        }))
    }

    /// Its rule.
    pub const fn rule(&self) -> &Capture {
        &self.rule
    }

    /// Reads its keys again: what is written from now on is under the first of them. Those that cannot be used leave the ones before in force.
    ///
    /// # Errors
    /// A key that cannot be used.
    pub fn reread(&self) -> Result<(), CaptureError> {
        let keys = CaptureKeys::read(&self.key_file)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// What keeps the calls of one request, if they are to be kept. One in so many is, whoever asks: by count, not by chance.
    pub fn of(self: &Arc<Self>, model: &str, client: &str) -> Option<Arc<dyn Keep>> {
        if !self.rule.wants(model, client) {
            return None;
        }
        let number = self.seen.fetch_add(1, Ordering::Relaxed);
        if !self.rule.samples(number) {
            return None;
        }
        Some(Arc::new(Keeper {
            capturer: Arc::clone(self),
            model: model.to_owned(),
            client: client.to_owned(),
        }))
    }

    fn submit(&self, call: Waiting) {
        let (bytes, room) = (call.bytes, QUEUE_BYTES.max(self.rule.max_bytes()));
        let before = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > room || self.queue.try_send(call).is_err() {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            told(&self.counts.dropped, |dropped| {
                tracing::warn!(dropped, "captured calls are dropped: the disk is slow");
            });
        }
    }
}

/// Counts, and tells of one in so many.
fn told(counter: &Counter, tell: impl FnOnce(u64)) {
    let before = counter.inc();
    if before.is_multiple_of(TOLD_EVERY) {
        tell(before.saturating_add(1));
    }
}

/// What the thread has.
struct Writer {
    folder: Folder,
    keys: Arc<RwLock<CaptureKeys>>,
    counts: CaptureCounts,
}

impl Writer {
    fn keep(&mut self, call: &Waiting) {
        match self.write(call) {
            Ok(()) => {
                self.counts.kept.inc();
            }
            Err(cause) => told(&self.counts.failed, |failed| {
                let request_id = &*call.request_id;
                tracing::error!(request_id, failed, cause, "a captured call cannot be kept");
            }),
        }
    }

    fn write(&mut self, call: &Waiting) -> Result<(), String> {
        let text = call.captured().ok_or("it has tensors without data")?;
        let text = text.encode().map_err(|error| error.to_string())?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let sealed = keys.seal(text).map_err(|error| error.to_string())?;
        drop(keys);
        let mut chance = [0; NAME_BYTES];
        (SystemRandom::new().fill(&mut chance)).map_err(|_| SealError::Random.to_string())?;
        let (at, id, chance) = (call.at_unix_ms, &call.request_id, hex(&chance));
        self.folder
            .write(&format!("{at:013}-{id}-{chance}"), &sealed)
            .map_err(|error| error.to_string())
    }
}

/// Keeps the calls of one request.
#[derive(Debug)]
struct Keeper {
    capturer: Arc<Capturer>,
    model: String,
    client: String,
}

impl Keep for Keeper {
    fn keep(&self, ran: Ran<'_>) -> Option<Arc<dyn Kept>> {
        let capturer = &self.capturer;
        let (outcome, made) = match ran.called {
            Ok(called) => (CallOutcome::Answered, data_bytes(&called.tensors)),
            Err(HandlerError::Rejected { .. }) => (CallOutcome::Rejected, 0),
            Err(HandlerError::Fault { .. }) => (CallOutcome::Fault, 0),
            Err(HandlerError::Overloaded(_) | HandlerError::CutOff(_)) => return None,
        };
        let over = |call| Over {
            capturer: Arc::clone(capturer),
            outcome,
            broke: AtomicBool::new(false),
            call,
        };
        let bytes = (ran.input.data_bytes())
            .saturating_add(known_bytes(ran.known))
            .saturating_add(made);
        if bytes > capturer.rule.max_bytes() {
            return Some(Arc::new(over(None)));
        }
        let at = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()
            .and_then(|since| u64::try_from(since.as_millis()).ok());
        let call = Waiting {
            bytes,
            engine: Arc::clone(ran.engine),
            at_unix_ms: at.unwrap_or(0),
            request_id: ran.request_id.to_owned(),
            client: self.client.clone(),
            model: self.model.clone(),
            handler: ran.handler.to_owned(),
            role: ran.role,
            rule: Arc::clone(ran.rule),
            input: Arc::clone(ran.input),
            known: Arc::clone(ran.known),
            end: End::of(ran.called)?,
            broke: false,
        };
        Some(Arc::new(over(Some(call))))
    }
}

/// A call that is over, and whose answer may still be found to break the contract. It is kept when this goes.
#[derive(Debug)]
struct Over {
    capturer: Arc<Capturer>,
    outcome: CallOutcome,
    broke: AtomicBool,
    /// Nothing of one that is too large.
    call: Option<Waiting>,
}

impl Kept for Over {
    fn broke(&self) {
        self.broke.store(true, Ordering::Relaxed);
    }
}

impl Drop for Over {
    fn drop(&mut self) {
        let broke = self.broke.load(Ordering::Relaxed);
        let outcome = if broke {
            CallOutcome::Fault
        } else {
            self.outcome
        };
        if !self.capturer.rule.wants_outcome(outcome) {
            return;
        }
        match self.call.take() {
            Some(call) => self.capturer.submit(Waiting { broke, ..call }),
            None => {
                self.capturer.counts.too_large.inc();
            }
        }
    }
}
