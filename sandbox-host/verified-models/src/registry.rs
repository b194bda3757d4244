//! The model versions whose files are verified, and their status. Dispatchers ask here before each
//! request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::{Duration, Instant};

use tensorgate_base::unix_time::now_unix_ms;
use tensorgate_policy::Policy;
use tensorgate_policy::policy::{Model, ModelArtifact};
use tensorgate_policy::values::Shared;
use tokio::sync::Notify;

use crate::check::Baseline;
use crate::confirmations::Confirmation;
use crate::endpoint_loads::Sighting;
use crate::load_state::{LoadEffect, LoadEvent, LoadState};
use crate::lock::lock;
use crate::retry::Retry;
use crate::servers::{ModelServers, SeenServers};
use crate::status::{Cause, Change, Status};
use crate::trust::same_files;

/// The age of the last look at a model's files from which on they do not count as verified: the
/// threads have ended, or a file system does not answer.
const MAX_AGE: Duration = Duration::from_secs(10);

/// A model version and its files, under the policies that say the same of them.
#[derive(Debug)]
pub(crate) struct Entry {
    pub model: String,
    pub version: String,
    pub artifact: Shared<ModelArtifact>,
    state: RwLock<EntryState>,
    /// What the last check was about.
    baseline: Mutex<Arc<Baseline>>,
    servers: Mutex<SeenServers>,
    /// What operators confirm, until the next look.
    confirmed: Mutex<Vec<Confirmation>>,
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
    /// When its files were last looked at, in milliseconds since the start.
    looked_ms: Option<u64>,
    /// Whether that look has failed.
    is_unreadable: bool,
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

/// The model versions, by the name of the model.
type Entries = HashMap<String, Vec<Arc<Entry>>>;

/// All model versions whose files are verified.
#[derive(Debug)]
pub struct ModelArtifacts {
    /// By the name of the model.
    entries: RwLock<Entries>,
    start: Instant,
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
        artifact: &Shared<ModelArtifact>,
        servers: ModelServers,
    ) -> Self {
        Self {
            model: model.name().to_owned(),
            version: version.to_owned(),
            artifact: artifact.clone(),
            state: RwLock::new(EntryState {
                status: Status::Checking { changed: None },
                retry: Retry::default(),
                loads: LoadState::new(now_unix_ms()),
                is_being_checked: false,
                looked_ms: None,
                is_unreadable: false,
            }),
            baseline: Mutex::default(),
            servers: Mutex::new(SeenServers::new(servers)),
            confirmed: Mutex::default(),
        }
    }

    /// Continues what is known of the same files under another policy, so that a change is found
    /// that no look under this policy precedes.
    fn continue_from(&self, earlier: &Self) {
        let loads = earlier.state().loads.clone();
        self.state_mut().loads = loads;
        self.set_baseline(&earlier.baseline());
        let seen = earlier.servers().clone();
        *self.servers() = seen;
    }

    /// Sets the servers. One that is new needs a load if the files ever differed.
    fn set_servers(&self, servers: ModelServers, now_ms: u64) {
        let mut seen = self.servers();
        let mut state = self.state_mut();
        let was_trusted = state.loads.is_trusted();
        if was_trusted {
            // Later than a wait that begins now.
            seen.trust(now_ms.saturating_add(1));
        }
        if seen.set(servers) {
            let bound = seen.load_only_verified();
            let _ = state.loads.apply(LoadEvent::ServerAdded, now_ms, bound);
        }
        if was_trusted && !state.loads.is_trusted() {
            tracing::warn!(
                model = self.model,
                version = self.version,
                wait = state.loads.wait(),
                "a model awaits a load at a server that a policy adds"
            );
        }
    }

    fn is_of(&self, version: &str, artifact: &Shared<ModelArtifact>) -> bool {
        self.version == version && self.artifact == *artifact
    }

    /// What the last check was about.
    pub(crate) fn baseline(&self) -> Arc<Baseline> {
        Arc::clone(&lock(&self.baseline))
    }

    pub(crate) fn set_baseline(&self, checked: &Arc<Baseline>) {
        *lock(&self.baseline) = Arc::clone(checked);
    }

    /// Sets what the last check was about, unless it is known.
    pub(crate) fn set_first_baseline(&self, looked: &Arc<Baseline>) {
        let mut baseline = lock(&self.baseline);
        if !baseline.is_known() {
            *baseline = Arc::clone(looked);
        }
    }

    /// Keeps a confirmation until the next look.
    pub(crate) fn add_confirmation(&self, confirmation: Confirmation) {
        lock(&self.confirmed).push(confirmation);
    }

    /// The confirmations since the last look.
    pub(crate) fn take_confirmations(&self) -> Vec<Confirmation> {
        std::mem::take(&mut *lock(&self.confirmed))
    }

    /// What logs name it by: model and version.
    pub(crate) fn names(&self) -> (&str, &str) {
        (&self.model, &self.version)
    }

    fn state(&self) -> RwLockReadGuard<'_, EntryState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, EntryState> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn servers(&self) -> MutexGuard<'_, SeenServers> {
        lock(&self.servers)
    }

    pub(crate) fn status(&self) -> Status {
        self.state().status.clone()
    }

    /// Whether requests are sent to its servers.
    pub(crate) fn is_served(&self) -> bool {
        self.state().is_served()
    }

    /// Whether its servers have only verified files, as far as is known.
    pub(crate) fn has_trusted_loads(&self) -> bool {
        self.state().loads.is_trusted()
    }

    /// The number of the wait for a load.
    pub(crate) fn wait(&self) -> Option<u64> {
        self.state().loads.wait()
    }

    /// Records a look at its files at this time, after what it found was applied.
    pub(crate) fn mark_looked(&self, now_ms: u64, is_unreadable: bool) {
        let mut state = self.state_mut();
        state.looked_ms = Some(now_ms);
        state.is_unreadable = is_unreadable;
    }

    /// Whether the last look at its files has failed.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.state().is_unreadable
    }

    /// Why its files do not count as verified. `None` if the last look at them is recent.
    fn stale(&self, now_ms: u64) -> Option<String> {
        let Some(looked_ms) = self.state().looked_ms else {
            return Some("its files were not looked at yet".to_owned());
        };
        let age = Duration::from_millis(now_ms.saturating_sub(looked_ms));
        (age > MAX_AGE).then(|| format!("its files were not looked at for {} s", age.as_secs()))
    }

    /// Sets the status after an observation at this time, and returns the change.
    pub(crate) fn observe(&self, observation: &Status, now_ms: u64) -> Change {
        let event = LoadEvent::of(observation);
        self.apply(Some(observation.clone()), event, now_ms).0
    }

    /// Applies an event about its loads at this time.
    pub(crate) fn apply_load(&self, event: LoadEvent<'_>, now_ms: u64) -> (Change, LoadEffect) {
        self.apply(None, Some(event), now_ms)
    }

    fn apply(
        &self,
        next: Option<Status>,
        event: Option<LoadEvent<'_>>,
        now_ms: u64,
    ) -> (Change, LoadEffect) {
        // Who takes both locks takes them in this order.
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
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let state = self.state();
        let is_due = matches!(state.status, Status::Checking { .. }) || state.retry.is_due(now);
        // The first look tells how large they are, and is what a change is compared with.
        is_due && !state.is_being_checked && state.looked_ms.is_some()
    }

    /// Records whether a thread verifies its files.
    pub(crate) fn set_being_checked(&self, is_being_checked: bool) {
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
        let now_ms = self.now_ms();
        {
            let entries = self.entries.write();
            let mut entries = entries.unwrap_or_else(PoisonError::into_inner);
            for (model, version, artifact) in policy.artifacts() {
                let of_model = entries.entry(model.name().to_owned()).or_default();
                let known = of_model.iter().find(|entry| entry.is_of(version, artifact));
                let entry = if let Some(known) = known {
                    known.set_servers(servers(model), now_ms);
                    Arc::clone(known)
                } else {
                    let entry = Arc::new(Entry::new(model, version, artifact, servers(model)));
                    let mut earlier = of_model.iter().rev();
                    let is_same = |it: &&Arc<Entry>| {
                        it.version == version && same_files(&it.artifact, artifact)
                    };
                    if let Some(earlier) = earlier.find(is_same) {
                        entry.continue_from(earlier);
                        entry.set_servers(servers(model), now_ms);
                    }
                    of_model.push(Arc::clone(&entry));
                    entry
                };
                followed.entries.push(entry);
            }
        }
        self.notify();
        self.notify_load_awaited();
        followed
    }

    /// Why no request for a model version is sent to its server. `None` if its files are verified,
    /// or the policy does not ask for that.
    pub fn unready(&self, model: &Model, version: &str) -> Option<String> {
        let artifact = model.artifact(version)?;
        self.entry(model, version, artifact).map_or_else(
            || Some("its files are not verified".to_owned()),
            |entry| entry.unready().or_else(|| entry.stale(self.now_ms())),
        )
    }

    /// Why the files of a model version are rejected, if they are.
    pub fn rejection(&self, model: &Model, version: &str) -> Option<Cause> {
        let artifact = model.artifact(version)?;
        match self.entry(model, version, artifact)?.status() {
            Status::Rejected(cause) => Some(cause),
            Status::Checking { .. } | Status::Verified(_) => None,
        }
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
    pub(crate) fn notify_load_awaited(&self) {
        self.load_awaited.notify_waiters();
    }

    /// The versions whose servers may have other files.
    fn awaiting_load(&self) -> Vec<Arc<Entry>> {
        let mut entries = self.entries();
        entries.retain(|entry| !entry.has_trusted_loads());
        entries
    }

    /// The time in milliseconds since the start.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// All entries.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        let entries = self.read_entries();
        entries.values().flatten().map(Arc::clone).collect()
    }

    /// Removes the entries that no policy has, and returns them.
    pub(crate) fn sweep(&self) -> Vec<Arc<Entry>> {
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
    pub(crate) fn wait(&self, pause: Duration) -> bool {
        // No code panics while it holds this lock.
        let waiting = lock(&self.waiting);
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
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.notify();
    }

    /// The version of a model with this artifact.
    fn entry(
        &self,
        model: &Model,
        version: &str,
        artifact: &Shared<ModelArtifact>,
    ) -> Option<Arc<Entry>> {
        let entries = self.read_entries();
        let mut of_model = entries.get(model.name()).into_iter().flatten();
        of_model
            .find(|entry| entry.is_of(version, artifact))
            .cloned()
    }

    fn read_entries(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty(&self) -> bool {
        self.read_entries().is_empty()
    }

    /// Wakes the threads.
    fn notify(&self) {
        drop(self.waiting.lock());
        self.wake.notify_all();
    }
}

#[cfg(test)]
mod tests;
