//! The model versions whose files are verified, and their status. Dispatchers ask here before each
//! request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use tensorgate_policy::Policy;
use tensorgate_policy::policy::{Model, ModelArtifact};

use super::check::Baseline;
use super::retry::Retry;
use super::status::Status;

/// The age of the last look at all files from which on no file counts as verified: the thread has
/// ended, or a file system does not answer.
const MAX_AGE: Duration = Duration::from_secs(10);

/// A model version and its files, under the policies that say the same of them.
#[derive(Debug)]
pub(super) struct Entry {
    pub model: String,
    pub version: String,
    pub artifact: Arc<ModelArtifact>,
    /// The status, and when its check is repeated.
    state: RwLock<(Status, Retry)>,
    /// What the last check was about.
    baseline: Mutex<Arc<Baseline>>,
}

/// The model versions that one policy has. They are forgotten when no policy has them.
#[derive(Debug, Default)]
pub struct Followed {
    entries: Vec<Arc<Entry>>,
}

/// All model versions whose files are verified.
#[derive(Debug)]
pub struct ModelArtifacts {
    /// By the name of the model.
    entries: RwLock<HashMap<String, Vec<Arc<Entry>>>>,
    start: Instant,
    /// When all files were last looked at, in milliseconds since the start.
    looked_ms: AtomicU64,
    is_stopped: AtomicBool,
    waiting: Mutex<()>,
    wake: Condvar,
}

impl Entry {
    fn new(model: &Model, version: &str, artifact: &Arc<ModelArtifact>) -> Self {
        Self {
            model: model.name().to_owned(),
            version: version.to_owned(),
            artifact: Arc::clone(artifact),
            state: RwLock::new((Status::Checking { changed: None }, Retry::default())),
            baseline: Mutex::default(),
        }
    }

    fn is_of(&self, version: &str, artifact: &Arc<ModelArtifact>) -> bool {
        self.version == version && self.artifact == *artifact
    }

    /// What the last check was about.
    pub(super) fn baseline(&self) -> Arc<Baseline> {
        let baseline = self.baseline.lock();
        Arc::clone(&baseline.unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_baseline(&self, checked: &Arc<Baseline>) {
        let baseline = self.baseline.lock();
        *baseline.unwrap_or_else(PoisonError::into_inner) = Arc::clone(checked);
    }

    fn state(&self) -> RwLockReadGuard<'_, (Status, Retry)> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> Status {
        self.state().0.clone()
    }

    /// Sets the status, and returns the one before.
    pub(super) fn replace_status(&self, next: Status) -> Status {
        let state = self.state.write();
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let (status, retry) = &mut *state;
        retry.plan(&next, Instant::now());
        std::mem::replace(status, next)
    }

    /// Whether its files are to be verified at this time.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let (status, retry) = &*self.state();
        matches!(status, Status::Checking { .. }) || retry.is_due(now)
    }

    fn unready(&self) -> Option<String> {
        self.state().0.unready()
    }
}

impl Default for ModelArtifacts {
    fn default() -> Self {
        Self {
            entries: RwLock::default(),
            start: Instant::now(),
            looked_ms: AtomicU64::new(0),
            is_stopped: AtomicBool::new(false),
            waiting: Mutex::new(()),
            wake: Condvar::new(),
        }
    }
}

impl ModelArtifacts {
    /// Follows the model versions of a policy. Those that are known, with the same files and
    /// signers, are not verified again.
    pub fn follow(&self, policy: &Policy) -> Followed {
        let mut followed = Followed::default();
        {
            let entries = self.entries.write();
            let mut entries = entries.unwrap_or_else(PoisonError::into_inner);
            for (model, version, artifact) in policy.artifacts() {
                let of_model = entries.entry(model.name().to_owned()).or_default();
                let known = of_model.iter().find(|entry| entry.is_of(version, artifact));
                let entry = known.map_or_else(
                    || Arc::new(Entry::new(model, version, artifact)),
                    Arc::clone,
                );
                if known.is_none() {
                    of_model.push(Arc::clone(&entry));
                }
                followed.entries.push(entry);
            }
        }
        self.notify();
        followed
    }

    /// Why no request for a model version is sent to its server. `None` if its files are verified,
    /// or the policy does not ask for that.
    pub fn unready(&self, model: &Model, version: &str) -> Option<String> {
        let artifact = model.artifact(version)?;
        let entries = self.entries.read();
        let entries = entries.unwrap_or_else(PoisonError::into_inner);
        let mut of_model = entries.get(model.name()).into_iter().flatten();
        let entry = of_model.find(|entry| entry.is_of(version, artifact));
        entry.map_or_else(
            || Some("its files are not verified".to_owned()),
            |entry| entry.unready().or_else(|| self.stale()),
        )
    }

    /// Records that all files were looked at.
    pub(super) fn mark_looked(&self) {
        self.looked_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Why no file counts as verified. `None` if the last look at them is recent.
    fn stale(&self) -> Option<String> {
        let looked_ms = self.looked_ms.load(Ordering::Relaxed);
        let age = Duration::from_millis(self.now_ms().saturating_sub(looked_ms));
        (age > MAX_AGE).then(|| format!("its files were not looked at for {} s", age.as_secs()))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// All entries.
    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        let entries = self.entries.read();
        let entries = entries.unwrap_or_else(PoisonError::into_inner);
        entries.values().flatten().map(Arc::clone).collect()
    }

    /// Removes the entries that no policy has, and returns them.
    pub(super) fn sweep(&self) -> Vec<Arc<Entry>> {
        let entries = self.entries.write();
        let mut entries = entries.unwrap_or_else(PoisonError::into_inner);
        let mut removed = Vec::new();
        entries.retain(|_, of_model| {
            // What only this map has cannot be cloned meanwhile, because the map is locked.
            removed.extend(of_model.extract_if(.., |entry| Arc::strong_count(entry) == 1));
            !of_model.is_empty()
        });
        removed
    }

    /// Waits for this long, or until there are other entries. Without entries it waits for the
    /// first. Returns whether to go on.
    pub(super) fn wait(&self, pause: Duration) -> bool {
        // No code panics while it holds this lock.
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stopped = || self.is_stopped.load(Ordering::Relaxed);
        if self.is_empty() {
            let is_idle = |_: &mut ()| self.is_empty() && !is_stopped();
            drop(self.wake.wait_while(waiting, is_idle));
        } else if !is_stopped() {
            drop(self.wake.wait_timeout(waiting, pause));
        }
        !is_stopped()
    }

    /// Ends the threads.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.notify();
    }

    fn is_empty(&self) -> bool {
        let entries = self.entries.read();
        entries.unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Wakes the threads.
    fn notify(&self) {
        drop(self.waiting.lock());
        self.wake.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn nothing_counts_as_verified_when_no_thread_looks_at_the_files() {
        let mut artifacts = ModelArtifacts::default();
        assert_eq!(artifacts.stale(), None);
        let earlier = MAX_AGE.saturating_add(Duration::from_secs(1));
        artifacts.start = artifacts.start.checked_sub(earlier).unwrap();
        assert!(artifacts.stale().is_some());
        artifacts.mark_looked();
        assert_eq!(artifacts.stale(), None);
    }
}
