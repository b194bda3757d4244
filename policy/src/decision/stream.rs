//! Streams of inferences: one head, and then messages, each of which is a request by itself.
//!
//! What the head says holds for all of them: who calls, in which protocol, that it may stream at all. Everything else is each message's own: the
//! model that it names, its grant, what it is charged, whether it keeps the contract. A refused message takes nothing from the next one.

use super::{After, Decision, Stage, Step};
use crate::denial::Denial;
use crate::policy::Policy;
use crate::request::{Operation, Protocol};

impl Decision {
    /// The head of a stream is judged: what is left to do is to take its places.
    pub(super) fn open(&mut self, policy: &Policy) -> Result<Step, Denial> {
        // A declared length is one of all messages together, which nothing bounds but their number.
        self.declared = None;
        self.enter(policy, After::Head)
    }

    /// Whether it is a stream of messages, or one of its messages. What another protocol calls a stream is one request, answered in pieces.
    pub(super) fn of_stream(&self) -> bool {
        (self.protocol, self.operation) == (Protocol::OipGrpc, Some(Operation::Stream))
    }

    /// The stream is open.
    pub(super) fn opened(&mut self) -> Step {
        self.stage = Stage::Messages;
        Step::ReadMessages(self.plan)
    }

    /// The decision of a stream's next message, for [`Decision::body`] to go on with. It is over from the start where no stream is open.
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
