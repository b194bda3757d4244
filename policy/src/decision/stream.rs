//! Streams of inferences: one head, then messages, each of which is a request.
//!
//! The head determines the caller, the protocol and the permission to stream. Each message
//! determines the rest: its model, grant, charges and validity. A rejected message does not affect
//! the next one.

use super::{After, Decision, Stage, Step};
use crate::denial::Denial;
use crate::policy::Policy;
use crate::request::{Operation, Protocol};

impl Decision {
    /// Opens an accepted stream: its permits are still to be acquired.
    pub(super) fn open(&mut self, policy: &Policy) -> Result<Step, Denial> {
        // A declared length covers all messages together and has no limit.
        self.declared = None;
        self.acquire_permits(policy, After::Head)
    }

    /// Whether this is a stream of messages, or one of its messages. In other protocols a stream is
    /// one request with a streamed response.
    pub(super) fn of_stream(&self) -> bool {
        (self.protocol, self.operation) == (Protocol::OipGrpc, Some(Operation::Stream))
    }

    /// Marks the stream as open.
    pub(super) fn opened(&mut self) -> Step {
        self.stage = Stage::Messages;
        Step::ReadMessages(self.plan)
    }

    /// The decision of the next message, which continues with [`Decision::body`]. It is final if no
    /// stream is open.
    #[must_use]
    pub fn of_message(&self) -> Self {
        let stage = match self.stage {
            Stage::Messages => Stage::Body,
            _ => Stage::Over,
        };
        Self {
            stage,
            ..self.clone()
        }
    }
}
