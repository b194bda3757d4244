//! A lock of which no holder leaves something half done, so that a panic spoils nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes the lock, whether or not a thread has panicked with it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
