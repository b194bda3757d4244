//! A message with several responses. Its audit record was written before its first response.
//! Another one records its end and the number of responses.

use std::sync::Arc;

use bytes::Bytes;
use tensorgate_base::client_key::ClientKey;
use tensorgate_base::guard::catch_panic;
use tensorgate_wire::encode;

use super::super::App;
use crate::pipeline::decoupled::DecoupledRequest;
use crate::pipeline::record::Record;
use crate::pipeline::stream_record::{StreamEnd, answered};
use crate::policy_store::policy_versions::PolicyVersion;

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
            Err(panic) => self.record.panicked(panic),
        };
        self.ends(StreamEnd::Refused(&denial));
        Some(encode::stream_refusal(&denial, self.id.as_deref()).into())
    }

    /// Records the end. No response follows.
    pub(super) fn ends(&mut self, end: StreamEnd<'_>) {
        if !std::mem::replace(&mut self.over, true) {
            answered(&mut self.record, end, self.answers, self.bytes);
        }
    }
}

impl Drop for RunningAnswer {
    fn drop(&mut self) {
        self.ends(StreamEnd::Left);
    }
}
