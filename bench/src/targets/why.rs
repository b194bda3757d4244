//! Notes on missed targets: where the time goes, and what would help.

pub(super) const KEY: &str = "\
    A module that makes the same proxy calls and computes nothing accounts for a third of \
    what the gate adds: first removing and replacing header fields, then the bucket, the \
    access log's calls and the clock. The rest is our code. Most of that cost is cache \
    misses, not computation. In V8 with nothing else running, the same module answers the \
    same request in 11 µs, calls included; between two runs of Envoy's own code it takes two \
    to three times as long. It touches some 2,800 cache lines in 180 functions, each once a \
    request (a first-level cache holds 512), and displaces the 5,600 lines of Envoy. Envoy's \
    own code takes a third longer than with the module that computes nothing. So a function \
    that runs once costs more than a long loop: 128 numbers of JSON cost less than reading \
    the head. Compiling for size does not reduce the cache lines (3,000) and is slower by a \
    sixth. A SHA-256 without unrolled rounds saves 170 lines and costs as much. Free lists \
    of small blocks in front of the VM's allocator gained nothing. binaryen's wasm-opt saves \
    some 7 % of what is added. Fewer functions a request would help. A filter that does \
    nothing costs 1.11 times bare.";
pub(super) const MODULE: &str = "\
    Of what the native module adds at 1 KB, a third is its own code (JSON a fifth of that, the \
    rest spread over functions that run once), a quarter is Envoy's code for it, and the rest \
    is the C library and cache misses. Calls that were left out as an experiment changed \
    nothing that could be measured. For larger bodies the tables have a module that only holds \
    and copies the body: most of what is added is that Envoy holds it, and the cost of any \
    request. The rest is the scan, of JSON also a copy and the UTF-8 check.";
pub(super) const BINARY_600K: &str = "\
    A buffered body is copied once more, into the VM, and is forwarded only when it is \
    complete. Of the gate's cost for 600 KB, half is the scan and a quarter the copy, and \
    Envoy calls the filter for each 16 KB. REST runs the same code as gRPC. Over REST, a \
    bare Envoy pays for each frame that it forwards, which a gate that buffers the whole \
    body saves. Bodies larger than `hold_bytes` are checked as they are streamed and are not \
    buffered: the 256 MiB figure shows what smaller bodies would reach with a smaller \
    `hold_bytes`.";
pub(super) const STREAMED: &str = "\
    Each chunk is copied into the VM once and checked there. Memory is one chunk, plus what \
    Envoy's flow-control windows let a client send ahead.";
pub(super) const JSON_575K: &str = "\
    A list is checked in its text, 64 bytes at a time. The other costs are the copy of the body \
    and the UTF-8 check.";
pub(super) const SCAN_RATE: &str = "\
    The difference between two contracts over 8 MB, so it includes memory access. The scan \
    itself is vector code over four positions of a block at once, 40 to 49 GB/s in V8 by \
    itself.";
pub(super) const RS256: &str = "\
    An absolute bound in microseconds, from a machine on which Envoy's own chain took 26 µs \
    more for a new RS256 token and 49 µs for an ES256 one. The table has rows for that chain \
    on this machine: comparing what each adds is more meaningful. The key is passed as DER \
    and parsed anew each time.";
pub(super) const EDDSA: &str = "\
    Envoy's `verify_signature` does not support EdDSA, so the curve is computed in V8 \
    without wide multiplication. The bound comes from the same machine as RS256's.";
pub(super) const FLOOD: &str = "\
    EdDSA is verified in V8, without wide multiplication. `lockout`, which this scenario's \
    policy has, bounds how many tokens a second are verified for one source; its first \
    failures are verified all the same.";
pub(super) const MEMORY: &str = "\
    Most of it is free pages and thread caches that V8's compilation of the module leaves \
    (Envoy's `/memory`). The module is compiled at every start on as many threads as there \
    are cores, so a machine with more cores shows more. Envoy's allocator returns free pages \
    only when configured to: a rendered bootstrap does so (`memory_allocator_manager`, 27 \
    MiB less within seconds), the bench's bare listener does not. Compiling the module for size saves 29 MiB and costs CPU.";
pub(super) const INSTANCE: &str = "\
    Most of it is clearing the previous instance's memory up to the initial size: 1.1 MiB \
    with rustc's default stack, 320 KiB with a stack of 256 KiB. Asking the kernel which \
    pages were written (PAGEMAP_SCAN) would clear less. But it would miss a page that is \
    swapped out or being migrated to another node, and so leave one call's data in the next \
    call's instance. A smaller stack is the remaining option.";
pub(super) const HANDLER: &str = "\
    By samples of the guest's threads (perf), 61 % is the handler's code (1.5 times native: \
    fuel, 128-bit vectors), 15 % copying the answer out, 7 % clearing memory afterwards, 3 % \
    copying the input in, and 6 % the kernel, which wakes and switches threads. Memory does \
    not grow: an instance starts with what the call needs, and the answer's buffer is not \
    cleared first. On a machine with other users the caches are shared too, and the copies \
    cost more than native code that reuses its output.";
pub(super) const NEIGHBOUR: &str = "\
    By the kernel's scheduler trace, two causes remain. One is the first calls of a handler \
    without a history. The other is the kernel's time slices for descheduled threads, up to \
    one tick each (4 ms where HZ is 250), when another thread wakes and sleeps beside them. \
    Calls that have used up their CPU share may run on all cores but one; calls that are \
    merely long are not restricted.";
pub(super) const OVERLOAD: &str = "\
    A late worker rejects at the head, but a rejection costs CPU time of the same core: 0.19 \
    ms in Envoy and 0.02 ms in the host, compared with 0.52 ms and 0.81 ms of an answer. At \
    twice the load there is more than one for each answer. A quarter of it is the body that \
    is already on its way; a smaller window would leave less of it there, and slow down \
    distant clients. Most of the rest is Envoy's own stream, local reply and access log.";
pub(super) const CLIENT_BYTES: &str = "\
    A VM never returns memory, so the figure is the peak while the policy is loaded: its \
    bytes, together with the loaded policy (150 bytes a client) and an index that detects \
    equal keys (65). Tables of clients and keys that are read in place would help.";
pub(super) const TRANSFORM: &str = "\
    By call stacks sampled with perf while guest memory still grew in each call (7 %, since \
    removed), 47 % of the host's time was in the kernel: 23 % writing the 600 KB to the \
    backend, 3 % reading the request. 8 % is the guest's own code, 11 % copying, 4 % \
    checking the values that it made, 4 % the audit thread. The heap keeps buffers of 600 \
    KB: before that, mapping pages for new ones took 14 %. Writing more at once than a 16 \
    KiB frame, the most that the backend accepts, gained nothing.";
pub(super) const PASS_1K: &str = "\
    By call stacks sampled with perf, 36 % of the host's time is in the kernel: 10 % writing \
    to both sides (one write to each a request), 9 % waiting for sockets and yielding to \
    Envoy on the same core. 12 % is HTTP/2 frames and header fields on both sides, 7 % \
    allocations, 12 % the audit thread. A third of the audit thread's share is waking and \
    sleeping: six times for ten requests, since answers that are ready together wake it \
    once. Writing the audit line on the request's own thread would save some 5 %, but a \
    stalled disk would then block everything else that the thread serves. 4 % is formatting \
    the audit line. The host's own code is a sixth, of which no function takes more than 2 \
    %. mimalloc and jemalloc cost as much as the current heap and use more memory. A bare \
    hop decodes nothing, judges nothing and writes no line before it answers.";
pub(super) const HOST_BUFFERING: &str = "\
    Memory is reserved for a body as received and as decoded. The message for the backend is \
    a third copy without a reservation, and data that HTTP/2 has received and the host has \
    not yet read comes on top.";
pub(super) const PYTHON_START: &str = "\
    Most of it is page faults. An instance maps the handler's memory copy-on-write, and \
    CPython writes a reference count into each object that it uses, so a call copies some \
    130 pages. The same call again in one instance takes 20 µs.";
pub(super) const PYTHON_TASK: &str = "\
    Two costs add up. Pages that a fresh instance writes are copied and given back, some \
    hundreds for pandas and scikit-learn. And the machine code of a library in WebAssembly is \
    slower than a native one. Measured by themselves, again and again in one instance, the \
    NCHW task takes 2 times as long as native numpy, `rfft` of 2,048 numbers 3.5 times, and a \
    product of matrices of 256×256 11 times.";
pub(super) const JS_START: &str = "\
    By samples of the guest's thread (perf), with QuickJS and its bindings fused into one \
    module when the handler is built: a third is copying its 1.9 MB memory image back into \
    place and clearing the memory behind it, a quarter is the guest, and a tenth is the \
    engine resolving the imports between the remaining modules (the tensor kit and its \
    bindings).";
pub(super) const KIT_JOB: &str = "\
    Each copy of 602 KB counts: out of the tensor kit in blocks, into an object of the \
    language, from there to what the host reads, and out. An answer that the host reads \
    directly from the kit would help.";
