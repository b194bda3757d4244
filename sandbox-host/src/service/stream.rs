//! A stream of inferences. Its messages are handled one after the other, each verified, run,
//! recorded and answered like a request. So a stream holds at most one message and one response in
//! memory, and its responses have the order of its messages. The responses of a decoupled model are
//! all sent before the next message is read.
//!
//! The filter passes a stream on unread, so each message is charged here. A denied message gets a
//! response with the reason, and the stream continues. The stream ends
//! - with its last message,
//! - with a framing error, or after too many denials (`rejections`),
//! - when it must not continue: its caller is no longer admitted, its policy is no longer the
//!   newest, a deadline has passed, nothing has arrived for too long, or the host shuts down.

mod answering;
mod conditions;
mod rejections;
mod running_answer;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::request::Parts;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use tensorgate_base::client_key::ClientKey;
use tensorgate_base::grpc_timeout;
use tensorgate_base::memory_budget::MemoryPermit;
use tensorgate_base::unix_time::now_unix_s;
use tensorgate_judge::request::StreamHead;
use tensorgate_policy::denial::AnswerLimit;
use tensorgate_policy::{Denial, Reason};
use tensorgate_wire::messages::{Messages, NextMessage};
use tokio::time::Instant;

use super::App;
use super::stream_deadline::{before_reset, stream_deadline};
use crate::admission::body_memory::out_of_memory;
use crate::counters::RequestUsage;
use crate::pipeline::chunk_stream::Source;
use crate::pipeline::record::Record;
use crate::pipeline::reply;
use crate::pipeline::reply::Reply;
use crate::pipeline::stream_record::{self, StreamEnd};
use crate::policy_store::policy_versions::PolicyVersion;
use answering::{Answered, Answering};
use conditions::StreamConditions;
use rejections::Rejections;
use running_answer::RunningAnswer;

/// The unread bytes that a stream may have without a reservation. A stream that only waits must not
/// end because its client's other requests use all memory.
const FREE_BYTES: usize = 16 << 10;
/// The memory that is reserved first for a message that is longer than that.
const FIRST_BYTES: usize = 256 << 10;

/// An open stream.
struct Stream<B> {
    answering: Answering,
    /// The message with several responses that is being answered.
    running: Option<Box<RunningAnswer>>,
    conditions: StreamConditions,
    /// How long the stream may be without data of the client.
    max_idle: Duration,
    messages: Messages,
    rejections: Rejections,
    body: B,
    /// Received bytes that are not parsed yet, and space for more.
    unread: BytesMut,
    reading: MemoryPermit,
    /// The number of messages that were judged or denied.
    number: u64,
    /// The bytes of responses.
    response_bytes: u64,
    /// The record of the stream.
    record: Record,
    /// What the host has acquired for its opening, until it ends.
    _usage: RequestUsage,
    is_closed: bool,
    /// Whether the client disconnected.
    client_left: bool,
}

/// Opens a stream whose head is verified, and sends the response head.
pub(super) fn open<B>(
    app: &Arc<App>,
    generation: Arc<PolicyVersion>,
    (opened, usage): (StreamHead, RequestUsage),
    parts: &Parts,
    body: B,
    arrived: Instant,
    record: &mut Record,
) -> Reply
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: std::fmt::Display,
{
    record.caller.clone_from(opened.caller());
    record.protocol = tensorgate_policy::Protocol::OipGrpc;
    stream_record::open_stream(record);
    let timeout = grpc_timeout::from_headers(&parts.headers);
    let client_key = ClientKey::from_name(opened.caller().client.as_deref());
    let limits = generation.policy().listen().limits();
    let ends = stream_deadline(limits, arrived);
    let stream = Stream {
        max_idle: before_reset(Duration::from_millis(limits.stream_idle_ms())),
        conditions: StreamConditions {
            app: Arc::clone(app),
            generation: Arc::clone(&generation),
            caller: opened.caller().clone(),
            changes: app.policy_versions.changes(),
            blocks: app.blocks.changes(),
            draining: app.draining.subscribe(),
            superseded: None,
            client_deadline: timeout.and_then(|timeout| arrived.checked_add(timeout)),
            ends,
        },
        messages: Messages::new(opened.plan().max_bytes),
        rejections: Rejections::default(),
        body,
        unread: BytesMut::new(),
        reading: app.budget.permit_for(client_key),
        number: 0,
        response_bytes: 0,
        running: None,
        record: stream_record::for_stream(record),
        _usage: usage,
        is_closed: false,
        client_left: false,
        answering: Answering {
            app: Arc::clone(app),
            generation,
            opened,
        },
    };
    reply::messages(stream, &record.caller.request_id)
}

impl<B> Source for Stream<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: std::fmt::Display,
{
    async fn next(&mut self) -> Option<Frame<Bytes>> {
        if self.is_closed {
            return None;
        }
        let denial = match self.turn().await {
            Ok(Some(answer)) => {
                let bytes = u64::try_from(answer.len()).unwrap_or(u64::MAX);
                self.response_bytes = self.response_bytes.saturating_add(bytes);
                return Some(Frame::data(answer));
            }
            Ok(None) => None,
            Err(denial) => Some(denial),
        };
        self.close(match &denial {
            _ if self.client_left => StreamEnd::Left,
            Some(denial) => StreamEnd::Refused(denial),
            None => StreamEnd::Whole,
        });
        let request_id = self.answering.opened.caller().request_id.as_str();
        let trailers = reply::trailers(denial.as_ref(), request_id);
        Some(Frame::trailers(trailers))
    }
}

impl<B> Stream<B> {
    fn close(&mut self, end: StreamEnd<'_>) {
        self.is_closed = true;
        stream_record::closed(&self.record, end, self.number, self.response_bytes);
    }
}

impl<B> Drop for Stream<B> {
    fn drop(&mut self) {
        if !self.is_closed {
            self.close(StreamEnd::Left);
        }
    }
}

impl<B> Stream<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: std::fmt::Display,
{
    /// The next response, `None` after the last message. An error is a denial of the stream and
    /// ends it.
    async fn turn(&mut self) -> Result<Option<Bytes>, Denial> {
        loop {
            if let Some(running) = &mut self.running {
                let answer = tokio::select! {
                    biased;
                    denial = self.conditions.until_ended() => {
                        running.ends(StreamEnd::Refused(&denial));
                        return Err(denial);
                    }
                    answer = running.next() => answer,
                };
                if running.is_done() {
                    self.running = None;
                }
                if answer.is_some() {
                    return Ok(answer);
                }
                continue;
            }
            let used = match self.messages.take(&self.unread) {
                Ok(NextMessage::Message { frame }) => frame.len(),
                Ok(NextMessage::Incomplete(bytes)) => {
                    if self.more(bytes).await? {
                        continue;
                    }
                    return match self.messages.end(self.unread.len()) {
                        Ok(()) => Ok(None),
                        Err(denial) => Err(self.denied(denial).await),
                    };
                }
                Err(denial) => return Err(self.denied(denial).await),
            };
            // A part would keep the whole buffer allocated.
            let frame = if used > FREE_BYTES {
                self.unread.split_to(used).freeze()
            } else {
                let frame = Bytes::copy_from_slice(self.unread.get(..used).unwrap_or_default());
                self.unread.advance(used);
                frame
            };
            let rest = self.unread.len();
            if used > FREE_BYTES || (rest <= FREE_BYTES && self.unread.capacity() > FREE_BYTES) {
                self.unread = BytesMut::from(self.unread.as_ref());
            }
            // The message has a memory permit of its own. Less memory is always granted.
            let _ = self
                .reading
                .resize(self.unread.len().min(self.reading.bytes()));
            if let Some(denial) = self.conditions.check() {
                return Err(self.denied(denial).await);
            }
            if let Some(denial) = self.answering.opened.expired(now_unix_s()) {
                return Err(self.denied(denial).await);
            }
            let mut record = self.next_record();
            record.request_bytes = frame.len();
            let (number, deadline) = (self.number, self.conditions.deadline());
            let rejections = &mut self.rejections;
            let answer = self
                .answering
                .answer(number, frame, deadline, record, rejections);
            match answer.await {
                Answered::Once(answer) => return Ok(Some(answer)),
                Answered::Several(running) => self.running = Some(running),
                Answered::Last(denial) => return Err(denial),
            }
        }
    }

    /// The record of the next message.
    fn next_record(&mut self) -> Record {
        self.number = self.number.saturating_add(1);
        let caller = self.answering.opened.caller_of_message(self.number);
        stream_record::for_message(&self.record, caller)
    }

    /// Records the denial of a message that ends the stream.
    async fn denied(&mut self, denial: Denial) -> Denial {
        self.next_record().denied(&denial).await;
        denial
    }

    /// Reads until this many bytes are buffered. Returns `false` if the body ends before.
    async fn more(&mut self, bytes: usize) -> Result<bool, Denial> {
        while self.unread.len() < bytes {
            let frame = tokio::select! {
                biased;
                denial = self.conditions.until_ended() => return Err(denial),
                frame = self.body.frame() => frame,
                denial = idle(self.max_idle) => return Err(denial),
            };
            match frame {
                None => return Ok(false),
                Some(Err(error)) => {
                    self.client_left = true;
                    let cause = format!("the stream ended early: {error}");
                    return Err(Denial::new(Reason::Malformed, cause));
                }
                // Trailers end the stream and say nothing.
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    let received = self.unread.len().saturating_add(data.len());
                    self.reserve(received, bytes)?;
                    self.unread.extend_from_slice(&data);
                }
            }
        }
        Ok(true)
    }

    /// Reserves memory for the bytes that were received of a message. A client chooses the length
    /// that a message announces, so memory grows with what has arrived.
    fn reserve(&mut self, received: usize, message_bytes: usize) -> Result<(), Denial> {
        let mut reserved = self.reading.bytes().max(FREE_BYTES);
        if received > reserved {
            reserved = reserved
                .saturating_mul(2)
                .max(FIRST_BYTES)
                .min(message_bytes)
                .max(received);
            if !self.reading.resize(reserved) {
                return Err(out_of_memory("the message"));
            }
        }
        let bytes = reserved.min(message_bytes).max(received);
        if bytes > self.unread.capacity() {
            // `reserve` would double the memory instead.
            let mut grown = BytesMut::with_capacity(bytes);
            grown.extend_from_slice(&self.unread);
            self.unread = grown;
        }
        Ok(())
    }
}

/// Waits as long as a stream may be idle, and returns the denial.
async fn idle(max_idle: Duration) -> Denial {
    tokio::time::sleep(max_idle).await;
    let cause = format!(
        "nothing has arrived for {} ms (twice limits.timeout_ms, at least 10 s)",
        max_idle.as_millis()
    );
    Denial::new(Reason::BackendTimeout, cause).limited_by(AnswerLimit::Idle)
}
