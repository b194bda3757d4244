//! What one look at one server found, and what that means for a model of a policy. Contracts differ from policy to policy;
//! what a server says of its models does not.

use std::collections::BTreeMap;

use tensorgate_policy::policy::Model;
use tensorgate_wire::proto::ModelMetadataResponse;

use super::Key;
use crate::backends::BackendError;
use crate::backends::oip::Line;
use crate::backends::signature::{Comparison, compare};

/// What a server says of a model version.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    /// It is not ready, or cannot be asked.
    Unready(String),
    /// It is ready. The server does not implement descriptions.
    Undescribed,
    /// It is ready. Its protocol has no descriptions.
    Listed,
    /// It is ready, and this is what it is.
    Described(ModelMetadataResponse),
}

/// What a look found.
#[derive(Debug, Default)]
pub struct Sighting {
    /// The number of the line over which it was found.
    pub(super) line: u64,
    /// None: nothing is known. A text: why the server could not be asked.
    pub(super) found: Option<Result<BTreeMap<Key, Said>, String>>,
}

impl Sighting {
    /// Whether a model version may be sent over a line; none where that is not known of the server at its other end.
    pub fn of(
        &self,
        model: &Model,
        version: &str,
        line: &Line,
    ) -> Option<Result<(), BackendError>> {
        if self.line != line.number() {
            return None;
        }
        // Why it cannot be sent is known as well once the connection is lost.
        self.fits(model, version)
            .filter(|fits| fits.is_err() || !line.is_lost())
    }

    /// The same, whatever became of the connection.
    pub(super) fn fits(&self, model: &Model, version: &str) -> Option<Result<(), BackendError>> {
        let said = match self.found.as_ref()? {
            Ok(said) => said,
            Err(cause) => return Some(Err(BackendError::Unavailable(cause.clone()))),
        };
        // One that no look has asked for yet is not known.
        let said = said.get(&(model.backend_model().to_owned(), version.to_owned()))?;
        Some(match said {
            Said::Unready(cause) => Err(BackendError::Unavailable(cause.clone())),
            Said::Undescribed | Said::Listed => Ok(()),
            Said::Described(said) => match compare(model, version, said) {
                Comparison::Fits | Comparison::Silent => Ok(()),
                Comparison::Drifts(cause) => Err(BackendError::Fault(format!(
                    "its description breaks the contract: {cause}"
                ))),
            },
        })
    }

    /// Whether anything is known.
    pub(super) const fn looked(&self) -> bool {
        self.found.is_some()
    }

    /// Whether the server itself answered.
    pub(super) const fn answers(&self) -> bool {
        matches!(self.found, Some(Ok(_)))
    }

    /// Whether the server says that a model version is ready.
    pub(super) fn ready(&self, key: &Key) -> bool {
        let said = self.found.as_ref().and_then(|found| found.as_ref().ok());
        said.and_then(|said| said.get(key))
            .is_some_and(|said| !matches!(said, Said::Unready(_)))
    }

    /// What was not ready.
    pub(super) fn cause(&self) -> Option<String> {
        match self.found.as_ref()? {
            Err(cause) => Some(cause.clone()),
            Ok(said) => said.iter().find_map(|((model, version), said)| match said {
                Said::Unready(cause) => {
                    Some(format!("model {model:?} version {version:?}: {cause}"))
                }
                Said::Undescribed | Said::Listed | Said::Described(_) => None,
            }),
        }
    }

    /// Tells of models whose contracts cannot be compared, once.
    pub(super) fn tell(&self, backend: &str, at: &str, before: Option<&Self>) {
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
                    "the backend does not describe this model: its contract cannot be compared"
                );
            }
        }
    }
}

/// Whether a server names none of a model's tensors.
fn silent(said: &Said) -> bool {
    match said {
        Said::Unready(_) | Said::Listed => false,
        Said::Undescribed => true,
        Said::Described(said) => said.inputs.is_empty() && said.outputs.is_empty(),
    }
}
