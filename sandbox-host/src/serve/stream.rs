//! A stream of inferences: its messages one after the other, each judged, run, told and answered as a request by itself before the next one is
//! looked at. So a stream holds one message and one answer at most, however fast it comes and however slowly its answers are taken, and its
//! answers have its messages' order.
//!
//! What a decoupled model answers comes answer by answer before the next message is looked at.
//!
//! A message that is refused, here or at the gate, gets an answer that says why, and the stream goes on. It ends with its last message; with what
//! leaves unsaid where the next message begins, or a refusal that the gate made its last; and where it must not go on: its caller is no longer let in, its
//! policy is no longer the newest, its deadline is over, the host ends.

mod answering;
mod goes_on;
mod running;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Response;
use http::request::Parts;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use tensorgate_policy::{Denial, Reason};
use tensorgate_wire::context::{HEADER, Marker};
use tensorgate_wire::encode;
use tensorgate_wire::messages::{Messages, Taken};
use tokio::time::Instant;

use super::App;
use crate::budget::Held;
use crate::dispatch::Whose;
use crate::generations::Generation;
use crate::grpc_timeout;
use crate::record::{Record, StreamEnd};
use crate::reply::{self, ReplyBody, Source};
use crate::request::Opened;
use crate::room::no_room;
use answering::{Answered, Answering};
use goes_on::GoesOn;
use running::Running;

/// A stream that is open.
struct Stream<B> {
    answering: Answering,
    /// The message that is being answered several times.
    running: Option<Box<Running>>,
    goes_on: GoesOn,
    messages: Messages,
    body: B,
    /// What has come and was not yet taken, and room for what it wants.
    came: BytesMut,
    reading: Held,
    /// Messages that have come.
    number: u64,
    /// Bytes of answers.
    answered: u64,
    /// The stream's own.
    record: Record,
    over: bool,
    /// Its caller went away.
    left: bool,
}

/// Opens a stream: its head is judged, and the answer's head goes out.
pub(super) fn open<B>(
    app: &Arc<App>,
    generation: Arc<Generation>,
    opened: Opened,
    parts: &Parts,
    body: B,
    arrived: Instant,
    record: &mut Record,
) -> Response<ReplyBody>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: std::fmt::Display,
{
    record.caller.clone_from(opened.caller());
    record.protocol = tensorgate_policy::Protocol::OipGrpc;
    record.opens_a_stream();
    let context = parts.headers.get(HEADER).and_then(|it| it.to_str().ok());
    let marker = Marker::new(app.generations.key(), context.unwrap_or_default());
    let timeout = grpc_timeout::of(&parts.headers);
    let whose = Whose::of(opened.caller().client.as_deref());
    let stream = Stream {
        goes_on: GoesOn {
            app: Arc::clone(app),
            generation: Arc::clone(&generation),
            caller: opened.caller().clone(),
            changes: app.generations.changes(),
            draining: app.draining.subscribe(),
            superseded: None,
            deadline: timeout.and_then(|timeout| arrived.checked_add(timeout)),
        },
        messages: Messages::marked(marker, opened.plan().max_bytes),
        body,
        came: BytesMut::new(),
        reading: app.budget.hold_for(whose),
        number: 0,
        answered: 0,
        running: None,
        record: record.of_stream(),
        over: false,
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
        self.record.closed(end, self.number, self.answered);
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
    /// The next answer; `None` once every message has one. A refusal is the stream's own, and its end.
    async fn turn(&mut self) -> Result<Option<Bytes>, Denial> {
        loop {
            if let Some(running) = &mut self.running {
                let answer = tokio::select! {
                    biased;
                    denial = self.goes_on.ends() => {
                        running.ends(StreamEnd::Refused(&denial));
                        return Err(denial);
                    }
                    answer = running.next() => answer,
                };
                if running.over() {
                    self.running = None;
                }
                if answer.is_some() {
                    return Ok(answer);
                }
                continue;
            }
            let taken = self.messages.take(&self.came).inspect_err(|denial| {
                // A gate frames what it lets through.
                let request_id = self.answering.opened.caller().request_id.as_str();
                let cause = denial.cause.as_str();
                tracing::error!(request_id, cause, "a stream that no gate has marked");
                self.answering.app.metrics.strangers.inc();
            })?;
            let (message, used, frame_bytes) = match taken {
                Taken::Wants(bytes) => {
                    if !self.more(bytes).await? {
                        self.messages.end(self.came.len())?;
                        return Ok(None);
                    }
                    continue;
                }
                Taken::Message { mark, frame, used } => (Ok(mark), used, frame.len()),
                Taken::Refused { refusal, used } => (Err(refusal), used, 0),
            };
            self.number = self.number.saturating_add(1);
            let taken = self.came.split_to(used).freeze();
            let frame = taken.slice(used.saturating_sub(frame_bytes)..);
            if let Some(denial) = self.goes_on.now() {
                return Err(denial);
            }
            let mut record = self
                .record
                .of_message(self.answering.opened.asks(self.number));
            record.request_bytes = frame.len();
            return match message {
                Ok(mark) => {
                    let (number, latest) = (self.number, self.goes_on.deadline);
                    let answer = self.answering.answer(number, mark, frame, latest, record);
                    match answer.await {
                        Answered::Once(answer) => Ok(Some(answer)),
                        Answered::Several(running) => {
                            self.running = Some(running);
                            continue;
                        }
                    }
                }
                Err(refusal) => {
                    record.refused_by_the_gate(&refusal).await;
                    if refusal.ends {
                        return Err(refusal.denial);
                    }
                    let (id, denial) = (refusal.id.as_deref(), &refusal.denial);
                    Ok(Some(encode::stream_refusal(denial, id).into()))
                }
            };
        }
    }

    /// Reads on until so many bytes are there in all; `false` if the body ends before.
    async fn more(&mut self, bytes: usize) -> Result<bool, Denial> {
        if !self.reading.resize(bytes.max(self.came.len())) {
            return Err(no_room("the message"));
        }
        self.came.reserve(bytes.saturating_sub(self.came.len()));
        while self.came.len() < bytes {
            let frame = tokio::select! {
                biased;
                denial = self.goes_on.ends() => return Err(denial),
                frame = self.body.frame() => frame,
            };
            match frame {
                None => return Ok(false),
                Some(Err(error)) => {
                    self.left = true;
                    let cause = format!("the stream broke off: {error}");
                    return Err(Denial::new(Reason::Malformed, cause));
                }
                // Trailers are nobody's.
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    self.came.extend_from_slice(&data);
                }
            }
        }
        Ok(true)
    }
}
