//! Answers one message of a stream: with a response or denial, or with the start of several
//! responses.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tensorgate_base::client_key::ClientKey;
use tensorgate_base::guard::catch_panic;
use tensorgate_base::memory_budget::MemoryPermit;
use tensorgate_judge::request::{ModelRequest, StreamHead};
use tensorgate_policy::{Denial, Reason};
use tensorgate_wire::encode;
use tokio::time::Instant;

use super::super::{App, admit, verify_body};
use super::rejections::Rejections;
use super::running_answer::RunningAnswer;
use crate::admission::body_memory::out_of_memory;
use crate::counters::RequestUsage;
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
    /// A denial that ends the stream.
    Last(Denial),
}

/// The result of an inference.
enum Inferred {
    Once(Bytes),
    Several(Box<DecoupledRequest>),
}

/// An accepted message.
struct Verified {
    request: ModelRequest,
    usage: RequestUsage,
    memory_permit: MemoryPermit,
}

/// Answers the messages of a stream.
pub(super) struct Answering {
    pub(super) app: Arc<App>,
    pub(super) generation: Arc<PolicyVersion>,
    pub(super) opened: StreamHead,
}

impl Answering {
    /// Answers a message once its audit record is written.
    pub(super) async fn answer(
        &self,
        number: u64,
        frame: Bytes,
        request_deadline: Instant,
        mut record: Record,
        rejections: &mut Rejections,
    ) -> Answered {
        let arrived = Instant::now();
        let (mut id, mut is_last) = (None, false);
        let answering = async {
            let verified = self.verify(number, frame, arrived, &mut record).await;
            match &verified {
                Ok(verified) => {
                    id.clone_from(&verified.request.id);
                    rejections.accepted();
                }
                Err(Failure::Refused(denied)) => {
                    id.clone_from(&denied.body.id);
                    is_last = rejections.denied(Some(denied));
                }
                Err(_) => is_last = rejections.denied(None),
            }
            self.infer(verified?, (arrived, request_deadline), &mut record)
                .await
        };
        let caught = catch_panic(answering).await;
        let id = id.or_else(|| record.message_id().map(str::to_owned));
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
            Err(denial) if is_last => Answered::Last(denial),
            Err(denial) => Answered::Once(encode::stream_refusal(&denial, id.as_deref()).into()),
        }
    }

    /// Judges and charges a message.
    async fn verify(
        &self,
        number: u64,
        frame: Bytes,
        arrived: Instant,
        record: &mut Record,
    ) -> Result<Verified, Failure> {
        let client_key = ClientKey::from_name(self.opened.caller().client.as_deref());
        let mut memory_permit = self.app.budget.permit_for(client_key);
        if !memory_permit.resize(frame.len()) {
            return Err(out_of_memory("the message").into());
        }
        let entered = admit(&self.app, client_key, arrived)?;
        let counters = self.app.counters.for_request();
        let (request, usage) = verify_body(
            &self.app,
            &self.generation,
            (self.opened.message_head(number), &counters),
            frame,
            &mut memory_permit,
            Some(entered),
            record,
        )
        .await?;
        Ok(Verified {
            request,
            usage,
            memory_permit,
        })
    }

    /// Runs one inference.
    async fn infer(
        &self,
        verified: Verified,
        (arrived, deadline): (Instant, Instant),
        record: &mut Record,
    ) -> Result<Inferred, Failure> {
        let Verified {
            request,
            usage,
            mut memory_permit,
        } = verified;
        let client_key = ClientKey::from_name(self.opened.caller().client.as_deref());
        let limits = self.generation.policy().listen().limits();
        let whole = Duration::from_millis(limits.timeout_ms);
        let request_deadline = Deadline::new(client_key, arrived, whole, deadline);
        let pipeline = &self.generation.pipeline;
        if let Some(bounds) = pipeline.decoupled(request.model) {
            let (timings, shadow) = (&mut record.timings, &mut record.shadow);
            let longest = arrived.checked_add(Duration::from_millis(bounds.max_ms));
            let until = longest.unwrap_or(arrived).min(deadline);
            let times = (request_deadline, until);
            let held = (memory_permit, usage);
            let conversation =
                pipeline.open_decoupled(request, &bounds, held, times, timings, shadow);
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
