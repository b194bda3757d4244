//! Answers one message of a stream: with a response or denial, or with the start of several
//! responses.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tensorgate_base::client_key::ClientKey;
use tensorgate_base::guard::catch_panic;
use tensorgate_base::memory_budget::out_of_memory;
use tensorgate_judge::request::StreamHead;
use tensorgate_policy::{Denial, Reason};
use tensorgate_wire::context::MessageEnvelope;
use tensorgate_wire::encode;
use tokio::time::Instant;

use super::super::{App, admit, verify_body};
use super::running_answer::RunningAnswer;
use crate::admission::HELD_BYTES;
use crate::dispatch::Deadline;
use crate::pipeline::decoupled::DecoupledRequest;
use crate::pipeline::record::Record;
use crate::pipeline::reply;
use crate::pipeline::reply::{Failure, Finish};
use crate::policy_store::policy_versions::PolicyVersion;

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
        let caught = catch_panic(infer).await;
        let finish = Finish::new(record, caught);
        let extent = |inferred: &Inferred| match inferred {
            Inferred::Once(answer) => (200, answer.len()),
            Inferred::Several(_) => (200, 0),
        };
        let (mut record, inferred) = finish.write(extent, || self.app.must_audit()).await;
        match inferred {
            Ok(Inferred::Once(answer)) => {
                record.allowed(200, answer.len());
                Answered::Once(answer)
            }
            Ok(Inferred::Several(conversation)) => {
                let (app, generation) = (&self.app, &self.generation);
                let running = RunningAnswer::new(app, generation, *conversation, record, id);
                Answered::Several(Box::new(running))
            }
            Err(denial) => Answered::Once(encode::stream_refusal(&denial, id.as_deref()).into()),
        }
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
        // Messages of a stream have tensors, and only documents report tokens.
        let (request, _) = verify_body(
            &self.app,
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
