//! A streamed response, forwarded as it arrives. Nothing is read ahead of the consumer. Dropping it
//! closes the connection to the backend and releases its permit and memory.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use tensorgate_audit::Ending;
use tensorgate_base::memory_budget::MemoryPermit;
use tensorgate_judge::document::Document;
use tensorgate_net::http1::{AnswerBody, Lease};
use tensorgate_policy::{Denial, Protocol, Reason};
use tensorgate_wire::Answer;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::chunk::ChunkChecker;
use super::events::EventParser;
use crate::backends::BackendError;

/// The data of the last event.
const DONE: &str = "[DONE]";
/// The most bytes behind the end event that are read so that the connection may be kept.
const MAX_TAIL_BYTES: usize = 1 << 10;
/// The longest time for reading them.
const TAIL_TIMEOUT: Duration = Duration::from_millis(100);

/// What the received bytes hold next.
enum Received {
    /// An encoded chunk for the caller.
    Chunk(Vec<u8>),
    /// The end event.
    End,
    /// No further event.
    Nothing,
}

/// A streamed response.
pub struct EventStream {
    /// Gone once its end is read by another task.
    body: Option<AnswerBody>,
    events: EventParser,
    chunks: ChunkChecker,
    request_id: String,
    /// The deadline of the whole response.
    deadline: Instant,
    /// The bytes that may still arrive.
    remaining_bytes: usize,
    /// The bytes that were sent to the caller.
    sent: usize,
    finished: bool,
    /// Whether the response was complete.
    complete: bool,
    /// Whether the backend's body has ended.
    is_body_over: bool,
    /// Records in the audit log how the response ended.
    ending: Option<Ending>,
    /// Counts a response whose usage cannot be right.
    faulty_usage: Option<Counter>,
    /// The backend resources, which are released at the end.
    lease: BackendLease,
    /// The memory in the host's budget.
    memory: Option<MemoryPermit>,
}

/// A connection with the resources for it.
type LeasedResources = Mutex<Option<(Lease, Option<Box<dyn Send>>)>>;

/// The backend resources of a response. They are released at its end or deadline, so that a slow
/// consumer does not hold a permit for longer.
struct BackendLease {
    resources: Arc<LeasedResources>,
    timer: JoinHandle<()>,
}

impl BackendLease {
    fn until(connection: Lease, deadline: Instant) -> Self {
        let kept = Arc::new(Mutex::new(Some((connection, None))));
        let late = Arc::clone(&kept);
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(deadline).await;
            release(&late);
        });
        Self {
            resources: kept,
            timer,
        }
    }

    /// Adds resources. Releases them at once if the deadline has passed.
    fn hold(&self, permits: Box<dyn Send>) {
        let mut lease = self
            .resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((_, slot)) = lease.as_mut() {
            *slot = Some(permits);
        }
    }
}

impl Drop for BackendLease {
    fn drop(&mut self) {
        self.timer.abort();
        release(&self.resources);
    }
}

fn release(lease: &LeasedResources) {
    drop(lease.lock().unwrap_or_else(PoisonError::into_inner).take());
}

impl EventStream {
    pub(super) fn new(
        connection: Lease,
        body: AnswerBody,
        request_document: (Document, &str, &str),
        max_bytes: usize,
        deadline: Instant,
    ) -> Self {
        let (document, model, request_id) = request_document;
        Self {
            body: Some(body),
            events: EventParser::default(),
            chunks: ChunkChecker::new(document, model, request_id),
            request_id: request_id.to_owned(),
            deadline,
            remaining_bytes: max_bytes,
            sent: 0,
            finished: false,
            complete: false,
            is_body_over: false,
            ending: None,
            faulty_usage: None,
            lease: BackendLease::until(connection, deadline),
            memory: None,
        }
    }

    /// Holds `permits` until the response ends, and `memory` until the caller has received it.
    pub fn hold(&mut self, permits: Box<dyn Send>, memory: MemoryPermit) {
        self.lease.hold(permits);
        self.memory = Some(memory);
    }

    /// Sets the counter of responses whose usage cannot be right.
    pub fn set_faulty_usage(&mut self, counter: Counter) {
        self.faulty_usage = Some(counter);
    }

    /// Sets the recorder of the end.
    pub fn set_ending(&mut self, ending: Ending) {
        self.ending = Some(ending);
    }

    /// The total number of tokens of a complete response. `None` if it ended early or the server
    /// does not report it.
    pub fn tokens(&self) -> Option<u64> {
        self.chunks.tally().tokens().filter(|_| self.complete)
    }

    /// The next event for the caller, `None` after the end. A failure is sent as the last event,
    /// without the regular end.
    pub async fn next(&mut self) -> Option<Bytes> {
        if self.finished {
            return None;
        }
        let event = match self.event().await {
            Ok(Some(event)) => {
                self.sent = self.sent.saturating_add(event.len());
                return Some(Bytes::from(event));
            }
            Ok(None) => {
                self.complete = true;
                let counts = self.chunks.tally().counts();
                if let Some((ending, counts)) = self.ending.take().zip(counts) {
                    ending.complete(self.sent, counts);
                }
                format!("data: {DONE}\n\n").into_bytes()
            }
            Err(error) => {
                let request_id = self.request_id.as_str();
                tracing::warn!(request_id, cause = %error, "streamed response ended early");
                let denial = error.to_denial("the backend's answer");
                if let Some(ending) = self.ending.take() {
                    ending.denied(&denial, self.sent, self.chunks.tally().counts());
                }
                denial_event(&denial, request_id)
            }
        };
        self.finished = true;
        if let Some(counter) = self.faulty_usage.take()
            && self.chunks.tally().is_faulty()
        {
            counter.inc();
        }
        self.release_at_end();
        Some(Bytes::from(event))
    }

    /// Releases the backend resources. Behind the end event only the end of the body is left, as a
    /// rule: another task reads it, so that the connection may be kept and the permit is free.
    fn release_at_end(&mut self) {
        let leased = self.lease.resources.lock();
        let leased = leased.unwrap_or_else(PoisonError::into_inner).take();
        let Some((lease, permits)) = leased else {
            return;
        };
        drop(permits);
        if let Some(body) = self
            .body
            .take()
            .filter(|_| self.complete && !self.is_body_over)
        {
            body.drain(lease, MAX_TAIL_BYTES, TAIL_TIMEOUT);
        }
    }

    /// The next encoded chunk of those that were received.
    fn received(&mut self) -> Result<Received, BackendError> {
        loop {
            let event = self.events.next();
            let event = event.map_err(|fault| BackendError::Fault(fault.to_string()))?;
            let Some(event) = event else {
                return Ok(Received::Nothing);
            };
            // Some servers write blanks behind the last event, or empty events between chunks.
            match event.trim() {
                "" => {}
                DONE => {
                    self.chunks.check_end()?;
                    return Ok(Received::End);
                }
                data => {
                    if let Some(chunk) = self.chunks.check(data)? {
                        return Ok(Received::Chunk(chunk));
                    }
                }
            }
        }
    }

    /// The end of the response where the backend's body ends without its end event. Some servers
    /// never send one. A response whose choices all have their finish reason is complete.
    fn end_of_body(&self, received: Result<Received, BackendError>) -> Result<(), BackendError> {
        if self.chunks.is_complete() {
            return self.chunks.check_end();
        }
        received?;
        let cause = "the stream ended without its end event".to_owned();
        Err(BackendError::Fault(cause))
    }

    /// The next encoded chunk, `None` at the end.
    async fn event(&mut self) -> Result<Option<Vec<u8>>, BackendError> {
        loop {
            match self.received() {
                Ok(Received::Chunk(chunk)) => return Ok(Some(chunk)),
                Ok(Received::End) => return Ok(None),
                // Behind a complete response, a part of an event is not used.
                received if self.is_body_over => return self.end_of_body(received).map(|()| None),
                Ok(Received::Nothing) => {}
                Err(error) => return Err(error),
            }
            let Some(body) = &mut self.body else {
                return Ok(None);
            };
            let frame = tokio::time::timeout_at(self.deadline, body.data()).await;
            let frame = frame.map_err(|_| {
                BackendError::Timeout("the answer did not end within the deadline".to_owned())
            })?;
            let piece = match frame {
                Some(Ok(data)) => data,
                Some(Err(error)) if !self.chunks.is_complete() => {
                    let cause = format!("the answer ended early: {error}");
                    return Err(BackendError::Broken(cause));
                }
                Some(Err(_)) | None => {
                    self.is_body_over = true;
                    // The last event may lack the blank line at its end.
                    self.events.feed(b"\n\n");
                    continue;
                }
            };
            let Some(remaining_bytes) = self.remaining_bytes.checked_sub(piece.len()) else {
                return Err(BackendError::TooLong);
            };
            self.remaining_bytes = remaining_bytes;
            self.events.feed(&piece);
        }
    }
}

/// Encodes a denial as an event, with the same text as in a complete response.
fn denial_event(denial: &Denial, request_id: &str) -> Vec<u8> {
    let denial = Denial {
        limit: denial.limit,
        ..Denial::new(denial.reason, denial.cause.as_str())
    };
    let body = match Answer::to_denial(&denial, Protocol::OpenAi, request_id) {
        Answer::Rest { body, .. } => body,
        Answer::Grpc { .. } => Reason::BackendFault.name().into(),
    };
    [&b"data: "[..], &body, b"\n\n"].concat()
}
