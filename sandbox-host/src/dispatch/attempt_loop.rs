//! The attempt loop: calls one endpoint after another, as far as the retry policy allows.

use tensorgate_policy::Denial;
use tensorgate_policy::policy::Model;
use tokio::time::Instant;

use super::attempts::RetryState;
use super::{Dispatcher, SelectedEndpoint};
use crate::backends::BackendError;
use crate::dispatch::Deadline;

/// A request that may be sent several times.
pub(super) trait Attempt: Send {
    /// What a server answers.
    type Answer;

    /// Sends the request to an endpoint and waits for the answer until the deadline.
    fn send(
        &mut self,
        to: &SelectedEndpoint,
        deadline: Instant,
    ) -> impl Future<Output = Result<Self::Answer, BackendError>> + Send;
}

/// The attempts of one request.
pub(super) struct Attempts<'d> {
    dispatcher: &'d Dispatcher,
    model: &'d Model,
    version: &'d str,
    /// The deadlines of the dispatch and of the request.
    deadlines: (Instant, Deadline),
    retry: RetryState,
}

impl<'d> Attempts<'d> {
    /// Starts the attempts for one version of a model.
    pub(super) fn new(
        dispatcher: &'d Dispatcher,
        (model, version): (&'d Model, &'d str),
        until: (Instant, Deadline),
    ) -> Self {
        let sequence = dispatcher.pool.next_sequence();
        Self {
            dispatcher,
            model,
            version,
            deadlines: until,
            retry: dispatcher
                .retries
                .start_request(model, until.1.client, sequence),
        }
    }

    /// Sends a request to one endpoint after another until one answers. Reports the outcome of each
    /// failed call. The caller reports the other one, because it may have to check the answer.
    pub(super) async fn run<A: Attempt>(
        mut self,
        mut request: A,
    ) -> Result<(SelectedEndpoint, A::Answer), Denial> {
        let Self {
            dispatcher,
            model,
            version,
            deadlines,
            ..
        } = self;
        loop {
            let chosen = dispatcher
                .select_endpoint(model, version, deadlines, &self.retry)
                .await
                .map_err(|error| error.to_denial(dispatcher.health.name()))?;
            let error = match request.send(&chosen, deadlines.0).await {
                Ok(answer) => return Ok((chosen, answer)),
                Err(error) => error,
            };
            if !dispatcher.finish_failed(&mut self.retry, &chosen, &error, deadlines) {
                return Err(error.to_denial(chosen.endpoint.uri()));
            }
        }
    }
}
