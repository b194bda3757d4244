//! The wasm engine and its clock.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use super::bounds::{
    EPOCH_TICK, KEEP_RESIDENT_BYTES, MAX_CORE_INSTANCES, MAX_MEMORIES, MAX_TABLE_ELEMENTS,
    MAX_TABLES, MAX_WASM_STACK_BYTES,
};
use super::fault::SandboxError;

/// An engine with room for `slots` instances at once, each with at most `max_memory_bytes` a memory.
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
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .memory_init_cow(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(MAX_WASM_STACK_BYTES)
        .cranelift_opt_level(OptLevel::Speed)
        .parallel_compilation(true)
        // No guest toolchain of ours needs these: what is off cannot have a bug.
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        // Its results differ by machine; a replay must not.
        .wasm_relaxed_simd(false);
    Engine::new(&config).map_err(|error| SandboxError::Engine(format!("{error:#}")))
}

/// Moves an engine's epoch on, a tick at a time, while a guest runs; sleeps while none does.
pub(super) struct Ticker(Arc<Clock>);

#[derive(Default)]
struct Clock {
    state: Mutex<ClockState>,
    changed: Condvar,
}

#[derive(Default)]
struct ClockState {
    running: usize,
    stopped: bool,
}

impl Ticker {
    /// Starts the thread.
    pub(super) fn start(engine: &Engine) -> Result<Self, SandboxError> {
        let clock = Arc::new(Clock::default());
        let (shared, engine, name) = (Arc::clone(&clock), engine.clone(), "guest-clock");
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                while shared.wait_for_a_guest() {
                    thread::sleep(EPOCH_TICK);
                    engine.increment_epoch();
                }
            })
            .map_err(|source| SandboxError::Thread {
                name: name.to_owned(),
                source,
            })?;
        Ok(Self(clock))
    }

    /// Ticks as long as the guard lives.
    pub(super) fn run(&self) -> Running<'_> {
        self.0
            .change(|state| state.running = state.running.saturating_add(1));
        Running(&self.0)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.change(|state| state.stopped = true);
    }
}

/// A guest that runs.
pub(super) struct Running<'a>(&'a Clock);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0
            .change(|state| state.running = state.running.saturating_sub(1));
    }
}

impl Clock {
    /// Waits until a guest runs; `false` once the clock is to stop.
    fn wait_for_a_guest(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self
            .changed
            .wait_while(state, |state| state.running == 0 && !state.stopped)
            .unwrap_or_else(PoisonError::into_inner);
        !state.stopped
    }

    fn change(&self, change: impl FnOnce(&mut ClockState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}
