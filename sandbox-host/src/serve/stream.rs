//! A stream of inferences: its messages one after the other, each judged, run, told and answered as a request by itself before the next one is
//! looked at. So a stream holds one message and one answer at most, however fast it comes and however slowly its answers are taken, and its
//! answers have its messages' order.
//!
//! A message that is refused, here or at the gate, gets an answer that says why, and the stream goes on. It ends with its last message; with what
//! leaves unsaid where the next message begins, or a refusal that the gate made its last; and where it must not go on: its caller is no longer let in, its
//! policy is no longer the newest, its deadline is over, the host ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Response;
use http::request::Parts;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use tensorgate_policy::{Denial, Reason};
use tensorgate_wire::context::{HEADER, Mark, Marker};
use tensorgate_wire::encode;
use tensorgate_wire::messages::{Messages, Taken};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{App, Failure, enter, judged};
use crate::admission::HELD_BYTES;
use crate::budget::Held;
use crate::dispatch::Latest;
use crate::generations::Generation;
use crate::grpc_timeout;
use crate::guard::caught;
use crate::record::{Record, StreamEnd};
use crate::reply::{self, ReplyBody, Source};
use crate::request::{Caller, Opened};
use crate::revocation::lets_in;
use crate::room::no_room;

/// How long a stream goes on under a policy that is no longer the newest: a message that has come is answered, and a stream that was opened while the gate still
/// had that policy gets a few answers before its caller opens another.
const GRACE: Duration = Duration::from_secs(1);

/// A stream that is open.
struct Stream<B> {
    answering: Answering,
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
        reading: app.budget.hold(),
        number: 0,
        answered: 0,
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
                    Ok(Some(answer.await))
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

/// What answers a stream's messages.
struct Answering {
    app: Arc<App>,
    generation: Arc<Generation>,
    opened: Opened,
}

impl Answering {
    /// The answer to one message that the gate let through, once its line is in the audit log.
    async fn answer(
        &self,
        number: u64,
        mark: Option<Mark>,
        frame: Bytes,
        latest: Option<Instant>,
        mut record: Record,
    ) -> Bytes {
        let mut id = None;
        let infer = self.infer(number, mark, frame, latest, &mut record, &mut id);
        let failed = match caught(infer).await {
            Ok(Ok(answer)) => match self.told(&mut record, answer).await {
                Ok(answer) => return answer,
                Err(denial) => denial,
            },
            Ok(Err(Failure::Refused(refused))) => {
                record.refused(&refused).await;
                refused.denial
            }
            Ok(Err(Failure::Denied(denial) | Failure::BrokenOff(denial))) => {
                record.denied(&denial).await;
                denial
            }
            Err(panic) => {
                self.app.metrics.panics.inc();
                let request_id = record.caller.request_id.as_str();
                tracing::error!(request_id, cause = panic.as_str(), "a message panicked");
                let denial = Denial::new(Reason::HandlerFault, panic);
                record.denied(&denial).await;
                denial
            }
        };
        encode::stream_refusal(&failed, id.as_deref()).into()
    }

    /// An answer leaves once its line is written, as any other does.
    async fn told(&self, record: &mut Record, answer: Bytes) -> Result<Bytes, Denial> {
        match record.audit_answer(200, answer.len()).await {
            Ok(()) => record.allowed(200, answer.len()),
            Err(why) if self.app.must_be_told() => {
                let denial = Denial::new(Reason::Overloaded, why.to_string());
                record.untold(&denial, why);
                return Err(denial);
            }
            Err(why) => record.let_go(200, answer.len(), why),
        }
        Ok(answer)
    }

    /// One inference.
    async fn infer(
        &self,
        number: u64,
        mark: Option<Mark>,
        frame: Bytes,
        latest: Option<Instant>,
        record: &mut Record,
        id: &mut Option<String>,
    ) -> Result<Bytes, Failure> {
        let Some(Mark::Message { checked, levels }) = mark else {
            let cause = "internal: a message came without a mark";
            return Err(Denial::new(Reason::Unauthenticated, cause).into());
        };
        let came = Instant::now();
        let limits = self.generation.policy().listen().limits();
        let latest = Latest::of(came, Duration::from_millis(limits.timeout_ms), latest);
        let mut held = self.app.budget.hold();
        if !held.resize(frame.len()) {
            return Err(no_room("the message").into());
        }
        let entered = match checked && frame.len() <= HELD_BYTES {
            true => Some(enter(&self.app, came)?),
            false => None,
        };
        let admitted = self.opened.message(number, checked, levels);
        let request = judged(
            &self.generation,
            admitted,
            frame,
            &mut held,
            entered,
            record,
        )
        .await?;
        id.clone_from(&request.id);
        let audit = record.audit().clone();
        let answer = self
            .generation
            .pipeline
            .infer(
                request,
                &mut held,
                latest,
                &mut record.timings,
                &mut record.shadow,
                &audit,
            )
            .await?;
        let answer = encode::stream_answer(answer.body).ok_or_else(|| {
            Denial::new(
                Reason::BackendFault,
                "the answer cannot be said in a stream",
            )
        })?;
        Ok(reply::kept(answer.into(), held))
    }
}

/// Whether a stream may go on.
struct GoesOn {
    app: Arc<App>,
    generation: Arc<Generation>,
    caller: Caller,
    changes: watch::Receiver<u64>,
    draining: watch::Receiver<bool>,
    /// Until when it goes on under a policy that is no longer the newest.
    superseded: Option<Instant>,
    /// When the client's patience ends.
    deadline: Option<Instant>,
}

impl GoesOn {
    /// Why it may not, now.
    fn now(&mut self) -> Option<Denial> {
        let now = Instant::now();
        if *self.draining.borrow_and_update() {
            return Some(Denial::new(Reason::Overloaded, "the host is ending"));
        }
        let newest = self.app.generations.newest();
        if Arc::ptr_eq(&newest, &self.generation) {
            self.superseded = None;
        } else {
            let Caller {
                client, credential, ..
            } = &self.caller;
            if !lets_in(newest.policy(), client.as_deref(), credential.as_deref()) {
                let cause = format!(
                    "policy {} no longer lets this client or its credential in",
                    newest.name()
                );
                return Some(Denial::new(Reason::Unauthenticated, cause));
            }
            let until = *self
                .superseded
                .get_or_insert_with(|| now.checked_add(GRACE).unwrap_or(now));
            if until <= now {
                let cause = format!("policy {} has taken over from the stream's", newest.name());
                return Some(Denial::new(Reason::Overloaded, cause));
            }
        }
        self.deadline.filter(|deadline| *deadline <= now).map(|_| {
            let cause = "the client's own deadline is over";
            Denial::new(Reason::BackendTimeout, cause)
        })
    }

    /// Waits until it may not.
    async fn ends(&mut self) -> Denial {
        loop {
            // Before the look, so that what changes after it is seen.
            self.changes.mark_unchanged();
            self.draining.mark_unchanged();
            if let Some(denial) = self.now() {
                return denial;
            }
            let until = self.superseded.into_iter().chain(self.deadline).min();
            let timer = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.changes.changed() => {}
                _ = self.draining.changed() => {}
                () = timer => {}
            }
        }
    }
}
