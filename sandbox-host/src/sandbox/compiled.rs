//! Components by their digest, each compiled once: handlers that name one component share its code, whatever their limits, their
//! configuration and the policy that they come from. What no handler uses any more is dropped.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use wasmtime::component::{Component, InstancePre};

use super::state::CallState;

/// SHA-256 of a component's file.
pub(super) type Digest = [u8; 32];

/// A component that passed every check which no policy has a say in.
pub(super) struct Compiled {
    pub(super) component: Component,
    /// Its imports linked: nothing of it is a call's or a policy's.
    pub(super) linked: InstancePre<CallState>,
    /// Whether it may ask the host to fetch.
    pub(super) fetches: bool,
    /// Whether it may ask for lookups.
    pub(super) looks_up: bool,
}

/// Where one component is compiled. Whoever asks for it meanwhile waits here, and nobody else does.
#[derive(Default)]
struct Place(Mutex<Weak<Compiled>>);

/// The components that handlers use now.
#[derive(Default)]
pub(super) struct Compilations {
    places: Mutex<HashMap<Digest, Arc<Place>>>,
    count: AtomicU64,
}

impl Compilations {
    /// The component of that digest; `compile` makes it if no handler has it. What fails is kept by nobody.
    pub(super) fn get<E>(
        &self,
        digest: Digest,
        compile: impl FnOnce() -> Result<Compiled, E>,
    ) -> Result<Arc<Compiled>, E> {
        let place = self.place(digest);
        let mut known = lock(&place.0);
        if let Some(compiled) = known.upgrade() {
            return Ok(compiled);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let compiled = Arc::new(compile()?);
        *known = Arc::downgrade(&compiled);
        Ok(compiled)
    }

    /// How often something was compiled.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn place(&self, digest: Digest) -> Arc<Place> {
        let mut places = lock(&self.places);
        // A place that somebody holds is at work, or about to be. One that cannot be looked into is too.
        places.retain(|_, place| Arc::strong_count(place) > 1 || place.is_used());
        Arc::clone(places.entry(digest).or_default())
    }
}

impl Place {
    fn is_used(&self) -> bool {
        self.0
            .try_lock()
            .map_or(true, |compiled| compiled.strong_count() > 0)
    }
}

/// A compiler that panicked has left a component's place as it was: empty.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
