//! Tensors to a backend in JSON of its own, within the same places, queue and deadline as to any other.

use std::sync::Arc;
use std::time::Duration;

use tensorgate_policy::policy::Template;
use tensorgate_policy::{Denial, Tensor};
use tokio::time::Instant;

use super::{Dispatcher, Latest, denial};
use crate::backends::http_json::Question;
use crate::backends::{BackendError, Call};
use crate::metrics::Raised;

impl Dispatcher {
    /// Sends one inference by a template and reads its answer, all before `latest` and within the backend's own bound. `waited`: for a place.
    pub(super) async fn post(
        &self,
        call: Call<'_>,
        template: &Arc<Template>,
        latest: Latest,
        waited: &mut Duration,
    ) -> Result<Vec<Tensor<'static>>, Denial> {
        let came = Instant::now();
        let deadline = self.deadline(came, latest);
        let place = self.place(deadline).await;
        *waited = came.elapsed();
        let _place = place?;
        let _raised = Raised::new(&self.in_flight);
        let (contract, version, outputs) = (call.contract, call.version, call.outputs);
        let question = Question::new(call, template)
            .await
            .map_err(|error| denial(&error, self.health.name()))?;
        let mut tries = self.retries.begin(contract, self.pool.turn());
        loop {
            let chosen = self
                .choose(contract, version, (deadline, latest), &tries)
                .await
                .map_err(|error| denial(&error, self.health.name()))?;
            let answered = match chosen.endpoint.json() {
                Some(server) => match server.infer(&question, deadline).await {
                    Ok(answer) => question.answered(outputs, answer).await,
                    Err(error) => Err(error),
                },
                None => Err(BackendError::Fault(
                    "the backend does not speak JSON of its own".to_owned(),
                )),
            };
            if self.again(
                &mut tries,
                &chosen,
                answered.as_ref().err(),
                (deadline, latest),
            ) {
                continue;
            }
            return answered.map_err(|error| denial(&error, chosen.endpoint.uri()));
        }
    }
}
