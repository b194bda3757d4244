//! What waits for Envoy's event loop. The module's thread of timers adds to it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Whose hook is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The hook `scheduled` of the request with this id.
    Request(u64),
    /// The hook `config_scheduled` of the configuration with this number.
    Configuration(u64),
    /// The hook that gets the response to an HTTP call of the configuration with this number.
    Call(u64),
}

static EVENTS: Mutex<Vec<(Target, u64)>> = Mutex::new(Vec::new());

/// Adds an event with its number.
pub fn push(target: Target, event: u64) {
    let mut events = EVENTS.lock().unwrap_or_else(PoisonError::into_inner);
    events.push((target, event));
}

/// Takes all events.
pub fn take() -> Vec<(Target, u64)> {
    std::mem::take(&mut *EVENTS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Panics that the module has counted.
static PANICS: AtomicUsize = AtomicUsize::new(0);
/// Panics that it has logged, by hook.
static LOGGED: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

/// The module counts a panic.
pub fn count_panic() {
    PANICS.fetch_add(1, Ordering::Relaxed);
}

/// The module logs a panic in a hook.
pub fn log_panic(hook: &str) {
    let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    *logged.entry(hook.to_owned()).or_default() += 1;
}

/// How many panics the module has counted.
pub fn panics() -> usize {
    PANICS.load(Ordering::Relaxed)
}

/// How many panics in a hook the module has logged.
pub fn panics_in(hook: &str) -> usize {
    let logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    logged.get(hook).copied().unwrap_or_default()
}

/// The number of a new configuration or HTTP call.
pub fn next_number() -> u64 {
    static NUMBERS: AtomicU64 = AtomicU64::new(1);
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}
