//! Bounds that no policy sets: what a call may do beside burning fuel, memory and time.

use std::time::Duration;

/// How often the epoch moves, and so how late a deadline can be noticed. 1 ms: a looping guest is stopped within a
/// tick or two, and the ticker costs nothing that shows.
pub(super) const EPOCH_TICK: Duration = Duration::from_millis(1);

/// Ticks without a guest after which the clock's thread sleeps until the next one: what a host in use never reaches, and a tenth of a
/// second's wake-ups for one that is not.
pub(super) const IDLE_TICKS: u32 = 100;

/// What a call may have of a core before its thread steps back: more than any short call needs, so that who is stepped in front of is
/// one that computes for long.
pub(super) const SHORT_CALL: Duration = Duration::from_millis(2);

/// How far it steps back, as `nice` counts: at a contended core it gets about a tenth of what another does. Less would leave it no time to
/// notice that its deadline has passed. A core that nobody else wants it has for itself.
pub(super) const STEP_BACK: i32 = 10;

/// The slices that it wishes for then: longer than the 3 ms that others have at most (`base_slice_ns`), since who has shorter ones goes first
/// when it wakes; and not much longer, since for a slice that it lets others on in it waits for the whole of its turn, nine times as long.
pub(super) const LONG_SLICE: Duration = Duration::from_millis(5);

/// The slices of a thread that others wait for: shorter than those others have, so that it goes first when it wakes. The kernel takes
/// none that is shorter.
pub(super) const SHORT_SLICE: Duration = Duration::from_micros(100);

/// How long after its deadline a call is waited for that has not noticed it: then its thread waits for a core, and its caller
/// does not wait with it.
pub(super) const DEADLINE_GRACE: Duration = Duration::from_millis(20);

/// Of a client's last eight calls of a handler, how many have run long, or taken all that they may, where the next one starts stepped back: one may be chance.
pub(super) const LONG_CALLS: u32 = 2;

/// Places for clients whose calls of one handler are told apart.
pub(super) const PACES: usize = 64;

/// Calls that one may wait for in a queue that stands: less would shed what is only slow.
pub(super) const CALLS_WAITED: u32 = 4;

/// Handlers that have a thread kept for them; further ones share what is free. Each thread can hold a stack and the memories of
/// one instance resident.
pub(super) const MAX_KEPT_THREADS: usize = 16;

/// Stack that wasm code may use, bytes: wasmtime's default, named because the thread's stack follows from it.
pub(super) const MAX_WASM_STACK_BYTES: usize = 512 << 10;

/// A guest thread's stack, bytes: wasm's own and ample room for the host functions that it calls. A host function that
/// overflowed it would abort the process.
pub(super) const THREAD_STACK_BYTES: usize = 4 << 20;

/// The largest component that is compiled, bytes. CPython makes one of 18 MB.
pub(super) const MAX_COMPONENT_BYTES: usize = 64 << 20;

/// Tensors that one call may return. Serving models have a handful of inputs.
pub(super) const MAX_OUTPUT_TENSORS: usize = 64;

/// A returned tensor's name, bytes.
pub(super) const MAX_NAME_BYTES: usize = 256;

/// What a handler says of its own failure, bytes; more is cut off.
pub(super) const MAX_MESSAGE_BYTES: usize = 4 << 10;

/// Calls to `config` and `log` in one call.
pub(super) const MAX_HOST_CALLS: u32 = 10_000;

/// A key that `config.get` looks up, bytes; no policy has a longer one.
pub(super) const MAX_CONFIG_KEY_BYTES: usize = 1 << 10;

/// What a guest may choose of one thing that it asks for, bytes: no policy lets a longer URL through.
pub(super) const MAX_ASK_BYTES: usize = 2 << 10;

/// What one call may ask for in all, whatever its policy says of each kind: a run each, at worst.
pub(super) const MAX_ASKS: usize = 16;

/// Features, or keys, that a guest may name in one lookup: no policy lets more through.
pub(super) const MAX_ASK_ITEMS: usize = 256;

/// One of them, or a lookup's name, bytes.
pub(super) const MAX_ASK_ITEM_BYTES: usize = 256;

/// Entries of one request's audit line about what was brought for it: what four calls may ask for, and less than a line may hold.
pub(super) const MAX_TOLD: usize = 64;

/// Log lines that one call may write; more are dropped and counted.
pub(super) const MAX_LOG_LINES: u32 = 100;

/// A log line, bytes before escaping; more is cut off.
pub(super) const MAX_LOG_LINE_BYTES: usize = 4 << 10;

/// All log lines of one call, bytes before escaping; lines past it are dropped and counted.
pub(super) const MAX_LOG_BYTES: usize = 64 << 10;

/// Core instances in one component. A Rust handler has 4; one that carries CPython and the tensor kit has 12, and 47 where its modules could not be fused.
pub(super) const MAX_CORE_INSTANCES: u32 = 56;

/// Linear memories in one component. A Rust handler has 1, as has one that carries CPython; one that carries QuickJS has 3, two of them
/// empty. The tensor kit has another.
pub(super) const MAX_MEMORIES: u32 = 4;

/// Tables in one component. A Rust handler has 2: its own, and the one that `wit-component` links with. CPython has 2, QuickJS 3.
pub(super) const MAX_TABLES: u32 = 16;

/// Elements in one table: wasmtime's default.
pub(super) const MAX_TABLE_ELEMENTS: usize = 20_000;

/// Linear memory that a slot keeps resident between instances, bytes. It is cleared by memset, or written over from the module's image, and not given back to the
/// kernel: a fresh instance then touches its first 8 MiB without a page fault. Of a smaller memory what there is of it is cleared, so that others pay nothing. More would make CPython's calls faster still,
/// and its neighbours' slower: the kernel changes the protection of all pages that are there, under the lock of the whole process' memory, when a memory grows and is taken back (beside calls
/// that hoard 16 MiB a neighbour's p99 was 1.2 times its quiet one with 8 MiB, 2.6 times with 16). Wasmtime could ask the kernel which pages are resident (`pagemap_scan`) and
/// clear those alone; a page that is swapped out, or on its way to another place (compaction moves what is locked in memory, too), is none of them and would keep what the last call wrote.
/// It costs up to this much resident memory for each memory slot in use: at most threads × `MAX_MEMORIES` × 8 MiB, and of a handler no more than its `memory_bytes`.
pub(super) const KEEP_RESIDENT_BYTES: usize = 8 << 20;

/// What a table keeps resident between instances, bytes: all of it, cleared as memory is. Given back to the kernel, each table of a few hundred bytes would cost a
/// call to the kernel and a page fault: half of what a fresh instance takes.
pub(super) const KEEP_RESIDENT_TABLE_BYTES: usize = MAX_TABLE_ELEMENTS * size_of::<usize>();

/// A wasm page, bytes.
pub(super) const PAGE_BYTES: u64 = 64 << 10;

/// Handles of resources that one call may hold at once. No interface of ours has a resource: only a component's own parts can pass them to
/// each other. The host keeps the table, so that a guest could fill its memory.
pub(super) const MAX_HANDLES: usize = 4_096;

/// Core modules in one component, however deep. One that carries CPython has 3, and 38 as its tool makes it.
pub(super) const MAX_MODULES: usize = 128;

/// Components in each other. One that carries QuickJS has 3.
pub(super) const MAX_NESTING: usize = 16;

/// Functions in one component. One that carries CPython has 13,500, of which 11,700 are left once its modules are fused.
pub(super) const MAX_FUNCTIONS: usize = 100_000;

/// One function, bytes: a compiler takes minutes for one of twice the size that is made for that. The largest of CPython has 165,000, and 430,000 where what only places its libraries is still there.
pub(super) const MAX_FUNCTION_BYTES: usize = 512 << 10;

/// All functions of a component together, bytes. Those of CPython have 5.4 million, 6.6 where its modules are not fused.
pub(super) const MAX_CODE_BYTES: usize = 32 << 20;

/// What was compiled of one component, bytes: several times its code.
pub(super) const MAX_COMPILED_BYTES: usize = 512 << 20;

/// How long a compiler of its own may take: CPython takes 14 s of one core.
pub(super) const COMPILE_TIME: Duration = Duration::from_secs(300);

/// What a compiler of its own may have of writable memory, bytes. CPython takes half of one GiB with four threads.
pub(super) const COMPILE_MEMORY_BYTES: u64 = 4 << 30;

/// Compilers at once, whatever there is of cores and memory: each has several threads.
pub(super) const MAX_COMPILERS: usize = 16;

/// Between two lines that say that something is being compiled still.
pub(super) const COMPILE_TOLD_EVERY: Duration = Duration::from_secs(5);

/// What the folder of compiled components may hold, bytes and files; the oldest go.
pub(super) const MAX_CACHE_BYTES: u64 = 4 << 30;
/// See [`MAX_CACHE_BYTES`].
pub(super) const MAX_CACHE_FILES: usize = 512;
