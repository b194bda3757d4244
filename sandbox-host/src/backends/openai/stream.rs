//! An answer in pieces, passed on as it comes: nothing is read ahead of what the caller takes, and whoever drops it drops the connection to the
//! backend, its place there and what it holds of memory.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tensorgate_policy::{Denial, Protocol, Reason};
use tensorgate_wire::Answer;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::chunk::Chunks;
use super::connection::Connection;
use super::events::Events;
use crate::audit::Ending;
use crate::backends::BackendError;
use crate::budget::Held;
use crate::dispatch;
use crate::document::Document;
use crate::metrics::Raised;

/// The end of every answer.
const DONE: &str = "[DONE]";

/// An answer on its way.
pub struct Streamed {
    body: Incoming,
    events: Events,
    chunks: Chunks,
    request_id: String,
    /// When it has to be over.
    deadline: Instant,
    /// Bytes that may still come.
    left: usize,
    /// Bytes that the caller got.
    sent: usize,
    over: bool,
    /// Whether it came to its end.
    whole: bool,
    /// Whom to tell if it breaks off.
    ending: Option<Ending>,
    /// What is given back when it is over.
    lease: Lease,
    /// Its bytes in the host's budget.
    held: Option<Held>,
}

/// A connection, and what is kept beside it.
type Leased = Mutex<Option<(Connection, Option<Kept>)>>;

/// What an answer has of the backend, until it is over or its time is: whoever dawdles over the pieces keeps no place there for longer.
struct Lease {
    kept: Arc<Leased>,
    timer: JoinHandle<()>,
}

impl Lease {
    fn until(connection: Connection, deadline: Instant) -> Self {
        let kept = Arc::new(Mutex::new(Some((connection, None))));
        let late = Arc::clone(&kept);
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(deadline).await;
            end(&late);
        });
        Self { kept, timer }
    }

    /// Keeps these too; gives them back at once where the time is over.
    fn keep(&self, kept: Kept) {
        let mut lease = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, place)) = lease.as_mut() {
            *place = Some(kept);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.timer.abort();
        end(&self.kept);
    }
}

fn end(lease: &Leased) {
    drop(lease.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// What an answer keeps while it is on its way.
pub struct Kept {
    /// Its place at the backend.
    pub place: dispatch::Place,
    /// Its mark among those in flight there.
    pub raised: Raised,
    /// Its mark at the server that it was sent to.
    pub load: dispatch::Load,
}

impl Streamed {
    pub(super) fn new(
        connection: Connection,
        body: Incoming,
        asked: (Document, &str, &str),
        max_bytes: usize,
        deadline: Instant,
    ) -> Self {
        let (document, model, request_id) = asked;
        Self {
            body,
            events: Events::default(),
            chunks: Chunks::new(document, model, request_id),
            request_id: request_id.to_owned(),
            deadline,
            left: max_bytes,
            sent: 0,
            over: false,
            whole: false,
            ending: None,
            lease: Lease::until(connection, deadline),
            held: None,
        }
    }

    /// Keeps these until it is over, and `held` until the caller has all of it.
    pub fn keep(&mut self, kept: Kept, held: Held) {
        self.lease.keep(kept);
        self.held = Some(held);
    }

    /// Whom to tell if it breaks off.
    pub fn tell(&mut self, ending: Ending) {
        self.ending = Some(ending);
    }

    /// Tokens that it used in all, once it is over; `None` if it broke off, or its server does not count.
    pub fn tokens(&self) -> Option<u64> {
        self.chunks.tokens().filter(|_| self.whole)
    }

    /// The next event for the caller; `None` once it is over. A fault is told as the last event, and without the end's own.
    pub async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let event = match self.event().await {
            Ok(Some(event)) => {
                self.sent = self.sent.saturating_add(event.len());
                return Some(Bytes::from(event));
            }
            Ok(None) => {
                self.whole = true;
                format!("data: {DONE}\n\n").into_bytes()
            }
            Err(error) => {
                let request_id = self.request_id.as_str();
                tracing::warn!(request_id, cause = %error, "an answer in pieces broke off");
                let denial = dispatch::denial(&error, "the backend's answer");
                if let Some(ending) = self.ending.take() {
                    ending.broke_off(&denial, self.sent);
                }
                told(&denial, request_id)
            }
        };
        self.over = true;
        end(&self.lease.kept);
        Some(Bytes::from(event))
    }

    /// The next chunk, written anew; `None` at the end.
    async fn event(&mut self) -> Result<Option<Vec<u8>>, BackendError> {
        loop {
            let event = self.events.next();
            let event = event.map_err(|fault| BackendError::Fault(fault.to_string()))?;
            if let Some(data) = event {
                if data == DONE {
                    return Ok(None);
                }
                match self.chunks.check(&data)? {
                    Some(chunk) => return Ok(Some(chunk)),
                    None => continue,
                }
            }
            let frame = tokio::time::timeout_at(self.deadline, self.body.frame()).await;
            let frame = frame.map_err(|_| {
                BackendError::Timeout("the answer did not end within the deadline".to_owned())
            })?;
            let piece = match frame {
                None => {
                    let cause = "the answer ended without its end".to_owned();
                    return Err(BackendError::Fault(cause));
                }
                Some(Err(error)) => {
                    let cause = format!("the answer broke off: {error}");
                    return Err(BackendError::Unavailable(cause));
                }
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            self.left = self.left.checked_sub(piece.len()).ok_or_else(|| {
                BackendError::Fault(
                    "an answer of more bytes than the policy lets it have".to_owned(),
                )
            })?;
            self.events.feed(&piece);
        }
    }
}

/// A refusal as an event: the same text that a caller gets as a whole answer.
fn told(denial: &Denial, request_id: &str) -> Vec<u8> {
    let denial = Denial::new(denial.reason, denial.cause.as_str());
    let body = match Answer::to_denial(&denial, Protocol::OpenAi, request_id) {
        Answer::Rest { body, .. } => body,
        Answer::Grpc { .. } => Reason::BackendFault.name().into(),
    };
    [&b"data: "[..], &body, b"\n\n"].concat()
}
