//! Dispatch of tensors to a backend with its own JSON format. It uses the same permits, queue and
//! deadline as other backends.

use std::sync::Arc;
use std::time::Duration;

use tensorgate_policy::Denial;
use tensorgate_policy::policy::Template;

use super::{BackendResponse, Deadline, Dispatcher};
use crate::backends::http_json::TemplateRequest;
use crate::backends::{BackendError, Call};

impl Dispatcher {
    /// Sends one inference request by a template and reads its response before `request_deadline`
    /// and within the backend's own timeout. Sets `waited` to the time spent waiting for a permit.
    pub(super) async fn post(
        &self,
        call: Call<'_>,
        template: &Arc<Template>,
        request_deadline: Deadline,
        waited: &mut Duration,
    ) -> Result<BackendResponse, Denial> {
        let (mut permit, _raised, deadline) = self.acquire(request_deadline, waited).await?;
        let (contract, version, outputs) = (call.contract, call.version, call.outputs);
        let backend_request = TemplateRequest::new(call, template)
            .await
            .map_err(|error| error.to_denial(self.health.name()))?;
        let mut attempts = self.attempts((contract, version), (deadline, request_deadline));
        loop {
            let chosen = attempts.next_endpoint().await?;
            let answered = match chosen.endpoint.http_json() {
                None => Err(BackendError::Fault(
                    "the backend has no JSON template".to_owned(),
                )),
                Some(server) => match server.infer(&backend_request, deadline).await {
                    Ok(answer) => backend_request.decode_response(outputs, answer).await,
                    Err(error) => Err(error),
                },
            };
            if let Some(answered) = attempts.finish_tensors(chosen, answered)? {
                permit.mark_answered();
                return Ok(answered);
            }
        }
    }
}
