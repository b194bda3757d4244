//! A document to a backend of OpenAI's API, within the same places, queue and deadline as tensors.

use std::time::Duration;

use tensorgate_policy::policy::{Accepts, Model};
use tensorgate_policy::{Denial, Reason};
use tokio::time::Instant;

use super::{Chosen, Dispatcher, Latest, denial};
use crate::backends::openai::{Answered, Kept, Streamed, Upstream, check};
use crate::budget::Held;
use crate::document::Document;
use crate::metrics::Raised;

impl Dispatcher {
    /// Sends a document whose answer comes in pieces. What it keeps, its place here included, goes with the answer.
    pub async fn stream(
        &self,
        (model, version): (&Model, &str),
        document: Document,
        request_id: &str,
        latest: Latest,
        waited: &mut Duration,
        held: Held,
    ) -> Result<Streamed, Denial> {
        let came = Instant::now();
        let deadline = self.deadline(came, latest);
        let place = self.place(deadline).await;
        *waited = came.elapsed();
        let place = place?;
        let raised = Raised::new(&self.in_flight);
        let max_answer_bytes = longest_answer(model)?;
        let mut tries = self.retries.begin(model, self.pool.turn());
        loop {
            let chosen = self
                .choose(model, version, (deadline, latest), &tries)
                .await
                .map_err(|error| denial(&error, self.health.name()))?;
            let begun = upstream(&chosen)?
                .stream(
                    document.clone(),
                    model.name(),
                    request_id,
                    max_answer_bytes,
                    deadline,
                )
                .await;
            if self.again(
                &mut tries,
                &chosen,
                begun.as_ref().err(),
                (deadline, latest),
            ) {
                continue;
            }
            let mut streamed = begun.map_err(|error| denial(&error, self.health.name()))?;
            let load = chosen.load;
            streamed.keep(
                Kept {
                    place,
                    raised,
                    load,
                },
                held,
            );
            return Ok(streamed);
        }
    }

    /// Sends a document and reads its answer, all before `latest` and within the backend's own bound. What comes back was checked and is written
    /// anew. `waited`: for a place.
    pub async fn complete(
        &self,
        model: &Model,
        version: &str,
        document: Document,
        request_id: &str,
        latest: Latest,
        waited: &mut Duration,
    ) -> Result<Answered, Denial> {
        let came = Instant::now();
        let deadline = self.deadline(came, latest);
        let place = self.place(deadline).await;
        *waited = came.elapsed();
        let _place = place?;
        let _raised = Raised::new(&self.in_flight);
        let max_answer_bytes = longest_answer(model)?;
        let mut tries = self.retries.begin(model, self.pool.turn());
        loop {
            let chosen = self
                .choose(model, version, (deadline, latest), &tries)
                .await
                .map_err(|error| denial(&error, self.health.name()))?;
            let answered = upstream(&chosen)?
                .complete(&document, request_id, max_answer_bytes, deadline)
                .await
                .and_then(|answer| check(&document, &answer, model.name(), request_id));
            if self.again(
                &mut tries,
                &chosen,
                answered.as_ref().err(),
                (deadline, latest),
            ) {
                continue;
            }
            return answered.map_err(|error| denial(&error, self.health.name()));
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
