//! What one message of a stream gets: an answer or a refusal, or the beginning of several answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tensorgate_policy::{Denial, Reason};
use tensorgate_wire::context::Mark;
use tensorgate_wire::encode;
use tokio::time::Instant;

use super::super::{App, Failure, enter, judged};
use super::running::Running;
use crate::admission::HELD_BYTES;
use crate::dispatch::{Latest, Whose};
use crate::generations::Generation;
use crate::guard::caught;
use crate::pipeline::decoupled::Conversation;
use crate::record::Record;
use crate::reply;
use crate::request::Opened;
use crate::room::no_room;

/// What a message got.
pub(super) enum Answered {
    /// One answer, or one refusal.
    Once(Bytes),
    /// Several answers, which come as they are asked for.
    Several(Box<Running>),
}

/// What came of an inference.
enum Inferred {
    Once(Bytes),
    Several(Box<Conversation>),
}

/// What answers a stream's messages.
pub(super) struct Answering {
    pub(super) app: Arc<App>,
    pub(super) generation: Arc<Generation>,
    pub(super) opened: Opened,
}

impl Answering {
    /// The answer to one message that the gate let through, once its line is in the audit log.
    pub(super) async fn answer(
        &self,
        number: u64,
        mark: Option<Mark>,
        frame: Bytes,
        latest: Option<Instant>,
        mut record: Record,
    ) -> Answered {
        let mut id = None;
        let infer = self.infer(number, mark, frame, latest, &mut record, &mut id);
        let failed = match caught(infer).await {
            Ok(Ok(Inferred::Once(answer))) => match self.told(&mut record, answer).await {
                Ok(answer) => return Answered::Once(answer),
                Err(denial) => denial,
            },
            Ok(Ok(Inferred::Several(conversation))) => {
                match record.opens(self.app.must_be_told()).await {
                    Ok(()) => {
                        let (app, generation) = (&self.app, &self.generation);
                        let running = Running::new(app, generation, *conversation, record, id);
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
        patience: Option<Instant>,
        record: &mut Record,
        id: &mut Option<String>,
    ) -> Result<Inferred, Failure> {
        let Some(Mark::Message { checked, levels }) = mark else {
            let cause = "internal: a message came without a mark";
            return Err(Denial::new(Reason::Unauthenticated, cause).into());
        };
        let came = Instant::now();
        let limits = self.generation.policy().listen().limits();
        let whole = Duration::from_millis(limits.timeout_ms);
        let whose = Whose::of(self.opened.caller().client.as_deref());
        let mut held = self.app.budget.hold_for(whose);
        if !held.resize(frame.len()) {
            return Err(no_room("the message").into());
        }
        let entered = match checked && frame.len() <= HELD_BYTES {
            true => Some(enter(&self.app, whose, came)?),
            false => None,
        };
        let admitted = self.opened.message(number, checked, levels);
        let latest = Latest::of(whose, came, whole, patience);
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
        let pipeline = &self.generation.pipeline;
        if let Some(bounds) = pipeline.decoupled(request.model) {
            let (timings, shadow) = (&mut record.timings, &mut record.shadow);
            let longest = came.checked_add(Duration::from_millis(bounds.max_ms));
            let until = longest.into_iter().chain(patience).min().unwrap_or(came);
            let times = (latest, until);
            let conversation = pipeline.converse(request, &bounds, held, times, timings, shadow);
            return Ok(Inferred::Several(Box::new(conversation.await?)));
        }
        let audit = record.audit().clone();
        let answer = pipeline
            .infer(
                request,
                &mut held,
                latest,
                &mut record.timings,
                &mut record.shadow,
                &audit,
            )
            .await?;
        let answer = encode::stream_answer(answer.body, None).ok_or_else(|| {
            Denial::new(
                Reason::BackendFault,
                "the answer cannot be said in a stream",
            )
        })?;
        Ok(Inferred::Once(reply::kept(answer.into(), held)))
    }
}
