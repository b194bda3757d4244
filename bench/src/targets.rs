//! What each figure must reach.

/// A bound on a figure, with its unit.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// No more.
    AtMost(f64, &'static str),
    /// No less.
    AtLeast(f64, &'static str),
}

/// Whether it can be measured by now.
#[derive(Clone, Copy, Debug)]
pub enum State {
    /// A scenario measures it.
    Now,
    /// What it is of does not exist yet.
    Later(&'static str),
}

/// One target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// How scenarios name it.
    pub id: &'static str,
    /// What is done.
    pub work: &'static str,
    /// What it is compared with.
    pub against: &'static str,
    /// What is asked.
    pub bound: Bound,
    /// Whether there is something to measure.
    pub state: State,
    /// Where the time goes if it is missed, and what would close it.
    pub note: Option<&'static str>,
}

const fn now(id: &'static str, work: &'static str, against: &'static str, bound: Bound) -> Target {
    Target {
        id,
        work,
        against,
        bound,
        state: State::Now,
        note: None,
    }
}

const fn later(
    id: &'static str,
    work: &'static str,
    against: &'static str,
    bound: Bound,
    why: &'static str,
) -> Target {
    Target {
        id,
        work,
        against,
        bound,
        state: State::Later(why),
        note: None,
    }
}

impl Target {
    /// The same, with where the time goes if it is missed.
    const fn because(self, note: &'static str) -> Self {
        Self {
            note: Some(note),
            ..self
        }
    }
}

use Bound::{AtLeast, AtMost};

const BARE: &str = "bare Envoy, same body and upstream";
const ITSELF: &str = "itself";
const ALONE: &str = "–";

const WHY_KEY: &str = "Three parts, by samples (perf) and by a module that makes the same host calls and computes nothing. That module costs 36 % of what the gate adds: half of it the way into a module and holding the body, half the calls, of which each that hands data over (head, body, bucket, property) costs three times one that does not, since the proxy asks the VM for memory first. Our code in V8 is 35 %: SHA-256 of key and context a fifth of its instructions, JSON a quarter, memory a quarter. The rest is Envoy's own code, the same lines as without a filter, running slower for what V8 displaces from caches. Compiling our code for size makes it slower by a sixth, and lists of small pieces in front of the VM's allocator gained nothing. Closing more of it: fewer steps a request. A filter that does nothing costs 1.11 times bare.";
const WHY_BINARY_600K: &str = "A body that is held is copied once more, into the VM, and goes on only when it is whole; 85 % of what is added to 8 MB is that, 15 % the scan. Bodies that are checked as they pass (beyond `hold_bytes`) are not held: what 256 MiB reach shows what smaller ones would with a smaller `hold_bytes`.";
const WHY_JSON_575K: &str = "135 instructions a number natively (callgrind; 290 before lists were read in one loop), of which the eight digits behind the point are 45. Beside the numbers stand the copy into the VM, the look whether the text is UTF-8, and the range.";
const WHY_SCAN_RATE: &str = "The difference between two contracts over 8 MB, so memory is in it: the scans are the compiler's vector code with one flag a block. Intrinsics over four registers reached 90 GB/s in a cache.";
const WHY_RS256: &str = "A bound in microseconds, from a machine on which Envoy's own chain took 26 µs more for a new RS256 token and 49 µs for an ES256 one. Its rows are in the table: what the gate adds beside what that chain adds here is the better figure. The key is handed over as DER and parsed anew each time.";
const WHY_EDDSA: &str = "Envoy's `verify_signature` knows no EdDSA, so the curve is computed in V8 without wide multiplication. The same remark on the machine holds.";
const WHY_FLOOD: &str = "EdDSA is verified in V8, without wide multiplication. `lockout`, which the policy of this scenario has, bounds how many tokens a second a source can have verified; its first failures are verified all the same.";
const WHY_MEMORY: &str = "28 MB are in use and 40 MB are free pages that V8's compilation of the module left behind (Envoy's `/memory`): the module is compiled at every start. Optimising what runs once a policy for size saves 17 MiB; a `memory_allocator_manager` in the bootstrap has Envoy give back 17 to 20 MiB within seconds.";
const WHY_INSTANCE: &str = "Most of it is clearing the memory that the last instance had, up to the size it starts with: 1.1 MiB with the stack that rustc gives a module, 320 KiB with one of 256 KiB. Asking the kernel which pages were written (PAGEMAP_SCAN) would clear less, and would leave a page that is swapped out or on its way to another node as it was: one call's data in the next one's instance. A smaller stack is what is left.";
const WHY_HANDLER: &str = "By samples of the guest's threads (perf) 44 % is the handler's code (1.6 times native: fuel, bounds, 128-bit vectors), 11 % copying the answer out, 8 % clearing memory, 12 % the kernel changing the protection of memory that grows and is taken back each time, the rest waking and switching threads. Closing it: a guest that starts with all the memory it needs, and an answer that is not zeroed before it is filled.";
const WHY_NEIGHBOUR: &str = "A thread whose guest runs on steps back after two ticks, and has a tenth of what others have at a contended core then. Before it does, it shares the core evenly, and a call that comes just then waits for a tick.";
const WHY_OVERLOAD: &str = "What the gate itself spends on a request that the host refuses, reading and checking its body, is spent in vain and comes out of the same core. Refusing at the gate's head while the host says that it is full would spare it.";

const WHY_CLIENT_BYTES: &str = "A VM never gives memory back, so what stands is the peak of reading the policy: the form as written, some 460 bytes a client, and the validated one beside it, a third of which is the index of who may do what, a client at a time. Closing it: one entry for all clients that have the same grants, rare members of a client out of the way, and one table of keys for policy and identity.";
const WHY_TRANSFORM: &str = "By call stacks sampled with perf, 46 % of the host's time is the kernel's: 17 % writing the 600 KB to the backend, 14 % giving pages to buffers of that size that are allocated anew for each request, 7 % changing the protection of a guest's memory that grows. 7 % are the guest's own code, 13 % copying, 4 % the audit thread. Closing it: buffers that are kept, a guest that starts with the memory it needs.";
const WHY_PASS_1K: &str = "By call stacks sampled with perf, 32 % of the host's time is the kernel's, half of it writing to the backend, 8 % waiting for sockets; 14 % is the audit thread, a third of that woken and put to sleep for a line at a time. The rest is HTTP/2 and protobuf on both sides and their allocations; no function of it takes more than 4 %. A bare hop decodes nothing and judges nothing.";

/// All of them.
pub const TARGETS: &[Target] = &[
    now("key", "gate, 1 KB JSON, API key", BARE, AtMost(1.25, "×")).because(WHY_KEY),
    now(
        "jwt",
        "gate, 1 KB JSON, cached token",
        BARE,
        AtMost(1.30, "×"),
    )
    .because(WHY_KEY),
    now(
        "native",
        "gate with a cached token, CPU added",
        "CPU that jwt_authn (cached) + local_ratelimit + rbac add, reading no body",
        AtMost(1.1, "×"),
    )
    .because(WHY_KEY),
    now(
        "ext-authz",
        "gate with an API key, CPU added",
        "CPU that ext_authz with a no-op service adds",
        AtMost(0.5, "×"),
    )
    .because(WHY_KEY),
    now(
        "ext-proc",
        "gate with an API key, CPU added",
        "CPU that ext_proc with a no-op service adds",
        AtMost(1.0 / 3.0, "×"),
    )
    .because(WHY_KEY),
    now(
        "binary-600k",
        "gate, 600 KB FP32, REST binary",
        BARE,
        AtMost(1.20, "×"),
    )
    .because(WHY_BINARY_600K),
    now(
        "grpc-600k",
        "gate, 600 KB FP32, gRPC",
        BARE,
        AtMost(1.20, "×"),
    )
    .because(WHY_BINARY_600K),
    now(
        "ext-proc-600k",
        "gate, 600 KB FP32 over gRPC, CPU added",
        "CPU that ext_proc with a no-op service adds",
        AtMost(0.125, "×"),
    )
    .because(WHY_BINARY_600K),
    now(
        "binary-8m",
        "gate, 8 MB FP32, REST binary",
        BARE,
        AtMost(1.15, "×"),
    )
    .because(WHY_BINARY_600K),
    now("grpc-8m", "gate, 8 MB FP32, gRPC", BARE, AtMost(1.15, "×")).because(WHY_BINARY_600K),
    now(
        "streamed",
        "gate, 256 MiB FP32 streamed, gRPC",
        BARE,
        AtMost(1.15, "×"),
    )
    .because(WHY_BINARY_600K),
    now(
        "json-575k",
        "gate, 575 KB of JSON floats",
        BARE,
        AtMost(2.5, "×"),
    )
    .because(WHY_JSON_575K),
    now(
        "json-rate",
        "reading JSON floats in the filter",
        ALONE,
        AtLeast(1.2, " GB/s"),
    )
    .because(WHY_JSON_575K),
    now(
        "scan-rate",
        "finite and range of FP32 in the filter",
        ALONE,
        AtLeast(40.0, " GB/s"),
    )
    .because(WHY_SCAN_RATE),
    now(
        "rs256",
        "first sight of an RS256 token, CPU added",
        "the same token cached",
        AtMost(25.0, " µs"),
    )
    .because(WHY_RS256),
    now(
        "es256",
        "first sight of an ES256 token, CPU added",
        "the same token cached",
        AtMost(45.0, " µs"),
    )
    .because(WHY_RS256),
    now(
        "eddsa",
        "first sight of an EdDSA token, CPU added",
        "the same token cached",
        AtMost(135.0, " µs"),
    )
    .because(WHY_EDDSA),
    now(
        "flood",
        "a flood of bad tokens",
        "a flood of requests without one",
        AtMost(3.0, "×"),
    )
    .because(WHY_FLOOD),
    now(
        "clients",
        "10 → 100,000 clients, CPU a request",
        ITSELF,
        AtMost(1.2, "×"),
    ),
    now(
        "keys",
        "10 → 100,000 keys, CPU a request",
        ITSELF,
        AtMost(1.2, "×"),
    ),
    now(
        "client-bytes",
        "memory a client in each further worker, 100,000 clients",
        ALONE,
        AtMost(300.0, " B"),
    )
    .because(WHY_CLIENT_BYTES),
    now(
        "models",
        "10 → 10,000 models, CPU a request",
        ITSELF,
        AtMost(1.2, "×"),
    ),
    now(
        "grants",
        "10 → 100,000 grants, CPU a request",
        ITSELF,
        AtMost(1.2, "×"),
    ),
    now(
        "sources",
        "memory after a million distinct sources",
        "the same after 10,000",
        AtMost(1.05, "×"),
    ),
    now(
        "memory",
        "memory at 100 clients, one worker",
        "bare Envoy",
        AtMost(50.0, " MiB more"),
    )
    .because(WHY_MEMORY),
    now(
        "http2",
        "gate, 1 KB JSON, API key, HTTP/2",
        "bare Envoy over HTTP/2",
        AtMost(1.25, "×"),
    )
    .because(WHY_KEY),
    now(
        "tls",
        "gate, 1 KB JSON, API key, TLS",
        "bare Envoy with TLS",
        AtMost(1.25, "×"),
    )
    .because(WHY_KEY),
    now(
        "two-workers",
        "gate, 1 KB JSON, API key, two workers",
        "bare Envoy with two workers",
        AtMost(1.25, "×"),
    )
    .because(WHY_KEY),
    now(
        "reload",
        "a new policy in force, under load",
        ALONE,
        AtMost(100.0, " ms"),
    ),
    now(
        "reload-failed",
        "valid requests that fail meanwhile",
        ALONE,
        AtMost(0.0, ""),
    ),
    now(
        "instance-p50",
        "a fresh instance of a Rust handler, p50",
        ALONE,
        AtMost(8.0, " µs"),
    )
    .because(WHY_INSTANCE),
    now(
        "instance-p99",
        "a fresh instance of a Rust handler, p99",
        ALONE,
        AtMost(40.0, " µs"),
    )
    .because(WHY_INSTANCE),
    now(
        "handler",
        "a whole call on a fresh instance, 224×224×3 to FP32 NCHW, metered",
        "the same code native",
        AtMost(2.5, "×"),
    )
    .because(WHY_HANDLER),
    now(
        "kserve",
        "a request with that handler, gRPC to gRPC, CPU of the host",
        "CPU of a KServe transformer",
        AtMost(0.25, "×"),
    )
    .because(WHY_TRANSFORM),
    now(
        "triton",
        "the same",
        "CPU of a Triton Python-backend ensemble",
        AtMost(0.45, "×"),
    )
    .because(WHY_TRANSFORM),
    now("mlserver", "the same", "CPU of MLServer", AtMost(0.1, "×")).because(WHY_TRANSFORM),
    now(
        "host-memory-kserve",
        "memory of the host, 64 requests at once",
        "the KServe transformer",
        AtMost(0.3, "×"),
    ),
    now(
        "host-memory-triton",
        "the same",
        "the Triton ensemble",
        AtMost(0.3, "×"),
    ),
    now(
        "host-memory-mlserver",
        "the same",
        "MLServer",
        AtMost(0.3, "×"),
    ),
    now(
        "pass-1k",
        "pass-through model, 1 KB, CPU of the host",
        "CPU of a bare Envoy hop to the same backend",
        AtMost(1.5, "×"),
    )
    .because(WHY_PASS_1K),
    now(
        "pass-600k",
        "pass-through model, 600 KB, CPU of the host",
        "CPU of a bare Envoy hop to the same backend",
        AtMost(2.0, "×"),
    ),
    now(
        "runaway",
        "stopping a runaway handler, after its deadline",
        ALONE,
        AtMost(2.0, " ms"),
    ),
    now(
        "neighbour",
        "p99 of a handler's neighbours while one loops",
        "their quiet p99",
        AtMost(2.0, "×"),
    )
    .because(WHY_NEIGHBOUR),
    now(
        "many-models",
        "1 → 1,000 models at the host, CPU a request",
        ITSELF,
        AtMost(1.2, "×"),
    ),
    now(
        "overload",
        "answered in time at twice the load of the knee",
        "the same at the knee",
        AtLeast(0.9, "×"),
    )
    .because(WHY_OVERLOAD),
    later(
        "python-start",
        "a Python handler's start and first call",
        ALONE,
        AtMost(0.8, " ms"),
        "handlers in Python come later",
    ),
    later(
        "js-start",
        "a JavaScript handler's start and first call",
        ALONE,
        AtMost(0.15, " ms"),
        "handlers in JavaScript come later",
    ),
    later(
        "python-nchw",
        "the NCHW job from Python through the tensor kit",
        ALONE,
        AtMost(1.3, " ms"),
        "handlers in Python come later",
    ),
    later(
        "js-nchw",
        "the NCHW job from JavaScript through the tensor kit",
        "the Rust handler",
        AtMost(5.0, "×"),
        "handlers in JavaScript come later",
    ),
    later(
        "manifest",
        "SHA-256 manifests",
        "openssl speed",
        AtLeast(0.8, "×"),
        "artifacts come later",
    ),
    later(
        "scan",
        "scanning model files",
        "picklescan, modelscan",
        AtLeast(20.0, "×"),
        "artifacts come later",
    ),
    later(
        "signature",
        "verifying a 10 GB model's signature, added to hashing it",
        ITSELF,
        AtMost(1.02, "×"),
        "artifacts come later",
    ),
    later(
        "watch",
        "throughput with audit, metrics and watch",
        "without them",
        AtLeast(0.95, "×"),
        "the watch comes later, and audit and metrics have no switch",
    ),
    later(
        "watch-memory",
        "the watch's memory for a client",
        ALONE,
        AtMost(4.0, " KiB"),
        "the watch comes later",
    ),
    later(
        "hostile",
        "generated hostile requests without a wrong answer",
        ALONE,
        AtLeast(1_000_000.0, ""),
        "counted by fuzzing and the attack corpus, not by this",
    ),
    later(
        "crash",
        "recovery after kill -9 of host or backend under load",
        ALONE,
        AtMost(1.0, " s"),
        "belongs to the chaos runs that come later",
    ),
];
