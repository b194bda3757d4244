//! A message that is being answered several times. Its line was written before its first answer; another says how it ended, and how many there were.

use std::sync::Arc;

use bytes::Bytes;
use tensorgate_policy::{Denial, Reason};
use tensorgate_wire::encode;

use super::super::App;
use crate::dispatch::Whose;
use crate::generations::Generation;
use crate::guard::caught;
use crate::pipeline::decoupled::Conversation;
use crate::record::{Record, StreamEnd};

/// A message on its way.
pub(super) struct Running {
    app: Arc<App>,
    generation: Arc<Generation>,
    conversation: Conversation,
    record: Record,
    /// The message's own id.
    id: Option<String>,
    /// Answers that the caller got.
    answers: u64,
    /// And their bytes.
    bytes: usize,
    over: bool,
}

impl Running {
    pub(super) fn new(
        app: &Arc<App>,
        generation: &Arc<Generation>,
        conversation: Conversation,
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

    /// Whether nothing comes after what it gave last.
    pub(super) const fn over(&self) -> bool {
        self.over
    }

    /// The next answer, or why there is no further one.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let whose = Whose::of(self.record.caller.client.as_deref());
        let held = self.app.budget.hold_for(whose);
        let (timings, shadow) = (&mut self.record.timings, &mut self.record.shadow);
        let pipeline = &self.generation.pipeline;
        let reply = pipeline.reply(&mut self.conversation, held, timings, shadow);
        let denial = match caught(reply).await {
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

    /// Nothing comes after what it gave last.
    pub(super) fn ends(&mut self, end: StreamEnd<'_>) {
        if !std::mem::replace(&mut self.over, true) {
            self.record.answered(end, self.answers, self.bytes);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.ends(StreamEnd::Left);
    }
}
