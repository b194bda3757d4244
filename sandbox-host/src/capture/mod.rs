//! Calls of handlers, kept for who wants to run them again: which, the policy's `capture:` says. They hold what clients sent, so each is
//! encrypted before it touches a disk. One thread writes, behind a bounded queue: what does not fit is dropped and counted, and no request waits.

mod folder;
mod record;
mod sealed;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::SystemTime;

use tensorgate_policy::policy::{Capture, Handler};

use crate::sandbox::{Called, HandlerError, Keep, Known, Payload, Role};
pub use folder::Folder;
pub use record::{Came, Captured, FORMAT, HandlerFacts, Input, Outcome, role};
pub use sealed::{CaptureKey, SealError};

/// Calls that wait to be written. Each is at most the policy's `max_bytes`.
const QUEUE: usize = 64;

/// Why captured calls cannot be kept.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each says it")]
pub enum CaptureError {
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("capture: cannot use folder {folder}: {cause}")]
    Folder { folder: String, cause: String },
    #[error("capture: cannot start the thread that writes: {0}")]
    Thread(std::io::Error),
}

/// Keeps calls, as one policy's rule says.
#[derive(Debug)]
pub struct Capturer {
    rule: Capture,
    queue: SyncSender<Captured>,
    dropped: AtomicU64,
    seen: AtomicU64,
}

impl Capturer {
    /// Files are relative to `root`. The thread ends with this.
    ///
    /// # Errors
    /// A key or a folder that cannot be used.
    pub fn start(rule: &Capture, root: &Path) -> Result<Arc<Self>, CaptureError> {
        let key = CaptureKey::read(&root.join(rule.key_file()))?;
        let folder = Folder::open(&root.join(rule.folder()), rule.keep()).map_err(|cause| {
            CaptureError::Folder {
                folder: rule.folder().to_owned(),
                cause: cause.to_string(),
            }
        })?;
        let (queue, calls) = sync_channel::<Captured>(QUEUE);
        std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || {
                let mut folder = folder;
                for call in calls {
                    let request_id = call.request_id.clone();
                    if let Err(cause) = write(&mut folder, &key, &call) {
                        tracing::error!(request_id, cause, "a captured call cannot be kept");
                    }
                }
            })
            .map_err(CaptureError::Thread)?;
        Ok(Arc::new(Self {
            rule: rule.clone(),
            queue,
            dropped: AtomicU64::new(0),
            seen: AtomicU64::new(0),
        }))
    }

    /// Its rule.
    pub const fn rule(&self) -> &Capture {
        &self.rule
    }

    /// What keeps a client's calls on behalf of a model, if they are to be kept. One in so many is, whoever asks: by count, not by chance.
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

    fn keep(&self, call: Captured) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(call) {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed);
            // The first, and then one in many: a log is no queue either.
            if dropped.is_multiple_of(1_000) {
                tracing::warn!(dropped, "captured calls are dropped: the disk is slow");
            }
        }
    }
}

fn write(folder: &mut Folder, key: &CaptureKey, call: &Captured) -> Result<(), String> {
    let text = serde_json::to_vec(call).map_err(|error| error.to_string())?;
    let sealed = key.seal(text).map_err(|error| error.to_string())?;
    let name = &call.request_id;
    let (role, at) = (&call.handler.role, call.at_unix_ms);
    folder
        .write(&format!("{at:013}-{name}-{role}"), &sealed)
        .map_err(|error| error.to_string())
}

/// Keeps the calls of one request.
struct Keeper {
    capturer: Arc<Capturer>,
    model: String,
    client: String,
}

impl Keep for Keeper {
    fn keep(
        &self,
        handler: (&str, &Handler, Role),
        request_id: &str,
        input: &Payload,
        known: &Known,
        called: &Result<Called, HandlerError>,
    ) {
        let rule = &self.capturer.rule;
        let outcome = match called {
            Ok(_) => "answered",
            Err(HandlerError::Rejected(_)) => "rejected",
            Err(HandlerError::Fault { .. }) => "fault",
            Err(HandlerError::Overloaded) => return,
        };
        let bytes = input.data_bytes().saturating_add(known_bytes(known));
        if !rule.wants_outcome(outcome) || bytes > rule.max_bytes() {
            return;
        }
        let (name, limits, role) = handler;
        let (Some(input), Some(outcome)) = (Input::of(input), Outcome::of(called)) else {
            return;
        };
        let at_unix_ms = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()
            .and_then(|since| u64::try_from(since.as_millis()).ok());
        self.capturer.keep(Captured {
            format: FORMAT,
            at_unix_ms: at_unix_ms.unwrap_or(0),
            request_id: request_id.to_owned(),
            client: self.client.clone(),
            model: self.model.clone(),
            handler: HandlerFacts {
                name: name.to_owned(),
                role: role.export().to_owned(),
                sha256: tensorgate_policy::hex(limits.sha256()),
                fuel: limits.fuel(),
                memory_bytes: u64::try_from(limits.memory_bytes()).unwrap_or(u64::MAX),
                timeout_ms: limits.timeout_ms(),
                config: limits.config().clone(),
            },
            input,
            brought: known.iter().filter_map(Came::of).collect(),
            outcome,
        });
    }
}

fn known_bytes(known: &Known) -> usize {
    use crate::sandbox::Brought;
    known
        .values()
        .map(|brought| match brought {
            Brought::File(file) => file.as_ref().map_or(0, |file| file.data.len()),
            Brought::Columns(columns) => (columns.iter().flatten())
                .map(|column| column.values.len().saturating_mul(16))
                .sum(),
        })
        .fold(0, usize::saturating_add)
}
