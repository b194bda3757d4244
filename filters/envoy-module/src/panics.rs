//! Panics of the gate. A debug build also has those that tests ask for, to show what one costs.

#[cfg(debug_assertions)]
use std::sync::Mutex;

use crate::abi::{self, LogLevel};
#[cfg(debug_assertions)]
use crate::lock::lock;

/// Where the gate's code is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Configuration,
    KeyFetches,
    Begin,
    RequestHeaders,
    RequestBody,
    RequestTrailers,
    ResponseBody,
    ResponseTrailers,
    StreamComplete,
    Scheduled,
    Tick,
}

/// Logs that the gate has panicked.
pub fn log_panic(hook: Hook) {
    let line = format!("tensorgate: a panic in {hook:?}");
    abi::log(LogLevel::Critical, &line);
}

/// The hook outside of requests whose next call panics.
#[cfg(debug_assertions)]
static NEXT: Mutex<Option<String>> = Mutex::new(None);

/// Makes the next call of the named hook panic, if it is one outside of requests.
#[cfg(debug_assertions)]
pub fn name_next(name: &str) {
    let outside = [Hook::Configuration, Hook::KeyFetches, Hook::Begin];
    if outside.iter().any(|hook| format!("{hook:?}") == name) {
        *lock(&NEXT) = Some(name.to_owned());
    }
}

/// Panics if a request has named the hook.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "a fault for tests")]
pub fn panic_if_named(hook: Hook) {
    let mut next = lock(&NEXT);
    let is_next = next.as_deref() == Some(&*format!("{hook:?}"));
    if is_next {
        *next = None;
        drop(next);
        panic!("as the test asks");
    }
}

#[cfg(not(debug_assertions))]
pub const fn panic_if_named(_: Hook) {}
