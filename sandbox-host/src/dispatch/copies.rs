//! Copies of requests, for versions that answer nobody: to a server as it stands, once, and with no say in how the backend fares.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tensorgate_policy::Tensor;
use tensorgate_policy::policy::Model;
use tensorgate_wire::proto::ModelInferRequest;
use tokio::time::Instant;

use super::{Dispatcher, Whose};
use crate::backends::oip::Line;
use crate::backends::signature::{Comparison, compare};
use crate::backends::written::Pieces;
use crate::backends::{BackendError, answer};

/// How long what was found wrong with a version holds, before its server is asked again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What servers say of versions in shadow: by the server's place and the version, over which line, and when that was.
#[derive(Debug, Default)]
pub(super) struct Looks(Mutex<HashMap<(usize, String, String), Look>>);

#[derive(Clone, Debug)]
struct Look {
    line: u64,
    found: Result<(), BackendError>,
    since: Instant,
}

impl Looks {
    /// Whether a version is what its contract says, as its server describes it over this line. The prober does not ask: a version that nobody is answered
    /// by has no part in whether the backend is ready.
    async fn fits(
        &self,
        place: usize,
        model: &Model,
        version: &str,
        line: &Line,
        deadline: Instant,
    ) -> Result<(), BackendError> {
        let key = (place, model.name().to_owned(), version.to_owned());
        let known = self.known().get(&key).cloned();
        if let Some(known) = known
            && known.line == line.number()
            && (known.found.is_ok() || known.since.elapsed() < LOOK_AGAIN)
        {
            return known.found;
        }
        let name = model.backend_model();
        let found = match line.model_metadata(name, version, deadline).await {
            Err(error) => Err(error),
            Ok(None) => Ok(()),
            Ok(Some(said)) => match compare(model, version, &said) {
                Comparison::Fits | Comparison::Silent => Ok(()),
                Comparison::Drifts(cause) => Err(BackendError::Fault(format!(
                    "its description breaks the contract: {cause}"
                ))),
            },
        };
        let look = Look {
            line: line.number(),
            found: found.clone(),
            since: Instant::now(),
        };
        self.known().insert(key, look);
        found
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<(usize, String, String), Look>> {
        // Nothing panics while it holds what is known.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dispatcher {
    /// Sends a copy to the server with the least to do and reads its answer, within the backend's own time. It takes no place, is not tried again, and
    /// says nothing of the server.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn copy(
        &self,
        model: &Model,
        message: ModelInferRequest,
        claims: &HeaderMap,
        max_answer_bytes: usize,
    ) -> Result<Vec<Tensor<'static>>, BackendError> {
        let nobody = Whose::of(None);
        self.witness.breaker.pass(nobody)?;
        let now = Instant::now();
        let deadline = now.checked_add(self.timeout).unwrap_or(now);
        let none = || BackendError::Unavailable("no server is connected".to_owned());
        // A turn of its own would be one less for others.
        let (place, endpoint) = self.pool.ranked(nobody, 0, &[]).next().ok_or_else(none)?;
        let line = endpoint.line();
        if line.is_lost() {
            return Err(none());
        }
        let (id, version) = (message.id.clone(), message.model_version.clone());
        self.looks
            .fits(place, model, &version, &line, deadline)
            .await?;
        let answer = line
            .infer(Pieces::of(message)?, claims, max_answer_bytes, deadline)
            .await?;
        answer::tensors(answer, &id, model.backend_model(), &version)
    }
}
