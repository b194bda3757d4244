//! The wasm engine: its features, and the number of instances that can exist at once.

use std::sync::Arc;

use wasmtime::{
    CacheStore, Collector, Config, Engine, InstanceAllocationStrategy, OptLevel,
    PoolingAllocationConfig, WasmBacktraceDetails,
};

use crate::error::SandboxError;
use crate::fixed_limits::{
    KEEP_RESIDENT_BYTES, KEEP_RESIDENT_TABLE_BYTES, MAX_CORE_INSTANCES, MAX_INSTANCE_BYTES,
    MAX_LOADING_RUNTIMES, MAX_MEMORIES, MAX_TABLE_ELEMENTS, MAX_TABLES, MAX_WASM_STACK_BYTES,
};

/// Creates an engine for `slots` concurrent instances, each with at most `max_memory_bytes` in a
/// memory.
pub(super) fn engine(slots: usize, max_memory_bytes: usize) -> Result<Engine, SandboxError> {
    let slots =
        u32::try_from(slots).map_err(|_| SandboxError::Engine(format!("{slots} threads")))?;
    let mut pool = PoolingAllocationConfig::default();
    // Each loading of a runtime makes an instance of its component, and exceptions take a memory.
    pool.total_component_instances(slots.saturating_add(MAX_LOADING_RUNTIMES))
        .total_core_instances(slots.saturating_mul(MAX_CORE_INSTANCES))
        .total_memories(slots.saturating_mul(MAX_MEMORIES.saturating_add(1)))
        .total_tables(slots.saturating_mul(MAX_TABLES))
        .total_gc_heaps(slots)
        .max_core_instance_size(MAX_INSTANCE_BYTES)
        .max_core_instances_per_component(MAX_CORE_INSTANCES)
        .max_memories_per_component(MAX_MEMORIES)
        .max_tables_per_component(MAX_TABLES)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_memory_size(max_memory_bytes)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_TABLE_BYTES)
        // Guests run on threads. The default reserves a thousand stacks of fibers.
        .total_stacks(1);
    let mut config = config();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        // The error of a trap then has handles of the memories, for `python_frames`. Nothing is
        // copied.
        .coredump_on_trap(true);
    Engine::new(&config).map_err(|error| SandboxError::Engine(format!("{error:#}")))
}

/// Creates an engine that only compiles code for the other one. Functions that are known are not
/// compiled again.
pub(super) fn compiler(known: Option<Arc<dyn CacheStore>>) -> wasmtime::Result<Engine> {
    let mut config = config();
    if let Some(known) = known {
        config.enable_incremental_compilation(known)?;
    }
    Engine::new(&config)
}

/// The settings that compiled code depends on.
fn config() -> Config {
    let mut config = Config::new();
    config
        .memory_init_cow(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(MAX_WASM_STACK_BYTES)
        // Must not be smaller, although no guest runs on such a stack.
        .async_stack_size(MAX_WASM_STACK_BYTES)
        .cranelift_opt_level(OptLevel::Speed)
        .parallel_compilation(true)
        // By default a variable of the environment decides. The compiler process has no
        // environment, so the engine that loads its code could differ from it.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        // The engine needs this to pass strings between a component's own parts, and panics without
        // it. `MAX_MEMORIES` limits the memories anyway.
        .wasm_multi_memory(true)
        // No supported guest toolchain needs these. A disabled feature cannot have bugs.
        .wasm_memory64(false)
        .wasm_gc(false)
        // Those of C++ in a runtime. They are never collected, because a call is too short.
        .wasm_exceptions(true)
        .collector(Collector::Null)
        // Its results differ between machines, and a replay must not.
        .wasm_relaxed_simd(false);
    config
}
