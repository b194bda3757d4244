//! The wasm engine: what guests may be made of, and how much of them there may be at once.

use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use super::bounds::{
    KEEP_RESIDENT_BYTES, KEEP_RESIDENT_TABLE_BYTES, MAX_CORE_INSTANCES, MAX_MEMORIES,
    MAX_TABLE_ELEMENTS, MAX_TABLES, MAX_WASM_STACK_BYTES,
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
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_TABLE_BYTES);
    let mut config = config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).map_err(|error| SandboxError::Engine(format!("{error:#}")))
}

/// An engine that only compiles, what the other one runs.
pub(super) fn compiler() -> wasmtime::Result<Engine> {
    Engine::new(&config())
}

/// What code depends on.
fn config() -> Config {
    let mut config = Config::new();
    config
        .memory_init_cow(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(MAX_WASM_STACK_BYTES)
        .cranelift_opt_level(OptLevel::Speed)
        .parallel_compilation(true)
        // Where a component's own parts pass texts to each other, the engine makes modules with the memories of both, and panics if it may
        // not. `MAX_MEMORIES` bounds them all the same.
        .wasm_multi_memory(true)
        // No guest toolchain of ours needs these: what is off cannot have a bug.
        .wasm_memory64(false)
        // Its results differ by machine; a replay must not.
        .wasm_relaxed_simd(false);
    config
}
