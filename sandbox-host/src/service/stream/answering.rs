//! Answers one message of a stream: with a response or denial, or with the start of several
//! responses.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tensorgate_policy::{Denial, Reason};
use tensorgate_wire::context::MessageEnvelope;
use tensorgate_wire::encode;
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::{App, Failure, admit, verify_body};
use crate::admission::HELD_BYTES;
use crate::admission::memory_budget::out_of_memory;
use crate::dispatch::Deadline;
use crate::guard::catch_panic;
use crate::pipeline::decoupled::DecoupledRequest;
use crate::pipeline::record::{Record, StreamEnd};
use crate::pipeline::reply;
use crate::pipeline::request::{Caller, StreamHead};
use crate::policy_store::policy_versions::PolicyVersion;
use crate::turns::ClientKey;

/// The answer to a message.
pub(super) enum Answered {
    /// One response or denial.
    Once(Bytes),
    /// Several responses, produced on demand.
    Several(Box<RunningAnswer>),
}

/// The result of an inference.
enum Inferred {
    Once(Bytes),
    Several(Box<DecoupledRequest>),
}

/// Answers the messages of a stream.
pub(super) struct Answering {
    pub(super) app: Arc<App>,
    pub(super) generation: Arc<PolicyVersion>,
    pub(super) opened: StreamHead,
}

impl Answering {
    /// Answers a message that the gate accepted, once its audit record is written.
    pub(super) async fn answer(
        &self,
        number: u64,
        mark: Option<MessageEnvelope>,
        frame: Bytes,
        request_deadline: Instant,
        mut record: Record,
    ) -> Answered {
        let mut id = None;
        let infer = self.infer(number, mark, frame, request_deadline, &mut record, &mut id);
        let failed = match catch_panic(infer).await {
            Ok(Ok(Inferred::Once(answer))) => match self.audit_answer(&mut record, answer).await {
                Ok(answer) => return Answered::Once(answer),
                Err(denial) => denial,
            },
            Ok(Ok(Inferred::Several(conversation))) => {
                match record.audit_opening(self.app.must_audit()).await {
                    Ok(()) => {
                        let (app, generation) = (&self.app, &self.generation);
                        let running =
                            RunningAnswer::new(app, generation, *conversation, record, id);
                        return Answered::Several(Box::new(running));
                    }
                    Err(denial) => denial,
                }
            }
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
        Answered::Once(encode::stream_refusal(&failed, id.as_deref()).into())
    }

    /// A response is sent once its audit record is written, as for other requests.
    async fn audit_answer(&self, record: &mut Record, answer: Bytes) -> Result<Bytes, Denial> {
        match record.audit_answer(200, answer.len()).await {
            Ok(()) => record.allowed(200, answer.len()),
            Err(why) if self.app.must_audit() => {
                let denial = Denial::new(Reason::Overloaded, why.to_string());
                record.deny_unaudited(&denial, why);
                return Err(denial);
            }
            Err(why) => record.allow_unaudited(200, answer.len(), why),
        }
        Ok(answer)
    }

    /// Runs one inference.
    async fn infer(
        &self,
        number: u64,
        mark: Option<MessageEnvelope>,
        frame: Bytes,
        deadline: Instant,
        record: &mut Record,
        id: &mut Option<String>,
    ) -> Result<Inferred, Failure> {
        let Some(MessageEnvelope::Message {
            checked,
            quotas: levels,
        }) = mark
        else {
            let cause = "internal: a message without an envelope";
            return Err(Denial::new(Reason::Unauthenticated, cause).into());
        };
        let came = Instant::now();
        let limits = self.generation.policy().listen().limits();
        let whole = Duration::from_millis(limits.timeout_ms);
        let client_key = ClientKey::from_name(self.opened.caller().client.as_deref());
        let mut memory_permit = self.app.budget.permit_for(client_key);
        if !memory_permit.resize(frame.len()) {
            return Err(out_of_memory("the message").into());
        }
        let entered = match checked && frame.len() <= HELD_BYTES {
            true => Some(admit(&self.app, client_key, came)?),
            false => None,
        };
        let admitted = self.opened.message_head(number, checked, levels);
        let request_deadline = Deadline::new(client_key, came, whole, deadline);
        let request = verify_body(
            &self.generation,
            admitted,
            frame,
            &mut memory_permit,
            entered,
            record,
        )
        .await?;
        id.clone_from(&request.id);
        let pipeline = &self.generation.pipeline;
        if let Some(bounds) = pipeline.decoupled(request.model) {
            let (timings, shadow) = (&mut record.timings, &mut record.shadow);
            let longest = came.checked_add(Duration::from_millis(bounds.max_ms));
            let until = longest.unwrap_or(came).min(deadline);
            let times = (request_deadline, until);
            let conversation =
                pipeline.open_decoupled(request, &bounds, memory_permit, times, timings, shadow);
            return Ok(Inferred::Several(Box::new(conversation.await?)));
        }
        let audit = record.audit().clone();
        let answer = pipeline
            .infer(
                request,
                &mut memory_permit,
                request_deadline,
                &mut record.timings,
                &mut record.shadow,
                &audit,
            )
            .await?;
        let answer = encode::stream_answer(answer.body, None).ok_or_else(|| {
            Denial::new(
                Reason::BackendFault,
                "the answer cannot be encoded in a stream",
            )
        })?;
        Ok(Inferred::Once(reply::metered(answer.into(), memory_permit)))
    }
}

// A message with several responses. Its audit record was written before its first response.
// Another one records its end and the number of responses.

/// A message that is being answered.
pub(super) struct RunningAnswer {
    app: Arc<App>,
    generation: Arc<PolicyVersion>,
    conversation: DecoupledRequest,
    record: Record,
    /// The message's own ID.
    id: Option<String>,
    /// The number of responses that the caller got.
    answers: u64,
    /// The bytes of those responses.
    bytes: usize,
    over: bool,
}

impl RunningAnswer {
    pub(super) fn new(
        app: &Arc<App>,
        generation: &Arc<PolicyVersion>,
        conversation: DecoupledRequest,
        record: Record,
        id: Option<String>,
    ) -> Self {
        Self {
            app: Arc::clone(app),
            generation: Arc::clone(generation),
            conversation,
            record,
            id,
            answers: 0,
            bytes: 0,
            over: false,
        }
    }

    /// Whether no response follows.
    pub(super) const fn is_done(&self) -> bool {
        self.over
    }

    /// The next response, or the denial that ends the stream.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let client_key = ClientKey::from_name(self.record.caller.client.as_deref());
        let memory_permit = self.app.budget.permit_for(client_key);
        let (timings, shadow) = (&mut self.record.timings, &mut self.record.shadow);
        let pipeline = &self.generation.pipeline;
        let reply = pipeline.reply(&mut self.conversation, memory_permit, timings, shadow);
        let denial = match catch_panic(reply).await {
            Ok(Ok(piece)) => {
                if let Some(answer) = &piece.answer {
                    self.answers = self.answers.saturating_add(1);
                    self.bytes = self.bytes.saturating_add(answer.len());
                }
                if piece.last {
                    self.ends(StreamEnd::Whole);
                }
                return piece.answer;
            }
            Ok(Err(denial)) => denial,
            Err(panic) => {
                self.app.metrics.panics.inc();
                let request_id = self.record.caller.request_id.as_str();
                tracing::error!(request_id, cause = panic.as_str(), "a message panicked");
                Denial::new(Reason::HandlerFault, panic)
            }
        };
        self.ends(StreamEnd::Refused(&denial));
        Some(encode::stream_refusal(&denial, self.id.as_deref()).into())
    }

    /// Records the end. No response follows.
    pub(super) fn ends(&mut self, end: StreamEnd<'_>) {
        if !std::mem::replace(&mut self.over, true) {
            self.record.answered(end, self.answers, self.bytes);
        }
    }
}

impl Drop for RunningAnswer {
    fn drop(&mut self) {
        self.ends(StreamEnd::Left);
    }
}

// Whether an open stream may continue: its caller is admitted, its policy is the newest or was a
// moment ago, its deadline has not passed, and the host is not shutting down.

/// How long a stream continues under a superseded policy. A received message is answered, and a
/// stream that was opened under that policy gets a few responses before its caller opens another.
const GRACE: Duration = Duration::from_secs(1);

/// The conditions of an open stream.
pub(super) struct StreamConditions {
    pub(super) app: Arc<App>,
    pub(super) generation: Arc<PolicyVersion>,
    pub(super) caller: Caller,
    pub(super) changes: watch::Receiver<u64>,
    pub(super) draining: watch::Receiver<bool>,
    /// Until when it continues under a superseded policy.
    pub(super) superseded: Option<Instant>,
    /// The client's deadline.
    pub(super) client_deadline: Option<Instant>,
    /// The deadline that follows from `stream_ms`.
    pub(super) ends: Instant,
}

impl StreamConditions {
    /// Why it may not continue now.
    pub(super) fn check(&mut self) -> Option<Denial> {
        let now = Instant::now();
        if *self.draining.borrow_and_update() {
            return Some(Denial::new(Reason::Overloaded, "the host is shutting down"));
        }
        let Caller {
            client, credential, ..
        } = &self.caller;
        let (generations, credential) = (&self.app.policy_versions, credential.as_deref());
        if let Err(cause) =
            generations.check_still_allowed(&self.generation, client.as_deref(), credential)
        {
            return Some(Denial::new(Reason::Unauthenticated, cause));
        }
        let newest = generations.newest();
        if Arc::ptr_eq(&newest, &self.generation) {
            self.superseded = None;
        } else {
            let until = *self
                .superseded
                .get_or_insert_with(|| now.checked_add(GRACE).unwrap_or(now));
            if until <= now {
                let cause = format!("policy {} has taken over from the stream's", newest.name());
                return Some(Denial::new(Reason::Overloaded, cause));
            }
        }
        if self.ends <= now {
            let stream_ms = self.generation.policy().listen().limits().stream_ms;
            let cause = format!("the stream has lasted limits.stream_ms ({stream_ms} ms)");
            return Some(Denial::new(Reason::BackendTimeout, cause));
        }
        self.client_deadline
            .filter(|deadline| *deadline <= now)
            .map(|_| {
                let cause = "the client's own deadline is over";
                Denial::new(Reason::BackendTimeout, cause)
            })
    }

    /// The earlier of both deadlines.
    pub(super) fn deadline(&self) -> Instant {
        self.client_deadline
            .map_or(self.ends, |deadline| deadline.min(self.ends))
    }

    /// Waits until it may not continue.
    pub(super) async fn until_ended(&mut self) -> Denial {
        loop {
            // Marked before the check, so that later changes are seen.
            self.changes.mark_unchanged();
            self.draining.mark_unchanged();
            if let Some(denial) = self.check() {
                return denial;
            }
            let deadline = self.deadline();
            let until = self
                .superseded
                .map_or(deadline, |until| until.min(deadline));
            tokio::select! {
                _ = self.changes.changed() => {}
                _ = self.draining.changed() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }
}
