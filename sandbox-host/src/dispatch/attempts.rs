//! One call after another until one is the last: each at the best server of those that are left, as retries allow.

use tensorgate_policy::policy::Model;
use tensorgate_policy::{Denial, Tensor};
use tokio::time::Instant;

use super::retries::Tries;
use super::{Answered, Chosen, Dispatcher, Latest, denial};
use crate::backends::BackendError;

/// The attempts at one call.
pub(super) struct Attempts<'d> {
    dispatcher: &'d Dispatcher,
    model: &'d Model,
    version: &'d str,
    /// When all of it has to be over, for the dispatch and for whoever wants it.
    until: (Instant, Latest),
    tries: Tries,
}

impl Dispatcher {
    /// Begins with a call of one version of a model.
    pub(super) fn attempts<'d>(
        &'d self,
        (model, version): (&'d Model, &'d str),
        until: (Instant, Latest),
    ) -> Attempts<'d> {
        Attempts {
            dispatcher: self,
            model,
            version,
            until,
            tries: self.retries.begin(model, until.1.whose, self.pool.turn()),
        }
    }
}

impl Attempts<'_> {
    /// The server that is called next.
    pub(super) async fn server(&self) -> Result<Chosen, Denial> {
        let Self {
            dispatcher,
            model,
            version,
            until,
            tries,
        } = self;
        let chosen = dispatcher.choose(model, version, *until, tries).await;
        chosen.map_err(|error| denial(&error, dispatcher.health.name()))
    }

    /// What came of the call there; `None`: another one is made.
    pub(super) fn over<T>(
        &mut self,
        chosen: &Chosen,
        came: Result<T, BackendError>,
    ) -> Result<Option<T>, Denial> {
        let error = came.as_ref().err();
        if self
            .dispatcher
            .again(&mut self.tries, chosen, error, self.until)
        {
            return Ok(None);
        }
        came.map(Some)
            .map_err(|error| denial(&error, chosen.endpoint.uri()))
    }

    /// The same of tensors. How their server did is not told before they were held against the contract.
    pub(super) fn tensors(
        &mut self,
        chosen: Chosen,
        came: Result<Vec<Tensor<'static>>, BackendError>,
    ) -> Result<Option<Answered>, Denial> {
        match came {
            Ok(outputs) => Ok(Some(Answered {
                outputs,
                call: chosen.call,
            })),
            Err(error) => self.over::<Answered>(&chosen, Err(error)),
        }
    }
}
