//! The wasm engine: its features, and the number of instances that can exist at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use super::cause::SandboxError;
use super::limits::{
    EPOCH_TICK, IDLE_TICKS, KEEP_RESIDENT_BYTES, KEEP_RESIDENT_TABLE_BYTES, MAX_CORE_INSTANCES,
    MAX_MEMORIES, MAX_TABLE_ELEMENTS, MAX_TABLES, MAX_WASM_STACK_BYTES,
};
use super::priority;

/// Creates an engine for `slots` concurrent instances, each with at most `max_memory_bytes` in a
/// memory.
pub(super) fn engine(slots: usize, max_memory_bytes: usize) -> Result<Engine, SandboxError> {
    let slots =
        u32::try_from(slots).map_err(|_| SandboxError::Engine(format!("{slots} threads")))?;
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(MAX_CORE_INSTANCES))
        .total_memories(slots.saturating_mul(MAX_MEMORIES))
        .total_tables(slots.saturating_mul(MAX_TABLES))
        .max_core_instances_per_component(MAX_CORE_INSTANCES)
        .max_memories_per_component(MAX_MEMORIES)
        .max_tables_per_component(MAX_TABLES)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_memory_size(max_memory_bytes)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_TABLE_BYTES);
    let mut config = config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).map_err(|error| SandboxError::Engine(format!("{error:#}")))
}

/// Creates an engine that only compiles code for the other one.
pub(super) fn compiler() -> wasmtime::Result<Engine> {
    Engine::new(&config())
}

/// The settings that compiled code depends on.
fn config() -> Config {
    let mut config = Config::new();
    config
        .memory_init_cow(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(MAX_WASM_STACK_BYTES)
        .cranelift_opt_level(OptLevel::Speed)
        .parallel_compilation(true)
        // The engine needs this to pass strings between a component's own parts, and panics without
        // it. `MAX_MEMORIES` limits the memories anyway.
        .wasm_multi_memory(true)
        // No supported guest toolchain needs these. A disabled feature cannot have bugs.
        .wasm_memory64(false)
        // Its results differ between machines, and a replay must not.
        .wasm_relaxed_simd(false);
    config
}

// The epoch ticker of the engine: advances the epoch while guests run. A call costs the ticker two
// additions. The ticker thread parks only after it has seen no guest for some time.

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
