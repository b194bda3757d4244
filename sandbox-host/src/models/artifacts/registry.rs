//! The model versions whose files are verified, and their status. Dispatchers ask here before each
//! request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::{Duration, Instant};

use tensorgate_policy::Policy;
use tensorgate_policy::policy::{Model, ModelArtifact};
use tokio::sync::Notify;

use super::check::Baseline;
use super::endpoint_loads::Sighting;
use super::load_state::{LoadEffect, LoadEvent, LoadState};
use super::retry::Retry;
use super::servers::{ModelServers, SeenServers};
use super::status::{Change, Observation, Status};

/// The age of the last look at all files from which on no file counts as verified: the thread has
/// ended, or a file system does not answer.
const MAX_AGE: Duration = Duration::from_secs(10);

/// A model version and its files, under the policies that say the same of them.
#[derive(Debug)]
pub(super) struct Entry {
    pub model: String,
    pub version: String,
    pub artifact: Arc<ModelArtifact>,
    state: RwLock<EntryState>,
    /// What the last check was about.
    baseline: Mutex<Arc<Baseline>>,
    servers: Mutex<SeenServers>,
}

/// What is known of a model version.
#[derive(Debug)]
struct EntryState {
    status: Status,
    /// When its check is repeated.
    retry: Retry,
    loads: LoadState,
    /// Whether a thread verifies its files.
    is_being_checked: bool,
}

impl EntryState {
    fn is_served(&self) -> bool {
        self.status.is_verified() && self.loads.is_trusted()
    }
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
    /// Wakes health checks when a version begins to await a load.
    load_awaited: Notify,
}

impl Entry {
    fn new(
        model: &Model,
        version: &str,
        artifact: &Arc<ModelArtifact>,
        servers: ModelServers,
    ) -> Self {
        Self {
            model: model.name().to_owned(),
            version: version.to_owned(),
            artifact: Arc::clone(artifact),
            state: RwLock::new(EntryState {
                status: Status::Checking { changed: None },
                retry: Retry::default(),
                loads: LoadState::default(),
                is_being_checked: false,
            }),
            baseline: Mutex::default(),
            servers: Mutex::new(SeenServers::new(servers)),
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

    fn state(&self) -> RwLockReadGuard<'_, EntryState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, EntryState> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn servers(&self) -> MutexGuard<'_, SeenServers> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> Status {
        self.state().status.clone()
    }

    /// Whether requests are sent to its servers.
    pub(super) fn is_served(&self) -> bool {
        self.state().is_served()
    }

    /// Whether its servers have only verified files, as far as is known.
    pub(super) fn has_trusted_loads(&self) -> bool {
        self.state().loads.is_trusted()
    }

    /// Sets the status after an observation at this time, and returns the change.
    pub(super) fn observe(&self, observation: &Observation, now_ms: u64) -> Change {
        let next = Status::after(observation.clone());
        let change = self.apply(Some(next), LoadEvent::of(observation), now_ms);
        change.0
    }

    /// Applies an event about its loads at this time.
    pub(super) fn apply_load(&self, event: LoadEvent<'_>, now_ms: u64) -> (Change, LoadEffect) {
        self.apply(None, Some(event), now_ms)
    }

    fn apply(
        &self,
        next: Option<Status>,
        event: Option<LoadEvent<'_>>,
        now_ms: u64,
    ) -> (Change, LoadEffect) {
        // Both locks are taken in this order, here alone.
        let mut servers = self.servers();
        let mut state = self.state_mut();
        let (before, was_served) = (state.status.clone(), state.is_served());
        let was_trusted = state.loads.is_trusted();
        let bound = servers.load_only_verified();
        let apply = |event| state.loads.apply(event, now_ms, bound);
        let effect = event.map_or(LoadEffect::None, apply);
        if was_trusted && !state.loads.is_trusted() {
            servers.forget();
        }
        if let Some(next) = next {
            state.retry.plan(&next, Instant::now());
            state.status = next;
        }
        let change = Change {
            before,
            was_served,
            next: state.status.clone(),
            is_served: state.is_served(),
            is_alert: effect == LoadEffect::Alert,
        };
        (change, effect)
    }

    /// Whether its files are to be verified at this time.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let state = self.state();
        let is_due = matches!(state.status, Status::Checking { .. }) || state.retry.is_due(now);
        is_due && !state.is_being_checked
    }

    /// Records whether a thread verifies its files.
    pub(super) fn set_being_checked(&self, is_being_checked: bool) {
        self.state_mut().is_being_checked = is_being_checked;
    }

    fn unready(&self) -> Option<String> {
        let state = self.state();
        let Some(cause) = state.status.unready() else {
            let model_version = format!("{}@{}", self.model, self.version);
            return state.loads.unready(&model_version);
        };
        Some(match state.loads.note() {
            Some(note) => format!("{cause}; {note}"),
            None => cause,
        })
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
            load_awaited: Notify::new(),
        }
    }
}

impl ModelArtifacts {
    /// Follows the model versions of a policy, which has these servers for them. Those that are
    /// known, with the same files and signers, are not verified again.
    pub fn follow(&self, policy: &Policy, servers: impl Fn(&Model) -> ModelServers) -> Followed {
        let mut followed = Followed::default();
        {
            let entries = self.entries.write();
            let mut entries = entries.unwrap_or_else(PoisonError::into_inner);
            for (model, version, artifact) in policy.artifacts() {
                let of_model = entries.entry(model.name().to_owned()).or_default();
                let known = of_model.iter().find(|entry| entry.is_of(version, artifact));
                let entry = if let Some(known) = known {
                    known.servers().set(servers(model));
                    Arc::clone(known)
                } else {
                    let entry = Arc::new(Entry::new(model, version, artifact, servers(model)));
                    of_model.push(Arc::clone(&entry));
                    entry
                };
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

    /// Records what a health check of an address saw that began at this time. `sighting` gets the
    /// name of a model there, and a version.
    pub fn record_sightings(
        &self,
        address: &str,
        began_ms: u64,
        sighting: impl Fn(&str, &str) -> Sighting,
    ) {
        for entry in self.awaiting_load() {
            let sighting = |model: &str| sighting(model, &entry.version);
            entry.servers().record(address, began_ms, sighting);
        }
    }

    /// Whether a load is awaited of the server at an address.
    pub fn awaits_load_at(&self, address: &str) -> bool {
        let awaiting = self.awaiting_load();
        awaiting.iter().any(|entry| entry.servers().has(address))
    }

    /// Waits until a version begins to await a load.
    pub async fn load_awaited(&self) {
        self.load_awaited.notified().await;
    }

    /// Wakes the health checks.
    pub(super) fn notify_load_awaited(&self) {
        self.load_awaited.notify_waiters();
    }

    /// The versions whose servers may have other files.
    fn awaiting_load(&self) -> Vec<Arc<Entry>> {
        let entries = self.entries.read();
        let entries = entries.unwrap_or_else(PoisonError::into_inner);
        let all = entries.values().flatten();
        let awaiting = all.filter(|entry| !entry.has_trusted_loads());
        awaiting.map(Arc::clone).collect()
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

    /// The time in milliseconds since the start.
    pub fn now_ms(&self) -> u64 {
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
