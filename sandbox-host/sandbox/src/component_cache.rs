//! Compiled components by digest. Handlers that name the same component share its code, whatever
//! their limits, configuration and policy. A component without handlers is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use wasmtime::component::InstancePre;

use crate::call_state::CallState;
use crate::memory_account::MemoryShare;
use crate::runtimes::Runtime;
use crate::written_pages::WrittenPages;

/// The SHA-256 digest of a component's file.
pub(super) type Digest = [u8; 32];

/// A component that passed every check that does not depend on a policy.
pub(super) struct CompiledComponent {
    /// The component with its imports linked. It has no state of a call or policy.
    pub(super) linked: InstancePre<CallState>,
    /// The runtime that it imports.
    pub(super) runtime: Option<Arc<Runtime>>,
    /// The pages that its calls write, if it imports a runtime.
    pub(super) written: Arc<WrittenPages>,
    /// The bytes of memory that an instance has at its start.
    pub(super) initial_bytes: u64,
    /// Whether it imports WASI.
    pub(super) uses_wasi: bool,
    /// The fetch interface, if it imports one.
    pub(super) needs_fetch: Option<&'static str>,
    /// The lookup interface, if it imports one.
    pub(super) needs_lookup: Option<&'static str>,
    /// Whether it imports an interface that tells it about the request.
    pub(super) reads_request: bool,
    /// Its code, and the initial memory that its instances share, in the account of the host.
    pub(super) code: MemoryShare,
}

/// The entry of one component. Threads that need the component wait here while it is compiled;
/// other components are not blocked.
struct CacheEntry<T>(Mutex<Weak<T>>);

/// The components in use, or the runtimes.
pub(super) struct ComponentCache<T> {
    entries: Mutex<HashMap<Digest, Arc<CacheEntry<T>>>>,
}

impl<T> Default for ComponentCache<T> {
    fn default() -> Self {
        Self {
            entries: Mutex::default(),
        }
    }
}

impl<T> ComponentCache<T> {
    /// The component with this digest, compiled with `compile` if it is not in use yet. Failures
    /// are not cached.
    pub(super) fn get<E>(
        &self,
        digest: Digest,
        compile: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let place = self.entry(digest);
        let mut known = lock(&place.0);
        if let Some(compiled) = known.upgrade() {
            return Ok(compiled);
        }
        let compiled = Arc::new(compile()?);
        *known = Arc::downgrade(&compiled);
        Ok(compiled)
    }

    fn entry(&self, digest: Digest) -> Arc<CacheEntry<T>> {
        let mut places = lock(&self.entries);
        // An entry with another reference, or one that is locked, is in use.
        places.retain(|_, place| Arc::strong_count(place) > 1 || place.is_used());
        let new = || Arc::new(CacheEntry(Mutex::default()));
        Arc::clone(places.entry(digest).or_insert_with(new))
    }
}

impl<T> CacheEntry<T> {
    fn is_used(&self) -> bool {
        self.0
            .try_lock()
            .map_or(true, |compiled| compiled.strong_count() > 0)
    }
}

/// A compiler that panicked left the entry empty, which is a valid state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
