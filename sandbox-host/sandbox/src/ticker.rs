//! The epoch ticker of the engine: advances the epoch while guests run. A call costs the ticker two
//! additions. The ticker thread parks only after it has seen no guest for some time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use wasmtime::Engine;

use crate::error::SandboxError;
use crate::fixed_limits::{EPOCH_TICK, IDLE_TICKS};
use crate::priority;

/// Advances an engine's epoch. The thread ends when this is dropped.
pub(super) struct Ticker(Arc<Clock>);

#[derive(Default)]
struct Clock {
    running: AtomicUsize,
    /// The thread waits to be woken, or is about to.
    parked: AtomicBool,
    stopped: AtomicBool,
    /// Held between the thread's last check and its sleep, so that no wake-up is lost in between.
    parking: Mutex<()>,
    wake: Condvar,
}

impl Ticker {
    /// Starts the thread.
    pub(super) fn start(engine: &Engine) -> Result<Self, SandboxError> {
        let clock = Arc::new(Clock::default());
        let (shared, engine, name) = (Arc::clone(&clock), engine.clone(), "guest-clock");
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // The delay of the tick adds to every guest's turn.
                priority::use_short_slices();
                shared.tick(|| engine.increment_epoch());
            })
            .map_err(|source| SandboxError::Thread {
                name: name.to_owned(),
                source,
            })?;
        Ok(Self(clock))
    }

    /// Ticks as long as the guard lives.
    pub(super) fn run(&self) -> RunningGuest<'_> {
        // Sequentially consistent with the thread's check after it sets `parked`: one of the two
        // sees the other.
        self.0.running.fetch_add(1, Ordering::SeqCst);
        if self.0.parked.load(Ordering::SeqCst) {
            self.0.wake();
        }
        RunningGuest(&self.0)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        self.0.wake();
    }
}

/// A guard for a running guest.
pub(super) struct RunningGuest<'a>(&'a Clock);

impl Drop for RunningGuest<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Clock {
    fn tick(&self, advance: impl Fn()) {
        let mut idle = 0_u32;
        while !self.stopped.load(Ordering::SeqCst) {
            thread::sleep(EPOCH_TICK);
            advance();
            if self.running.load(Ordering::SeqCst) > 0 {
                idle = 0;
                continue;
            }
            idle = idle.saturating_add(1);
            if idle >= IDLE_TICKS {
                self.park();
                idle = 0;
            }
        }
    }

    /// Returns once a guest runs or the ticker is to stop.
    fn park(&self) {
        let held = self.lock();
        self.parked.store(true, Ordering::SeqCst);
        let idle = |(): &mut ()| {
            self.running.load(Ordering::SeqCst) == 0 && !self.stopped.load(Ordering::SeqCst)
        };
        let held = self
            .wake
            .wait_while(held, idle)
            .unwrap_or_else(PoisonError::into_inner);
        self.parked.store(false, Ordering::SeqCst);
        drop(held);
    }

    fn wake(&self) {
        drop(self.lock());
        self.wake.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.parking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::{Duration, Instant};

    use super::*;

    /// A running ticker that counts its ticks.
    fn started() -> (Ticker, Arc<AtomicU64>, thread::JoinHandle<()>) {
        let (clock, ticks) = (Arc::new(Clock::default()), Arc::new(AtomicU64::new(0)));
        let (shared, counted) = (Arc::clone(&clock), Arc::clone(&ticks));
        let thread = thread::spawn(move || {
            shared.tick(|| {
                counted.fetch_add(1, Ordering::Relaxed);
            });
        });
        (Ticker(clock), ticks, thread)
    }

    fn until(condition: impl Fn() -> bool) {
        let started = Instant::now();
        while !condition() {
            assert!(started.elapsed() < Duration::from_secs(60), "never");
            thread::sleep(EPOCH_TICK);
        }
    }

    #[test]
    fn a_clock_without_guests_parks_and_every_guest_that_comes_then_has_its_ticks() {
        let (ticker, ticks, thread) = started();
        for _ in 0..3 {
            until(|| ticker.0.parked.load(Ordering::SeqCst));
            let running = ticker.run();
            let before = ticks.load(Ordering::Relaxed);
            until(|| ticks.load(Ordering::Relaxed) > before);
            assert!(!ticker.0.parked.load(Ordering::SeqCst), "a guest runs");
            drop(running);
        }
        until(|| ticker.0.parked.load(Ordering::SeqCst));
        drop(ticker);
        thread.join().unwrap();
    }
}
