//! Captures handler calls for a later replay, as the policy's `capture:` configures. They have
//! client data, so each is encrypted before it reaches a disk. One thread writes, behind a queue
//! limited by calls and bytes. Calls that do not fit are dropped and counted, and no request waits
//! or fails. A call has no credential, because handlers get none.

mod convert;
pub mod folder;
mod request;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use prometheus_client::metrics::counter::Counter;
use ring::rand::{SecureRandom as _, SystemRandom};
use tensorgate_base::owned::data_bytes;
use tensorgate_policy::hex;
use tensorgate_policy::policy::Capture;
use tensorgate_policy::values::CallOutcome;
pub use tensorgate_settings::capture::{
    Blob, Captured, CapturedOutcome, CapturedResource, FORMAT, HandlerFacts, Input, RecordError,
};
use tensorgate_settings::sealed_capture::{CaptureKeys, SealError};

use crate::finished_call::{CallCapture, FinishedCall};
use crate::outcome::{CapturedCall, HandlerError};
use crate::random_seed::unix_ms;
use convert::{End, QueuedCall, known_bytes};
pub use convert::{known, outcome, payload, role, wasi_inputs};
use folder::Folder;
pub use request::call_request;

/// The most queued calls.
const QUEUE_CALLS: usize = 64;
/// The most bytes in the queue, or one call if the policy allows larger ones.
const QUEUE_BYTES: usize = 64 << 20;
/// Of lost calls, the first is logged and then one in this many.
const LOG_EVERY: u64 = 1_000;
/// The random bytes in a file's name. Two hosts that write to one folder may choose the same stamp
/// for calls of one request.
const NAME_BYTES: usize = 4;

/// Why calls cannot be captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The keys cannot be used.
    #[error("capture: {0}")]
    Seal(#[from] SealError),
    /// The folder cannot be used.
    #[error("capture: cannot use folder {folder}: {cause}")]
    Folder {
        /// The path of the folder.
        folder: PathBuf,
        /// The error.
        cause: String,
    },
    /// The thread cannot be started.
    #[error("capture: cannot start the thread that writes: {0}")]
    Thread(std::io::Error),
}

/// The metrics of captured calls.
#[derive(Clone, Debug, Default)]
pub struct CaptureCounts {
    /// Written.
    pub kept: Counter,
    /// Dropped because the disk was too slow.
    pub dropped: Counter,
    /// Larger than the policy allows.
    pub too_large: Counter,
    /// Could not be written.
    pub failed: Counter,
}

/// Captures calls under one policy's configuration.
#[derive(Debug)]
pub struct Capturer {
    rule: Capture,
    key_file: PathBuf,
    keys: Arc<RwLock<CaptureKeys>>,
    queue: SyncSender<QueuedCall>,
    queued_bytes: Arc<AtomicUsize>,
    counts: CaptureCounts,
    seen: AtomicU64,
}

impl Capturer {
    /// Starts the capture. Files are relative to `root`. The thread ends when this is dropped.
    ///
    /// # Errors
    /// Returns an error if a key or the folder cannot be used.
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
        let (queue, calls) = sync_channel::<QueuedCall>(QUEUE_CALLS);
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
                    writer.write_or_log(&call);
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

    /// The configuration.
    pub const fn rule(&self) -> &Capture {
        &self.rule
    }

    /// Reads the keys again. New calls are sealed with the first one. If they cannot be used, the
    /// previous ones stay active.
    ///
    /// # Errors
    /// Returns an error if a key cannot be used.
    pub fn reload_keys(&self) -> Result<(), CaptureError> {
        let keys = CaptureKeys::read(&self.key_file)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// The capture of one request's calls, if they are to be captured. Requests are sampled by
    /// count, not at random.
    pub fn for_request(
        self: &Arc<Self>,
        model: &str,
        client: &str,
    ) -> Option<Arc<dyn CallCapture>> {
        if !self.rule.wants(model, client) {
            return None;
        }
        let number = self.seen.fetch_add(1, Ordering::Relaxed);
        if !self.rule.samples(number) {
            return None;
        }
        Some(Arc::new(RequestCapture {
            capturer: Arc::clone(self),
            model: model.to_owned(),
            client: client.to_owned(),
        }))
    }

    fn submit(&self, call: QueuedCall) {
        let (bytes, room) = (call.bytes, QUEUE_BYTES.max(self.rule.max_bytes()));
        let before = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > room || self.queue.try_send(call).is_err() {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            count_and_log(&self.counts.dropped, |dropped| {
                tracing::warn!(dropped, "captured calls dropped: the disk is slow");
            });
        }
    }
}

/// Increments a counter, and logs one in every [`LOG_EVERY`].
fn count_and_log(counter: &Counter, tell: impl FnOnce(u64)) {
    let before = counter.inc();
    if before.is_multiple_of(LOG_EVERY) {
        tell(before.saturating_add(1));
    }
}

/// The state of the writer thread.
struct Writer {
    folder: Folder,
    keys: Arc<RwLock<CaptureKeys>>,
    counts: CaptureCounts,
}

impl Writer {
    fn write_or_log(&mut self, call: &QueuedCall) {
        match self.write(call) {
            Ok(()) => {
                self.counts.kept.inc();
            }
            Err(cause) => count_and_log(&self.counts.failed, |failed| {
                let request_id = &*call.request_id;
                tracing::error!(request_id, failed, cause, "cannot store a captured call");
            }),
        }
    }

    fn write(&mut self, call: &QueuedCall) -> Result<(), String> {
        let text = call.captured().ok_or("it has tensors without data")?;
        let text = text.encode().map_err(|error| error.to_string())?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let sealed = keys.seal(text).map_err(|error| error.to_string())?;
        drop(keys);
        let mut chance = [0; NAME_BYTES];
        (SystemRandom::new().fill(&mut chance)).map_err(|_| SealError::Random.to_string())?;
        let name = format!("{}-{}", call.request_id, hex(&chance));
        self.folder
            .write(call.at_unix_ms, &name, &sealed)
            .map_err(|error| error.to_string())
    }
}

/// Captures the calls of one request.
#[derive(Debug)]
struct RequestCapture {
    capturer: Arc<Capturer>,
    model: String,
    client: String,
}

impl CallCapture for RequestCapture {
    fn capture(&self, ran: FinishedCall<'_>) -> Option<Arc<dyn CapturedCall>> {
        let capturer = &self.capturer;
        let (outcome, made) = match ran.outcome {
            Ok(called) => (CallOutcome::Answered, data_bytes(&called.tensors)),
            Err(HandlerError::Rejected { .. }) => (CallOutcome::Rejected, 0),
            Err(HandlerError::Fault { .. }) => (CallOutcome::Fault, 0),
            Err(HandlerError::Overloaded(_) | HandlerError::CircuitOpen(_)) => return None,
        };
        let over = |call| FinishedCapture {
            capturer: Arc::clone(capturer),
            outcome,
            broke: AtomicBool::new(false),
            call,
        };
        let bytes = (ran.input.data_bytes())
            .saturating_add(known_bytes(ran.resolved))
            .saturating_add(ran.request.map_or(0, |read| read.carry.len()))
            .saturating_add(made);
        if bytes > capturer.rule.max_bytes() {
            return Some(Arc::new(over(None)));
        }
        let beside_bytes = (ran.input.memory_bytes()).saturating_sub(ran.input.data_bytes());
        let call = QueuedCall {
            bytes: bytes.saturating_add(beside_bytes),
            engine: Arc::clone(ran.engine),
            at_unix_ms: unix_ms(SystemTime::now()),
            request_id: ran.request_id.to_owned(),
            client: self.client.clone(),
            model: self.model.clone(),
            handler: ran.handler.to_owned(),
            role: ran.role,
            rule: Arc::clone(ran.rule),
            request: ran.request.map(|read| request::captured(read, ran.rule)),
            input: Arc::clone(ran.input),
            known: Arc::clone(ran.resolved),
            wasi: ran.wasi,
            end: End::from_call(ran.outcome)?,
            broke: false,
        };
        Some(Arc::new(over(Some(call))))
    }
}

/// A finished call whose output may still be found to break the contract. It is captured on drop.
#[derive(Debug)]
struct FinishedCapture {
    capturer: Arc<Capturer>,
    outcome: CallOutcome,
    broke: AtomicBool,
    /// `None` if it is too large.
    call: Option<QueuedCall>,
}

impl CapturedCall for FinishedCapture {
    fn mark_contract_broken(&self) {
        self.broke.store(true, Ordering::Relaxed);
    }
}

impl Drop for FinishedCapture {
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
            Some(call) => self.capturer.submit(QueuedCall { broke, ..call }),
            None => {
                self.capturer.counts.too_large.inc();
            }
        }
    }
}
