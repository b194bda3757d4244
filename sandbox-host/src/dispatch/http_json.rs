//! Tensors to a backend in JSON of its own, within the same places, queue and deadline as to any other.

use std::sync::Arc;
use std::time::Duration;

use tensorgate_policy::Denial;
use tensorgate_policy::policy::Template;

use super::{Answered, Dispatcher, Latest, denial};
use crate::backends::http_json::Question;
use crate::backends::{BackendError, Call};

impl Dispatcher {
    /// Sends one inference by a template and reads its answer, all before `latest` and within the backend's own bound. `waited`: for a place.
    pub(super) async fn post(
        &self,
        call: Call<'_>,
        template: &Arc<Template>,
        latest: Latest,
        waited: &mut Duration,
    ) -> Result<Answered, Denial> {
        let (mut place, _raised, deadline) = self.enter(latest, waited).await?;
        let (contract, version, outputs) = (call.contract, call.version, call.outputs);
        let question = Question::new(call, template)
            .await
            .map_err(|error| denial(&error, self.health.name()))?;
        let mut attempts = self.attempts((contract, version), (deadline, latest));
        loop {
            let chosen = attempts.server().await?;
            let answered = match chosen.endpoint.json() {
                None => Err(BackendError::Fault(
                    "the backend does not speak JSON of its own".to_owned(),
                )),
                Some(server) => match server.infer(&question, deadline).await {
                    Ok(answer) => question.answered(outputs, answer).await,
                    Err(error) => Err(error),
                },
            };
            if let Some(answered) = attempts.tensors(chosen, answered)? {
                place.served();
                return Ok(answered);
            }
        }
    }
}
