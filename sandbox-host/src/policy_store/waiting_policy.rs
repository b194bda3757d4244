//! A policy that is held back, because it would make models unready that are ready under the
//! policy in force.
//!
//! A held policy stays assembled: its backends are probed, and accepting it compiles nothing. It
//! is dropped when another policy is loaded, or when no one has asked about it for a while.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tensorgate_judge::model_version::model_version;
use tokio::time::Instant;

use super::policy_versions::PolicyVersion;

/// The most causes that are shown.
const MAX_CAUSES: usize = 100;
/// How long a held policy is kept after the last question about it. `tensorgate up` asks every
/// second.
const MAX_QUERY_GAP: Duration = Duration::from_secs(60);

/// A model's public name and a version.
type Key = (String, String);

/// Model versions that are ready and that a policy would make unready.
#[derive(Default)]
pub(crate) struct LostModels {
    keys: BTreeSet<Key>,
    causes: Vec<String>,
}

/// The policy that is held back, if there is one.
#[derive(Default)]
pub struct WaitingPolicy(Mutex<Option<Waiting>>);

/// A policy that is held back.
pub(crate) struct Waiting {
    pub(crate) version: Arc<PolicyVersion>,
    /// The model versions for which it is held. They count as ready under the policy in force
    /// until it is decided: a restart of their server must not let the policy in.
    pub(crate) lost: Arc<BTreeSet<Key>>,
    last_query: Instant,
}

/// The policy that is held back, for the operator.
#[derive(Debug, Serialize)]
pub struct WaitingStatus {
    /// The version's name.
    pub generation: String,
    /// Why it is held now. Empty once all its models are ready.
    pub unready: Vec<String>,
}

/// Whether a change takes a model version from clients that can use it now. `was_ready` is `None`
/// for one that the policy in force does not have.
fn is_lost(was_ready: Option<bool>, is_ready: bool, only_tightens: bool) -> bool {
    was_ready == Some(true) && !is_ready && !only_tightens
}

impl LostModels {
    /// Compares the readiness under two policies. The models in `tightened` do not count.
    /// `known` are lost unless they are ready under `next`.
    pub(crate) fn find(
        next: &PolicyVersion,
        in_force: &PolicyVersion,
        tightened: &[String],
        known: &BTreeSet<Key>,
    ) -> Self {
        let tightened: BTreeSet<&str> = tightened.iter().map(String::as_str).collect();
        let mut lost = Self::default();
        for (model, version, causes) in next.pipeline.readiness() {
            let key = (model.name().to_owned(), version.to_owned());
            let was_ready = if known.contains(&key) {
                Some(true)
            } else {
                unready(in_force, &key).map(|causes| causes.is_empty())
            };
            let only_tightens = tightened.contains(model.name());
            if is_lost(was_ready, causes.is_empty(), only_tightens) {
                let name = model_version(model, version);
                let lines = causes.iter().map(|cause| format!("{name}: {cause}"));
                lost.causes.extend(lines);
                lost.keys.insert(key);
            }
        }
        shorten(&mut lost.causes);
        lost
    }

    /// Whether the policy makes no ready model unready.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl WaitingPolicy {
    /// Holds a policy back in place of an earlier one. Returns the causes.
    pub(crate) fn hold(&self, version: Arc<PolicyVersion>, lost: LostModels) -> Vec<String> {
        let LostModels { keys, causes } = lost;
        let waiting = Waiting {
            version,
            lost: Arc::new(keys),
            last_query: Instant::now(),
        };
        let before = self.lock().replace(waiting);
        drop(before);
        causes
    }

    /// Takes the policy out, because another one is to be loaded, or this one again.
    pub(crate) fn take(&self) -> Option<Waiting> {
        self.lock().take()
    }

    /// The status for the operator.
    pub(crate) fn status(&self) -> Option<WaitingStatus> {
        let (version, lost) = {
            let mut waiting = self.lock();
            let waiting = waiting.as_mut()?;
            waiting.last_query = Instant::now();
            (Arc::clone(&waiting.version), Arc::clone(&waiting.lost))
        };
        let lines = lost.iter().flat_map(|key| {
            let (model, version_name) = key;
            let causes = unready(&version, key).unwrap_or_default();
            causes
                .into_iter()
                .map(move |cause| format!("model {model:?} version {version_name:?}: {cause}"))
        });
        let mut unready: Vec<_> = lines.take(MAX_CAUSES.saturating_add(1)).collect();
        shorten(&mut unready);
        Some(WaitingStatus {
            generation: version.name().to_owned(),
            unready,
        })
    }

    /// Drops a policy about which no one asks.
    pub(crate) fn sweep(&self) {
        let dropped = self
            .lock()
            .take_if(|waiting| waiting.last_query.elapsed() > MAX_QUERY_GAP);
        drop(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waiting>> {
        // No code that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a model version is not ready under a policy; `None` if the policy does not have it.
fn unready(policy: &PolicyVersion, (model, version): &Key) -> Option<Vec<String>> {
    policy.pipeline.unready_causes(model, version)
}

fn shorten(causes: &mut Vec<String>) {
    if causes.len() > MAX_CAUSES {
        causes.truncate(MAX_CAUSES);
        causes.push("and more".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::is_lost;

    #[test]
    fn only_a_ready_model_that_becomes_unready_holds_a_policy() {
        for (what, was_ready, is_ready, only_tightens, expected) in [
            ("stays ready", Some(true), true, false, false),
            ("becomes unready", Some(true), false, false, true),
            ("tightens", Some(true), false, true, false),
            ("was down before", Some(false), false, false, false),
            ("comes up", Some(false), true, false, false),
            ("new and down", None, false, false, false),
            ("new and ready", None, true, false, false),
        ] {
            let lost = is_lost(was_ready, is_ready, only_tightens);
            assert_eq!(lost, expected, "{what}");
        }
    }
}
