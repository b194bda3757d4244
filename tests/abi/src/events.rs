//! What waits for Envoy's event loop. The module's thread of timers adds to it.

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

/// Panics of the module in hooks.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Counts a panic of the module.
pub fn count_panic() {
    PANICS.fetch_add(1, Ordering::Relaxed);
}

/// How often the module has panicked.
pub fn panics() -> usize {
    PANICS.load(Ordering::Relaxed)
}

/// The number of a new configuration or HTTP call.
pub fn next_number() -> u64 {
    static NUMBERS: AtomicU64 = AtomicU64::new(1);
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}
