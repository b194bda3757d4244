//! The attempt loop: calls one endpoint after another, as far as the retry policy allows.

use tensorgate_policy::policy::Model;
use tensorgate_policy::{Denial, Tensor};
use tokio::time::Instant;

use super::attempts::RetryState;
use super::{BackendResponse, Dispatcher, SelectedEndpoint};
use crate::backends::BackendError;
use crate::dispatch::Deadline;

/// The attempts of one request.
pub(super) struct Attempts<'d> {
    dispatcher: &'d Dispatcher,
    model: &'d Model,
    version: &'d str,
    /// The deadlines of the dispatch and of the request.
    deadlines: (Instant, Deadline),
    retry: RetryState,
}

impl Dispatcher {
    /// Starts the attempts for one version of a model.
    pub(super) fn attempts<'d>(
        &'d self,
        (model, version): (&'d Model, &'d str),
        until: (Instant, Deadline),
    ) -> Attempts<'d> {
        Attempts {
            dispatcher: self,
            model,
            version,
            deadlines: until,
            retry: self
                .retries
                .start_request(model, until.1.client, self.pool.next_sequence()),
        }
    }
}

impl Attempts<'_> {
    /// Selects the endpoint for the next attempt.
    pub(super) async fn next_endpoint(&self) -> Result<SelectedEndpoint, Denial> {
        let Self {
            dispatcher,
            model,
            version,
            deadlines: until,
            retry: tries,
        } = self;
        let chosen = dispatcher
            .select_endpoint(model, version, *until, tries)
            .await;
        chosen.map_err(|error| error.to_denial(dispatcher.health.name()))
    }

    /// Reports the outcome of an attempt. Returns `None` if the request is sent again.
    pub(super) fn finish<T>(
        &mut self,
        chosen: &SelectedEndpoint,
        came: Result<T, BackendError>,
    ) -> Result<Option<T>, Denial> {
        let error = came.as_ref().err();
        if self
            .dispatcher
            .finish_attempt(&mut self.retry, chosen, error, self.deadlines)
        {
            return Ok(None);
        }
        came.map(Some)
            .map_err(|error| error.to_denial(chosen.endpoint.uri()))
    }

    /// As [`Self::finish`], for tensors. The outcome of a successful call is reported later, when
    /// its tensors were validated against the contract.
    pub(super) fn finish_tensors(
        &mut self,
        chosen: SelectedEndpoint,
        came: Result<Vec<Tensor<'static>>, BackendError>,
    ) -> Result<Option<BackendResponse>, Denial> {
        match came {
            Ok(outputs) => Ok(Some(BackendResponse {
                outputs,
                call: chosen.call,
            })),
            Err(error) => self.finish::<BackendResponse>(&chosen, Err(error)),
        }
    }
}
