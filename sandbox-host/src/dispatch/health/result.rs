//! The result of one probe of a server, and its meaning for a model of a policy. Contracts differ
//! between policies; the server's descriptions do not.

use std::collections::BTreeMap;

use tensorgate_policy::policy::Model;
use tensorgate_verified_models::Sighting;
use tensorgate_wire::proto::ModelMetadataResponse;

use super::Key;
use crate::backends::BackendError;
use crate::backends::oip::Channel;
use crate::backends::signature::{Comparison, compare};

/// What a server reports of a model version.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::dispatch) enum ModelStatus {
    /// The request failed, or says nothing of whether the server has it.
    Unready(String),
    /// The server says that it does not have it loaded.
    NotLoaded(String),
    /// It is ready. The server does not implement descriptions.
    Undescribed,
    /// It is ready. The protocol has no descriptions.
    Listed,
    /// It is ready, with this description.
    Described(ModelMetadataResponse),
}

/// The result of a probe.
#[derive(Debug, Default)]
pub struct ProbeResult {
    /// The number of the probed channel, if there is one.
    pub(super) line: u64,
    /// `None` if nothing is known. A text is why the probe failed.
    pub(super) found: Option<Result<BTreeMap<Key, ModelStatus>, String>>,
}

impl ProbeResult {
    /// Whether requests for a model version may be sent over a channel, if there is one. `None` if
    /// the server behind it was not probed.
    pub fn for_channel(
        &self,
        model: &Model,
        version: &str,
        line: Option<&Channel>,
    ) -> Option<Result<(), BackendError>> {
        if line.is_some_and(|line| self.line != line.number()) {
            return None;
        }
        // A negative result stays valid after the connection is lost.
        self.matches_policy(model, version)
            .filter(|fits| fits.is_err() || !line.is_some_and(Channel::is_lost))
    }

    /// As [`Self::for_channel`], whatever the state of the connection.
    pub(super) fn matches_policy(
        &self,
        model: &Model,
        version: &str,
    ) -> Option<Result<(), BackendError>> {
        let said = match self.found.as_ref()? {
            Ok(said) => said,
            Err(cause) => return Some(Err(BackendError::Unavailable(cause.clone()))),
        };
        // A model that was not probed yet is unknown.
        let said = said.get(&(model.backend_model().to_owned(), version.to_owned()))?;
        Some(match said {
            ModelStatus::Unready(cause) | ModelStatus::NotLoaded(cause) => {
                Err(BackendError::Unavailable(cause.clone()))
            }
            ModelStatus::Undescribed | ModelStatus::Listed => Ok(()),
            ModelStatus::Described(said) => match compare(model, version, said) {
                Comparison::Fits | Comparison::Undescribed => Ok(()),
                Comparison::Differs(cause) => Err(BackendError::Fault(format!(
                    "its description breaks the contract: {cause}"
                ))),
            },
        })
    }

    /// Whether anything is known.
    pub(super) const fn is_known(&self) -> bool {
        self.found.is_some()
    }

    /// Why the server itself did not answer, if it is known that it did not.
    pub(in crate::dispatch) fn failure(&self) -> Option<&str> {
        self.found.as_ref()?.as_ref().err().map(String::as_str)
    }

    /// Whether the server itself answered.
    pub(super) const fn is_reachable(&self) -> bool {
        matches!(self.found, Some(Ok(_)))
    }

    /// Whether the server reports that a model version is ready.
    pub(super) fn ready(&self, key: &Key) -> bool {
        let said = self.found.as_ref().and_then(|found| found.as_ref().ok());
        said.and_then(|said| said.get(key)).is_some_and(|said| {
            !matches!(said, ModelStatus::Unready(_) | ModelStatus::NotLoaded(_))
        })
    }

    /// What the probe saw of a model version. `refuses` says that no process listens at the
    /// server's address, which is on this machine.
    pub(super) fn sighting(&self, key: &Key, refuses: bool) -> Sighting {
        let status = match &self.found {
            Some(Ok(models)) => models.get(key),
            Some(Err(_)) | None if refuses => return Sighting::Absent,
            Some(Err(_)) | None => return Sighting::Unknown,
        };
        match status {
            Some(ModelStatus::NotLoaded(_)) => Sighting::Absent,
            // No probe has asked for it: it is a new one, or gets only copies of requests.
            Some(ModelStatus::Unready(_)) | None => Sighting::Unknown,
            Some(ModelStatus::Undescribed | ModelStatus::Listed | ModelStatus::Described(_)) => {
                Sighting::Present
            }
        }
    }

    /// The first cause of unreadiness.
    pub(super) fn cause(&self) -> Option<String> {
        match self.found.as_ref()? {
            Err(cause) => Some(cause.clone()),
            Ok(said) => said.iter().find_map(|((model, version), said)| match said {
                ModelStatus::Unready(cause) | ModelStatus::NotLoaded(cause) => {
                    Some(format!("model {model:?} version {version:?}: {cause}"))
                }
                ModelStatus::Undescribed | ModelStatus::Listed | ModelStatus::Described(_) => None,
            }),
        }
    }

    /// Logs once which models have no description to compare with their contracts.
    pub(super) fn log_changes(&self, backend: &str, at: &str, before: Option<&Self>) {
        let said = |sighting: &Self, key: &Key| match sighting.found.as_ref()? {
            Ok(said) => said.get(key).map(silent),
            Err(_) => None,
        };
        let Some(Ok(models)) = &self.found else {
            return;
        };
        for (key, found) in models {
            let told = before.and_then(|before| said(before, key));
            if silent(found) && told != Some(true) {
                tracing::warn!(
                    backend,
                    at,
                    model = key.0,
                    version = key.1,
                    "the backend has no metadata for this model: cannot compare its contract"
                );
            }
        }
    }
}

/// Whether a server lists none of a model's tensors.
fn silent(said: &ModelStatus) -> bool {
    match said {
        ModelStatus::Unready(_) | ModelStatus::NotLoaded(_) | ModelStatus::Listed => false,
        ModelStatus::Undescribed => true,
        ModelStatus::Described(said) => said.inputs.is_empty() && said.outputs.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_server_says_and_a_refused_connection_are_an_absence() {
        let key = ("m".to_owned(), "1".to_owned());
        let result = |found| ProbeResult {
            line: 0,
            found: Some(found),
        };
        let says = |status| result(Ok(BTreeMap::from([(key.clone(), status)])));
        let text = String::new;
        let failed = || result(Err(text()));
        for (result, refuses, expected) in [
            (says(ModelStatus::Listed), false, Sighting::Present),
            (says(ModelStatus::Undescribed), false, Sighting::Present),
            (
                says(ModelStatus::NotLoaded(text())),
                false,
                Sighting::Absent,
            ),
            (says(ModelStatus::Unready(text())), false, Sighting::Unknown),
            (result(Ok(BTreeMap::new())), false, Sighting::Unknown),
            (failed(), false, Sighting::Unknown),
            (failed(), true, Sighting::Absent),
            (ProbeResult::default(), false, Sighting::Unknown),
        ] {
            assert_eq!(result.sighting(&key, refuses), expected, "{result:?}");
        }
    }
}
