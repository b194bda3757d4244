//! Mirrored requests for model versions in shadow. A mirrored request is sent once, to a connected
//! endpoint, and does not affect the health of the backend.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tensorgate_base::client_key::ClientKey;
use tensorgate_policy::Tensor;
use tensorgate_policy::policy::Model;
use tensorgate_wire::proto::ModelInferRequest;
use tokio::time::Instant;

use super::Dispatcher;
use crate::backends::message_chunks::MessageChunks;
use crate::backends::oip::Channel;
use crate::backends::signature::{Comparison, compare};
use crate::backends::{BackendError, answer};

/// How long a failed contract check is cached before the endpoint is asked again.
const RECHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Results of contract checks for versions in shadow, by endpoint index, model and version.
#[derive(Debug, Default)]
pub(super) struct ContractChecks(Mutex<HashMap<(usize, String, String), CheckResult>>);

#[derive(Clone, Debug)]
struct CheckResult {
    channel_number: u64,
    result: Result<(), BackendError>,
    checked: Instant,
}

impl ContractChecks {
    /// Checks whether the endpoint's description of a version fits its contract. The health prober
    /// does not ask for these versions, because they must not affect readiness.
    async fn check(
        &self,
        endpoint_index: usize,
        model: &Model,
        version: &str,
        line: &Channel,
        deadline: Instant,
    ) -> Result<(), BackendError> {
        let key = (endpoint_index, model.name().to_owned(), version.to_owned());
        let known = self.results().get(&key).cloned();
        if let Some(known) = known
            && known.channel_number == line.number()
            && (known.result.is_ok() || known.checked.elapsed() < RECHECK_INTERVAL)
        {
            return known.result;
        }
        let name = model.backend_model();
        let found = match line.model_metadata(name, version, deadline).await {
            Err(error) => Err(error),
            Ok(None) => Ok(()),
            Ok(Some(said)) => match compare(model, version, &said) {
                Comparison::Fits | Comparison::Undescribed => Ok(()),
                Comparison::Differs(cause) => Err(BackendError::Fault(format!(
                    "its description breaks the contract: {cause}"
                ))),
            },
        };
        let look = CheckResult {
            channel_number: line.number(),
            result: found.clone(),
            checked: Instant::now(),
        };
        self.results().insert(key, look);
        found
    }

    fn results(&self) -> std::sync::MutexGuard<'_, HashMap<(usize, String, String), CheckResult>> {
        // No code panics while it holds this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a mirrored request to the least loaded endpoint and reads its response, within the
/// backend's own timeout. It takes no permit, is not retried, and does not count in outlier
/// detection.
///
/// # Errors
/// Returns the reason why there is no response.
pub(crate) async fn mirror(
    dispatcher: &Dispatcher,
    model: &Model,
    message: ModelInferRequest,
    claims: &HeaderMap,
    max_answer_bytes: usize,
) -> Result<Vec<Tensor<'static>>, BackendError> {
    dispatcher.check_files(model, &message.model_version)?;
    let no_client = ClientKey::from_name(None);
    dispatcher.observer.breaker.check(no_client)?;
    let now = Instant::now();
    let deadline = now.checked_add(dispatcher.timeout).unwrap_or(now);
    let none = || BackendError::Unavailable("no server is connected".to_owned());
    // Mirrored requests must not advance the round-robin order of regular requests.
    let (endpoint_index, endpoint) = dispatcher
        .pool
        .ranked(no_client, 0, &[])
        .next()
        .ok_or_else(none)?;
    let line = endpoint.channel().filter(|line| !line.is_lost());
    let line = line.ok_or_else(none)?;
    let (id, version) = (message.id.clone(), message.model_version.clone());
    dispatcher
        .mirror_checks
        .check(endpoint_index, model, &version, &line, deadline)
        .await?;
    let answer = line
        .infer(
            MessageChunks::encode(message)?,
            claims,
            max_answer_bytes,
            deadline,
        )
        .await?;
    answer::tensors(answer, &id, model.backend_model(), &version)
}
