//! Fixed limits of the sandbox that no policy sets. Fuel, memory and time are set by the policy.

use std::time::Duration;

use tensorgate_settings::capture;
use tensorgate_settings::handler_memory;

/// The interval between epochs, and so the delay until a missed deadline is noticed. With 1 ms a
/// looping guest stops within two ticks, and the ticker costs no measurable time.
pub(super) const EPOCH_TICK: Duration = Duration::from_millis(1);

/// The number of ticks without a guest after which the ticker thread sleeps. A host in use never
/// reaches it, and an idle host saves the wake-ups.
pub(super) const IDLE_TICKS: u32 = 100;

/// The CPU time of a call after which its thread gets low priority. No short call needs as much.
pub(super) const MAX_SHORT_CALL: Duration = Duration::from_millis(2);

/// The niceness that is added for low priority. At a contended core the thread then gets about a
/// tenth of another thread's time. With less it could not notice a missed deadline. At an idle core
/// it is not slowed down.
pub(super) const LOW_PRIORITY_NICENESS: i32 = 10;

/// The scheduler slice of a low-priority thread. It is longer than the default of at most 3 ms
/// (`base_slice_ns`), because a thread with a shorter slice goes first when it wakes. It is not
/// much longer, because a preempted thread waits for its whole turn, nine times as long.
pub(super) const LOW_PRIORITY_SLICE: Duration = Duration::from_millis(5);

/// The scheduler slice of a thread that others wait for. It is shorter than the default, so the
/// thread goes first when it wakes. The kernel accepts no shorter one.
pub(super) const SHORT_SLICE: Duration = Duration::from_micros(100);

/// How long after its deadline a running call is waited for. If it has not stopped by then, its
/// thread has no core, or is busy in the host, and the caller stops waiting.
pub(super) const DEADLINE_GRACE: Duration = Duration::from_millis(20);

/// The same where no other client waits. The caller then learns how the call ended.
pub(super) const UNSHARED_DEADLINE_GRACE: Duration = Duration::from_secs(10);

/// If this many of a client's last eight calls of a handler were long, the next one starts at low
/// priority. A single one may be chance.
pub(super) const LONG_CALLS_FOR_LOW_PRIORITY: u32 = 2;

/// The number of call histories for one handler. Clients share them by hash.
pub(super) const MAX_CALL_HISTORIES: usize = 64;

/// In a queue with sustained delay, a call may wait for as long as this many calls take. A lower
/// limit would reject calls of slow handlers.
pub(super) const MAX_WAIT_IN_CALLS: u32 = 4;

/// The stack of wasm code in bytes. With less, deep recursion in CPython's own code, such as nested
/// JSON, would end a call before CPython raises its `RecursionError`.
pub(super) const MAX_WASM_STACK_BYTES: usize = handler_memory::MAX_WASM_STACK_BYTES;

/// The stack of a guest thread in bytes: wasm's own stack, and ample room for host functions. A
/// host function that overflows it would abort the process.
pub(super) const THREAD_STACK_BYTES: usize = 8 << 20;

/// The most tensors that one call may return. Serving models have a handful of inputs.
pub(super) const MAX_OUTPUT_TENSORS: usize = 64;

/// The longest name of a returned tensor, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 256;

/// The longest error message of a handler, in bytes. The rest is cut off.
pub(super) const MAX_MESSAGE_BYTES: usize = 4 << 10;

/// The longest text for the caller of a rejected input, in characters. The rest is cut off.
pub(super) const MAX_CALLER_CHARACTERS: usize = 256;

/// The most bytes that a handler carries to later handlers of its request. The host has them in
/// memory until the request ends.
pub(super) const MAX_CARRY_BYTES: usize = capture::MAX_CARRY_BYTES;

/// The most calls to the host's functions in one call.
pub(super) const MAX_HOST_CALLS: u32 = 10_000;

/// The longest key for `config.get`, in bytes. No policy has a longer one.
pub(super) const MAX_CONFIG_KEY_BYTES: usize = 1 << 10;

/// The longest URL of a capability request, in bytes. No policy allows a longer one.
pub(super) const MAX_URL_BYTES: usize = 2 << 10;

/// The most capability requests of one call. Each may need a run of its own.
pub(super) const MAX_CAPABILITY_REQUESTS: usize = 16;

/// The most features or keys in one lookup. No policy allows more.
pub(super) const MAX_LOOKUP_ITEMS: usize = 256;

/// The longest feature, key or lookup name, in bytes.
pub(super) const MAX_LOOKUP_ITEM_BYTES: usize = 256;

/// The most bytes that one call of WASI may write or ask for.
pub(super) const MAX_WASI_BYTES: usize = 64 << 10;

/// The last lines of stderr that a fault quotes: a panic in Rust has three.
pub(super) const MAX_QUOTED_LINES: usize = 3;

/// The most frames of Python code that a fault quotes: the innermost.
pub(super) const MAX_PYTHON_FRAMES: usize = 8;

/// The most frames that are looked at for them. The others are the interpreter's own.
pub(super) const MAX_PYTHON_VISITED_FRAMES: usize = 64;

/// The start of a memory that is searched for CPython's table of offsets, in bytes. The runtime has
/// it after 25 MiB.
pub(super) const MAX_PYTHON_SEARCH_BYTES: usize = 32 << 20;

/// The longest path or name in a frame, in bytes. The rest is cut off.
pub(super) const MAX_PYTHON_NAME_BYTES: usize = 256;

/// The most bytes of a function's table of lines that are read. It has two to five for an
/// instruction.
pub(super) const MAX_PYTHON_LINE_TABLE_BYTES: usize = 256 << 10;

/// The most log lines of one call. Further lines are dropped and counted.
pub(super) const MAX_LOG_LINES: u32 = 100;

/// The longest log line in bytes before escaping. The rest is cut off.
pub(super) const MAX_LOG_LINE_BYTES: usize = 4 << 10;

/// The most log bytes of one call before escaping. Lines beyond it are dropped and counted.
pub(super) const MAX_LOG_BYTES: usize = 64 << 10;

/// The most core instances in one component. A Rust handler has 4. Components of componentize-py,
/// which bring a CPython of their own, have up to 47.
pub(super) const MAX_CORE_INSTANCES: u32 = 56;

/// The same in a component that imports a runtime: one has 5, and with the tensor library some 15.
/// Each could be an instance of the runtime, which takes up to [`MAX_INSTANCE_BYTES`] of the host.
pub(super) const MAX_CORE_INSTANCES_WITH_RUNTIME: u32 = 24;

/// The most linear memories in one component. A Rust handler and one with a runtime have 1. One
/// with QuickJS has 3, two of them empty. The tensor library has another one.
pub(super) const MAX_MEMORIES: u32 = 4;

/// The most tables in one component. A Rust handler has 2: its own, and one from `wit-component`.
/// QuickJS has 3.
pub(super) const MAX_TABLES: u32 = 16;

/// The most elements in one table. CPython with its libraries has 47,157.
pub(super) const MAX_TABLE_ELEMENTS: usize = 50_000;

/// The bytes of linear memory that an instance slot keeps resident. They are cleared with memset or
/// copied from the module's image instead of being returned to the kernel. A fresh instance then
/// touches its first 2 MiB without page faults. A smaller memory is cleared only up to its size.
///
/// Handlers in Rust and JavaScript have most of their memory there, 1 to 3 MiB. The memory of a
/// runtime begins with 16 MiB of CPython's C stack, of which a call uses one or two pages. With
/// 8 MiB, to clear them took 330 µs of each call. A larger value also makes neighbours slower,
/// because the kernel changes the protection of all pages of a returned memory under a process-wide
/// lock.
///
/// Wasmtime's `pagemap_scan` would clear only resident pages. It is not used: it misses pages that
/// are swapped out or being moved, which would keep data of the last call.
///
/// The cost is at most threads × `MAX_MEMORIES` × 2 MiB of resident memory, and never more than a
/// handler's `memory_bytes`.
pub(super) const KEEP_RESIDENT_BYTES: usize = handler_memory::KEEP_RESIDENT_BYTES;

/// The bytes of a table that stay resident between instances: all of it. Returning each small table
/// to the kernel would cost a system call and a page fault, half of the time of an instantiation.
pub(super) const KEEP_RESIDENT_TABLE_BYTES: usize = MAX_TABLE_ELEMENTS * size_of::<usize>();

/// The calls of a component after which the pages that each of them wrote are known.
pub(super) const OBSERVED_CALLS: usize = 4;

/// The pages of a memory in which written ones are looked for: 256 MiB.
pub(super) const MAX_OBSERVED_PAGES: usize = 64 << 10;

/// The most pages that are mapped when an instance starts, and the most runs of them. A call with
/// pandas and scikit-learn writes 360 in 270 runs. What the first calls wrote is mapped for all
/// later ones, so this bounds by how much they can slow these: half a millisecond.
pub(super) const MAX_POPULATED_PAGES: usize = 512;
/// See [`MAX_POPULATED_PAGES`].
pub(super) const MAX_POPULATED_RUNS: usize = 512;

/// The size of a wasm page in bytes.
pub(super) const PAGE_BYTES: u64 = 64 << 10;

/// The most resource handles of one call: streams and pollables of WASI, and those between a
/// component's own parts. The host keeps the table, and a guest could otherwise fill the host's
/// memory.
pub(super) const MAX_HANDLES: usize = 4_096;

/// The most core modules in one component, at any depth. One of componentize-py has up to 38.
pub(super) const MAX_MODULES: usize = 128;

/// The bytes of a core instance in the host: mostly references to functions, of which CPython with
/// its libraries has 47,000.
pub(super) const MAX_INSTANCE_BYTES: usize = 2 << 20;

/// The most runtimes that are loaded at once. Each needs an instance that runs no code.
pub(super) const MAX_LOADING_RUNTIMES: u32 = 16;

/// The largest file of a runtime in bytes. CPython with its libraries has 140 MB.
pub(super) const MAX_RUNTIME_BYTES: usize = 512 << 20;

/// The deepest nesting of components. One with QuickJS has 3.
pub(super) const MAX_NESTING: usize = 16;

/// The most functions in one component. One of componentize-py has 13,500.
pub(super) const MAX_FUNCTIONS: usize = 100_000;

/// The largest function in bytes. A function of twice the size can take a compiler minutes.
/// CPython's largest has 165,000 bytes, or 430,000 in componentize-py.
pub(super) const MAX_FUNCTION_BYTES: usize = 512 << 10;

/// The most bytes of all functions of a component. Those of componentize-py have 6.6 million.
pub(super) const MAX_CODE_BYTES: usize = 32 << 20;

/// The most bytes of compiled code for one component: several times its wasm code.
pub(super) const MAX_COMPILED_BYTES: usize = 512 << 20;

/// The least code of a component whose compiled functions are kept, in bytes. QuickJS and the
/// tensor kit have more. Less code is compiled in a second.
pub(super) const MIN_REUSED_CODE_BYTES: usize = 1 << 20;

/// The CPU time of the compiler process. The runtime of Python takes 150 s.
pub(super) const COMPILE_CPU: Duration = Duration::from_secs(600);

/// The timeout of the compiler process. It is far longer than the CPU time needs, because beside a
/// busy host the compiler runs at low priority and may get a tenth of a core.
pub(super) const COMPILE_TIMEOUT: Duration = Duration::from_secs(1_800);

/// The writable memory of the compiler process in bytes. The runtime of Python takes 2.1 GiB with
/// two threads.
pub(super) const COMPILE_MEMORY_BYTES: u64 = 4 << 30;

/// The most concurrent compilers, independent of cores and memory. Each has several threads.
pub(super) const MAX_COMPILERS: usize = 16;

/// What a call of a development component may use beyond its policy, because it loads the author's
/// modules: fuel, bytes of memory and time.
pub(super) const DEVELOPMENT_FUEL: u64 = 20_000_000_000;
pub(super) const DEVELOPMENT_MEMORY_BYTES: usize = 128 << 20;
pub(super) const DEVELOPMENT_TIME: Duration = Duration::from_secs(5);

/// The interval of the log line that a component is still being compiled.
pub(super) const COMPILE_LOG_INTERVAL: Duration = Duration::from_secs(5);

/// The most bytes in the cache of compiled components. The oldest files are removed.
pub(super) const MAX_CACHE_BYTES: u64 = 4 << 30;
/// The most files in the cache. See [`MAX_CACHE_BYTES`].
pub(super) const MAX_CACHE_FILES: usize = 512;
