//! A document to a backend of OpenAI's API, within the same places, queue and deadline as tensors.

use std::time::Duration;

use bytes::Bytes;
use tensorgate_policy::policy::{Accepts, Model};
use tensorgate_policy::{Denial, Reason};

use super::{Chosen, Dispatcher, Latest};
use crate::backends::openai::{Answered, Kept, Room, Streamed, Upstream, check};
use crate::budget::Held;
use crate::document::Document;
use crate::room::no_room;

impl Dispatcher {
    /// Sends a document whose answer comes in pieces. What it keeps, its place here included, goes with the answer.
    ///
    /// # Errors
    /// No server answered, in time or at all.
    pub async fn stream(
        &self,
        (model, version): (&Model, &str),
        document: Document,
        request_id: &str,
        latest: Latest,
        waited: &mut Duration,
        held: Held,
    ) -> Result<Streamed, Denial> {
        let (mut place, raised, deadline) = self.enter(latest, waited).await?;
        let max_answer_bytes = longest_answer(model)?;
        let mut attempts = self.attempts((model, version), (deadline, latest));
        loop {
            let chosen = attempts.server().await?;
            let begun = upstream(&chosen)?
                .stream(
                    document.clone(),
                    model.name(),
                    request_id,
                    max_answer_bytes,
                    deadline,
                )
                .await;
            if let Some(mut streamed) = attempts.over(&chosen, begun)? {
                place.served();
                let load = chosen.load;
                let kept = Kept {
                    place,
                    raised,
                    load,
                };
                streamed.keep(kept, held);
                return Ok(streamed);
            }
        }
    }

    /// Sends a document and reads its answer, all before `latest` and within the backend's own bound. What comes back was checked and is written
    /// anew. `waited`: for a place; `room`: what it may take of the host's bytes.
    ///
    /// # Errors
    /// No server answered, in time or at all, or what it said breaks the contract.
    pub async fn complete(
        &self,
        (model, version): (&Model, &str),
        document: Document,
        request_id: &str,
        latest: Latest,
        waited: &mut Duration,
        room: &mut Room<'_>,
    ) -> Result<Answered, Denial> {
        let (mut place, _raised, deadline) = self.enter(latest, waited).await?;
        let max_answer_bytes = longest_answer(model)?;
        let mut attempts = self.attempts((model, version), (deadline, latest));
        loop {
            let chosen = attempts.server().await?;
            let answered = upstream(&chosen)?
                .complete(&document, request_id, max_answer_bytes, deadline, room)
                .await
                .and_then(|answer| {
                    let check = |answer: Bytes| check(&document, &answer, model.name(), request_id);
                    answer.map(check).transpose()
                });
            if let Some(answered) = attempts.over(&chosen, answered)? {
                place.served();
                return answered.ok_or_else(|| no_room("the answer"));
            }
        }
    }
}

/// How a server is spoken to in OpenAI's API.
fn upstream(chosen: &Chosen) -> Result<&Upstream, Denial> {
    chosen.endpoint.openai().ok_or_else(other)
}

/// How long an answer of a model may be, bytes.
fn longest_answer(model: &Model) -> Result<usize, Denial> {
    match model.accepts() {
        Accepts::OpenAi(rules) => Ok(rules.max_answer_bytes()),
        Accepts::Tensors(_) | Accepts::Raw { .. } => Err(other()),
    }
}

fn other() -> Denial {
    Denial::new(
        Reason::BackendUnavailable,
        "the backend does not speak OpenAI's API",
    )
}
