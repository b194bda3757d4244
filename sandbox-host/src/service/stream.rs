//! A stream of inferences. Its messages are handled one after the other, each verified, run,
//! recorded and answered like a request. So a stream holds at most one message and one response in
//! memory, and its responses have the order of its messages. The responses of a decoupled model are
//! all sent before the next message is read.
//!
//! A denied message gets a response with the reason, and the stream continues. The stream ends
//! - with its last message,
//! - with a framing error or a denial that the gate marked as the last,
//! - when it must not continue: its caller is no longer admitted, its policy is no longer the
//!   newest, a deadline has passed, nothing has arrived for too long, or the host shuts down.

mod answering;
mod conditions;
mod running_answer;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::request::Parts;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use tensorgate_base::client_key::ClientKey;
use tensorgate_base::grpc_timeout;
use tensorgate_base::memory_budget::{MemoryPermit, out_of_memory};
use tensorgate_judge::request::StreamHead;
use tensorgate_policy::denial::AnswerLimit;
use tensorgate_policy::{Denial, HeaderMode, Reason};
use tensorgate_wire::context::verdict::TRAILER;
use tensorgate_wire::context::{EnvelopeCodec, HEADER, Refusal};
use tensorgate_wire::encode;
use tensorgate_wire::messages::{INCOMPLETE, Messages, NextMessage, incomplete_message};
use tokio::time::Instant;

use super::App;
use super::stream_deadline::{before_reset, stream_deadline};
use crate::pipeline::chunk_stream::Source;
use crate::pipeline::record::Record;
use crate::pipeline::reply;
use crate::pipeline::reply::Reply;
use crate::pipeline::stream_record::{self, StreamEnd};
use crate::policy_store::policy_versions::PolicyVersion;
use answering::{Answered, Answering};
use conditions::StreamConditions;
use running_answer::RunningAnswer;

/// The unread bytes that a stream may have without a reservation. A stream that only waits must not
/// end because its client's other requests use all memory.
const FREE_BYTES: usize = 16 << 10;

/// An open stream.
struct Stream<B> {
    answering: Answering,
    /// The message with several responses that is being answered.
    running: Option<Box<RunningAnswer>>,
    goes_on: StreamConditions,
    /// How long the stream may be without data of the client. `None`: a proxy that holds headers
    /// also holds incomplete messages, so it judges by itself.
    max_idle: Option<Duration>,
    messages: Messages,
    body: B,
    /// Received bytes that are not parsed yet, and space for more.
    came: BytesMut,
    reading: MemoryPermit,
    /// The number of received messages.
    number: u64,
    /// The bytes of responses.
    answered: u64,
    /// The record of the stream.
    record: Record,
    over: bool,
    /// Whether the gate has withheld an incomplete message at the end.
    incomplete: bool,
    /// Whether the client disconnected.
    left: bool,
}

/// Opens a stream whose head is verified, and sends the response head.
pub(super) fn open<B>(
    app: &Arc<App>,
    generation: Arc<PolicyVersion>,
    opened: StreamHead,
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
    let context = parts.headers.get(HEADER).and_then(|it| it.to_str().ok());
    let marker = EnvelopeCodec::new(opened.key(), context.unwrap_or_default());
    let timeout = grpc_timeout::from_headers(&parts.headers);
    let client_key = ClientKey::from_name(opened.caller().client.as_deref());
    let limits = generation.policy().listen().limits();
    let ends = stream_deadline(limits, arrived);
    let stream = Stream {
        max_idle: (generation.headers == HeaderMode::Forward)
            .then(|| before_reset(Duration::from_millis(limits.stream_idle_ms()))),
        goes_on: StreamConditions {
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
        messages: Messages::from_gate(marker, opened.plan().max_bytes),
        body,
        came: BytesMut::new(),
        reading: app.budget.permit_for(client_key),
        number: 0,
        answered: 0,
        running: None,
        record: stream_record::for_stream(record),
        over: false,
        incomplete: false,
        left: false,
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
        if self.over {
            return None;
        }
        let denial = match self.turn().await {
            Ok(Some(answer)) => {
                let bytes = u64::try_from(answer.len()).unwrap_or(u64::MAX);
                self.answered = self.answered.saturating_add(bytes);
                return Some(Frame::data(answer));
            }
            Ok(None) => None,
            Err(denial) => Some(denial),
        };
        self.close(match &denial {
            _ if self.left => StreamEnd::Left,
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
        self.over = true;
        stream_record::closed(&self.record, end, self.number, self.answered);
    }
}

impl<B> Drop for Stream<B> {
    fn drop(&mut self) {
        if !self.over {
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
                    denial = self.goes_on.until_ended() => {
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
            let taken = self.messages.take(&self.came).inspect_err(|denial| {
                // A gate frames the messages that it accepts.
                let request_id = self.answering.opened.caller().request_id.as_str();
                let cause = denial.cause.as_str();
                tracing::error!(
                    request_id,
                    cause,
                    "stream without message envelopes of a gate"
                );
                self.answering.app.metrics.unknown_senders.inc();
            })?;
            let (message, used, length, ahead) = match taken {
                NextMessage::Incomplete(bytes) => {
                    if !self.more(bytes).await? {
                        self.end().await?;
                        return Ok(None);
                    }
                    continue;
                }
                NextMessage::Ahead { used } => {
                    self.came.advance(used);
                    continue;
                }
                NextMessage::Message {
                    envelope: mark,
                    frame,
                    used,
                } => {
                    let length = frame.len();
                    let ahead = match frame {
                        Cow::Borrowed(_) => None,
                        Cow::Owned(frame) => Some(Bytes::from(frame)),
                    };
                    (Ok(mark), used, length, ahead)
                }
                NextMessage::Refused { refusal, used } => (Err(refusal), used, 0, None),
            };
            self.number = self.number.saturating_add(1);
            let taken = self.came.split_to(used).freeze();
            // A frame that was not sent ahead is the end of what was read.
            let frame = ahead.unwrap_or_else(|| taken.slice(used.saturating_sub(length)..));
            if used > FREE_BYTES {
                // A handle to the rest would keep the whole buffer allocated.
                self.came = BytesMut::from(self.came.as_ref());
            }
            // The message has a memory permit of its own. Less memory is always granted.
            let unread = self.came.len().saturating_add(self.messages.ahead_bytes());
            let _ = self.reading.resize(unread.min(self.reading.bytes()));
            if let Some(denial) = self.goes_on.check() {
                return Err(denial);
            }
            let caller = self.answering.opened.caller_of_message(self.number);
            let mut record = stream_record::for_message(&self.record, caller);
            record.request_bytes = frame.len();
            return match message {
                Ok(mark) => {
                    let (number, request_deadline) = (self.number, self.goes_on.deadline());
                    let answer =
                        self.answering
                            .answer(number, mark, frame, request_deadline, record);
                    match answer.await {
                        Answered::Once(answer) => Ok(Some(answer)),
                        Answered::Several(running) => {
                            self.running = Some(running);
                            continue;
                        }
                    }
                }
                Err(refusal) => {
                    stream_record::refused_by_verifier(&mut record, &refusal).await;
                    if refusal.ends {
                        return Err(refusal.denial);
                    }
                    let (id, denial) = (refusal.id.as_deref(), &refusal.denial);
                    Ok(Some(encode::stream_refusal(denial, id).into()))
                }
            };
        }
    }

    /// The body has ended. An error is the denial of an incomplete message.
    async fn end(&mut self) -> Result<(), Denial> {
        if !self.incomplete {
            return self.messages.end(self.came.len());
        }
        self.number = self.number.saturating_add(1);
        let refusal = Refusal::of(incomplete_message(), true);
        let caller = self.answering.opened.caller_of_message(self.number);
        let mut record = stream_record::for_message(&self.record, caller);
        stream_record::refused_by_verifier(&mut record, &refusal).await;
        Err(refusal.denial)
    }

    /// Reads until this many bytes are buffered. Returns `false` if the body ends before.
    async fn more(&mut self, bytes: usize) -> Result<bool, Denial> {
        let unread = bytes.max(self.came.len());
        let unread = unread.saturating_add(self.messages.ahead_bytes());
        if unread > FREE_BYTES && !self.reading.resize(unread) {
            return Err(out_of_memory("the message"));
        }
        self.came.reserve(bytes.saturating_sub(self.came.len()));
        while self.came.len() < bytes {
            let frame = tokio::select! {
                biased;
                denial = self.goes_on.until_ended() => return Err(denial),
                frame = self.body.frame() => frame,
                denial = idle(self.max_idle) => return Err(denial),
            };
            match frame {
                None => return Ok(false),
                Some(Err(error)) => {
                    self.left = true;
                    let cause = format!("the stream ended early: {error}");
                    return Err(Denial::new(Reason::Malformed, cause));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.came.extend_from_slice(&data),
                    // Only the gate's own trailer is read.
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        let mut verdicts = trailers.get_all(TRAILER).iter();
                        self.incomplete = verdicts.any(|value| value == INCOMPLETE);
                    }
                },
            }
        }
        Ok(true)
    }
}

/// Waits as long as a stream may be idle, and returns the denial.
async fn idle(max_idle: Option<Duration>) -> Denial {
    let Some(max_idle) = max_idle else {
        return std::future::pending().await;
    };
    tokio::time::sleep(max_idle).await;
    let cause = format!(
        "nothing has arrived for {} ms (twice limits.timeout_ms, at least 10 s)",
        max_idle.as_millis()
    );
    Denial::new(Reason::BackendTimeout, cause).limited_by(AnswerLimit::Idle)
}
