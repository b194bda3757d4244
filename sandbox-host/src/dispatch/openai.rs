//! A document to a backend of OpenAI's API, within the same places, queue and deadline as tensors.

use std::time::Duration;

use bytes::Bytes;
use tensorgate_policy::policy::{Accepts, Model};
use tensorgate_policy::{Denial, Reason};
use tokio::time::Instant;

use super::{Dispatcher, denial};
use crate::backends::BackendError;
use crate::backends::openai::{Kept, Streamed, Upstream, check};
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
        latest: Instant,
        waited: &mut Duration,
        held: Held,
    ) -> Result<Streamed, Denial> {
        let came = Instant::now();
        let deadline = self.deadline(came, latest);
        let place = self.place(deadline).await;
        *waited = came.elapsed();
        let place = place?;
        let raised = Raised::new(&self.in_flight);
        let (index, upstream, max_answer_bytes) = self.server(model, version, deadline).await?;
        let begun = upstream
            .stream(
                document,
                model.name(),
                request_id,
                max_answer_bytes,
                deadline,
            )
            .await;
        if matches!(begun, Err(BackendError::Unavailable(_))) {
            self.health.failed(index);
        }
        let mut streamed = begun.map_err(|error| denial(&error, self.health.name()))?;
        streamed.keep(Kept { place, raised }, held);
        Ok(streamed)
    }

    /// Where a document goes, and how long its answer may be.
    async fn server(
        &self,
        model: &Model,
        version: &str,
        deadline: Instant,
    ) -> Result<(usize, &Upstream, usize), Denial> {
        let (index, endpoint) = self
            .endpoint(model, version, deadline)
            .await
            .map_err(|error| denial(&error, self.health.name()))?;
        match (model.accepts(), endpoint.openai()) {
            (Accepts::OpenAi(rules), Some(upstream)) => {
                Ok((index, upstream, rules.max_answer_bytes()))
            }
            _ => Err(Denial::new(
                Reason::BackendUnavailable,
                "the backend does not speak OpenAI's API",
            )),
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
        latest: Instant,
        waited: &mut Duration,
    ) -> Result<Vec<u8>, Denial> {
        let came = Instant::now();
        let deadline = self.deadline(came, latest);
        let place = self.place(deadline).await;
        *waited = came.elapsed();
        let _place = place?;
        let _raised = Raised::new(&self.in_flight);
        let (index, upstream, max_answer_bytes) = self.server(model, version, deadline).await?;
        let answered: Result<Bytes, BackendError> = upstream
            .complete(
                document.api,
                document.json.clone(),
                request_id,
                max_answer_bytes,
                deadline,
            )
            .await;
        if matches!(answered, Err(BackendError::Unavailable(_))) {
            self.health.failed(index);
        }
        answered
            .and_then(|answer| check(&document, &answer, model.name(), request_id))
            .map_err(|error| denial(&error, self.health.name()))
    }
}
