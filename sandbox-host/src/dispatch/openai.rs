//! Dispatch of a document to a backend with the OpenAI API. It uses the same permits, queue and
//! deadline as tensors.

use std::time::Duration;

use bytes::Bytes;
use tensorgate_policy::policy::{Accepts, Model};
use tensorgate_policy::{Denial, Reason};

use super::{Deadline, Dispatcher, SelectedEndpoint};
use crate::backends::openai::{CheckedResponse, EventStream, ResponseMemory, Upstream, check};
use tensorgate_base::memory_budget::{MemoryPermit, out_of_memory};
use tensorgate_judge::document::Document;

impl Dispatcher {
    /// Sends a document whose response is streamed. The response keeps the permit and the other
    /// resources of the request.
    ///
    /// # Errors
    /// Returns an error if no endpoint answers in time.
    pub async fn stream(
        &self,
        (model, version): (&Model, &str),
        document: Document,
        request_id: &str,
        request_deadline: Deadline,
        waited: &mut Duration,
        held: MemoryPermit,
    ) -> Result<EventStream, Denial> {
        let (mut permit, raised, deadline) = self.acquire(request_deadline, waited).await?;
        let max_answer_bytes = longest_answer(model)?;
        let mut attempts = self.attempts((model, version), (deadline, request_deadline));
        loop {
            let chosen = attempts.next_endpoint().await?;
            let begun = upstream(&chosen)?
                .stream(
                    document.clone(),
                    model.name(),
                    request_id,
                    max_answer_bytes,
                    deadline,
                )
                .await;
            if let Some(mut streamed) = attempts.finish(&chosen, begun)? {
                permit.mark_answered();
                let load = chosen.load;
                streamed.hold(Box::new((permit, raised, load)), held);
                return Ok(streamed);
            }
        }
    }

    /// Sends a document and reads its response before `request_deadline` and within the backend's
    /// own timeout. The returned response was checked and encoded anew. Sets `waited` to the time
    /// spent waiting for a permit. `memory` reserves memory within the host's budget.
    ///
    /// # Errors
    /// Returns an error if no endpoint answers in time, or if the response breaks the contract.
    pub async fn complete(
        &self,
        (model, version): (&Model, &str),
        document: Document,
        request_id: &str,
        request_deadline: Deadline,
        waited: &mut Duration,
        room: &mut ResponseMemory<'_>,
    ) -> Result<CheckedResponse, Denial> {
        let (mut permit, _raised, deadline) = self.acquire(request_deadline, waited).await?;
        let max_answer_bytes = longest_answer(model)?;
        let mut attempts = self.attempts((model, version), (deadline, request_deadline));
        loop {
            let chosen = attempts.next_endpoint().await?;
            let answered = upstream(&chosen)?
                .complete(&document, request_id, max_answer_bytes, deadline, room)
                .await
                .and_then(|answer| {
                    let check = |answer: Bytes| check(&document, &answer, model.name(), request_id);
                    answer.map(check).transpose()
                });
            if let Some(answered) = attempts.finish(&chosen, answered)? {
                permit.mark_answered();
                return answered.ok_or_else(|| out_of_memory("the answer"));
            }
        }
    }
}

/// The OpenAI client of an endpoint.
fn upstream(chosen: &SelectedEndpoint) -> Result<&Upstream, Denial> {
    chosen.endpoint.openai().ok_or_else(other)
}

/// The maximum length of a model's response in bytes.
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
