//! Dispatch of a document to a backend with the OpenAI API. It uses the same permits, queue and
//! deadline as tensors.

use std::time::Duration;

use bytes::Bytes;
use tensorgate_base::memory_budget::MemoryPermit;
use tensorgate_judge::document::Document;
use tensorgate_policy::policy::{Accepts, Model};
use tensorgate_policy::{Denial, Reason};
use tokio::time::Instant;

use super::attempt_loop::{Attempt, Attempts};
use super::{Deadline, Dispatcher, SelectedEndpoint};
use crate::admission::body_memory::out_of_memory;
use crate::backends::BackendError;
use crate::backends::openai::{CheckedResponse, EventStream, ResponseMemory, check};

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
        let attempts = Attempts::new(self, (model, version), (deadline, request_deadline));
        let request = StreamedRequest(DocumentRequest {
            document,
            model: model.name(),
            request_id,
            max_answer_bytes,
        });
        let (chosen, mut streamed) = attempts.run(request).await?;
        chosen.call.report_success();
        permit.mark_answered();
        streamed.hold(Box::new((permit, raised, chosen.load)), held);
        streamed.set_faulty_usage(self.faulty_usage.clone());
        Ok(streamed)
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
        memory: &mut ResponseMemory<'_>,
    ) -> Result<CheckedResponse, Denial> {
        let (mut permit, _raised, deadline) = self.acquire(request_deadline, waited).await?;
        let max_answer_bytes = longest_answer(model)?;
        let attempts = Attempts::new(self, (model, version), (deadline, request_deadline));
        let request = DocumentRequest {
            document,
            model: model.name(),
            request_id,
            max_answer_bytes,
        };
        let request = CompleteRequest { request, memory };
        let (chosen, answered) = attempts.run(request).await?;
        chosen.call.report_success();
        permit.mark_answered();
        let answered = answered.ok_or_else(|| out_of_memory("the answer"))?;
        self.faulty_usage.inc_by(answered.has_faulty_usage.into());
        Ok(answered)
    }
}

/// A document for an endpoint.
struct DocumentRequest<'a> {
    document: Document,
    /// The name that the caller used.
    model: &'a str,
    request_id: &'a str,
    max_answer_bytes: usize,
}

/// A document whose response is streamed.
struct StreamedRequest<'a>(DocumentRequest<'a>);

impl Attempt for StreamedRequest<'_> {
    type Answer = EventStream;

    async fn send(
        &mut self,
        to: &SelectedEndpoint,
        deadline: Instant,
    ) -> Result<EventStream, BackendError> {
        let Self(request) = self;
        let (document, most) = (request.document.clone(), request.max_answer_bytes);
        let upstream = to.endpoint.http1()?;
        let (model, id, client_key) = (request.model, request.request_id, to.call.client_key());
        upstream
            .stream(document, model, id, client_key, most, deadline)
            .await
    }
}

/// A document whose response is read and checked as a whole.
struct CompleteRequest<'a, 'm> {
    request: DocumentRequest<'a>,
    memory: &'a mut ResponseMemory<'m>,
}

impl Attempt for CompleteRequest<'_, '_> {
    /// `None` if there is no memory for the response.
    type Answer = Option<CheckedResponse>;

    async fn send(
        &mut self,
        to: &SelectedEndpoint,
        deadline: Instant,
    ) -> Result<Option<CheckedResponse>, BackendError> {
        let Self { request, memory } = self;
        let (document, id) = (&request.document, request.request_id);
        let (client_key, most) = (to.call.client_key(), request.max_answer_bytes);
        let answer = to
            .endpoint
            .http1()?
            .complete(document, id, client_key, most, deadline, memory)
            .await?;
        let check = |answer: Bytes| check(document, &answer, request.model, id);
        answer.map(check).transpose()
    }
}

/// The maximum length of a model's response in bytes.
fn longest_answer(model: &Model) -> Result<usize, Denial> {
    match model.accepts() {
        Accepts::OpenAi(rules) => Ok(rules.max_answer_bytes()),
        Accepts::Tensors(_) | Accepts::Raw { .. } => {
            let cause = "the backend does not speak OpenAI's API";
            Err(Denial::new(Reason::BackendUnavailable, cause))
        }
    }
}
