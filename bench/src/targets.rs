//! The targets that figures must reach.

mod why;

/// A bound on a figure, with its unit.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// No more.
    AtMost(f64, &'static str),
    /// No less.
    AtLeast(f64, &'static str),
}

/// Whether a target can be measured yet.
#[derive(Clone, Copy, Debug)]
pub enum State {
    /// A scenario measures it.
    Now,
    /// The feature does not exist yet.
    Later(&'static str),
}

/// One target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name in scenarios.
    pub id: &'static str,
    /// The work that is measured.
    pub work: &'static str,
    /// The baseline.
    pub against: &'static str,
    /// The required bound.
    pub bound: Bound,
    /// Whether it can be measured yet.
    pub state: State,
    /// Why the target is missed, and what would help.
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
    /// The same target with a note on why it is missed.
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

/// All targets.
pub const TARGETS: &[Target] = &[
    now("key", "gate, 1 KB JSON, API key", BARE, AtMost(1.25, "×")).because(why::KEY),
    now(
        "module",
        "gate as native module, 1 KB JSON, API key",
        BARE,
        AtMost(1.20, "×"),
    )
    .because(why::MODULE),
    now(
        "jwt",
        "gate, 1 KB JSON, cached token",
        BARE,
        AtMost(1.30, "×"),
    )
    .because(why::KEY),
    now(
        "native",
        "gate with a cached token, CPU added",
        "CPU that jwt_authn (cached) + local_ratelimit + rbac add, reading no body",
        AtMost(1.1, "×"),
    )
    .because(why::KEY),
    now(
        "ext-authz",
        "gate with an API key, CPU added",
        "CPU that ext_authz with a no-op service adds",
        AtMost(0.5, "×"),
    )
    .because(why::KEY),
    now(
        "ext-proc",
        "gate with an API key, CPU added",
        "CPU that ext_proc with a no-op service adds",
        AtMost(1.0 / 3.0, "×"),
    )
    .because(why::KEY),
    now(
        "binary-600k",
        "gate, 600 KB FP32, REST binary",
        BARE,
        AtMost(1.20, "×"),
    )
    .because(why::BINARY_600K),
    now(
        "module-binary-600k",
        "gate as native module, 600 KB FP32, REST binary",
        BARE,
        AtMost(1.05, "×"),
    )
    .because(why::MODULE),
    now(
        "grpc-600k",
        "gate, 600 KB FP32, gRPC",
        BARE,
        AtMost(1.20, "×"),
    )
    .because(why::BINARY_600K),
    now(
        "ext-proc-600k",
        "gate, 600 KB FP32 over gRPC, CPU added",
        "CPU that ext_proc with a no-op service adds",
        AtMost(0.125, "×"),
    )
    .because(why::BINARY_600K),
    now(
        "binary-8m",
        "gate, 8 MB FP32, REST binary",
        BARE,
        AtMost(1.15, "×"),
    )
    .because(why::BINARY_600K),
    now("grpc-8m", "gate, 8 MB FP32, gRPC", BARE, AtMost(1.15, "×")).because(why::BINARY_600K),
    now(
        "streamed-binary",
        "gate, 256 MiB FP32 streamed, REST binary",
        BARE,
        AtMost(1.15, "×"),
    )
    .because(why::STREAMED),
    now(
        "streamed-grpc",
        "gate, 256 MiB FP32 streamed, gRPC",
        BARE,
        AtMost(1.15, "×"),
    )
    .because(why::STREAMED),
    now(
        "streamed-memory",
        "extra memory of Envoy with the gate while 256 MiB are streamed",
        "itself before",
        AtMost(16.0, " MiB more"),
    )
    .because(why::STREAMED),
    now(
        "module-json-575k",
        "gate as native module, 575 KB of JSON floats",
        BARE,
        AtMost(1.6, "×"),
    )
    .because(why::MODULE),
    now(
        "json-575k",
        "gate, 575 KB of JSON floats",
        BARE,
        AtMost(2.5, "×"),
    )
    .because(why::JSON_575K),
    now(
        "json-rate",
        "reading JSON floats in the filter",
        ALONE,
        AtLeast(1.2, " GB/s"),
    )
    .because(why::JSON_575K),
    now(
        "scan-rate",
        "finite and range checks of FP32 in the filter",
        ALONE,
        AtLeast(40.0, " GB/s"),
    )
    .because(why::SCAN_RATE),
    now(
        "rs256",
        "a new RS256 token, CPU added",
        "the same token cached",
        AtMost(25.0, " µs"),
    )
    .because(why::RS256),
    now(
        "es256",
        "a new ES256 token, CPU added",
        "the same token cached",
        AtMost(45.0, " µs"),
    )
    .because(why::RS256),
    now(
        "eddsa",
        "a new EdDSA token, CPU added",
        "the same token cached",
        AtMost(135.0, " µs"),
    )
    .because(why::EDDSA),
    now(
        "foreign-rs256",
        "a new RS256 token verified by Envoy's `verify_signature`, CPU added",
        "the same verified in the VM",
        AtMost(1.0, "×"),
    ),
    now(
        "foreign-es256",
        "a new ES256 token verified by Envoy's `verify_signature`, CPU added",
        "the same verified in the VM",
        AtMost(1.0, "×"),
    ),
    now(
        "flood",
        "a flood of invalid tokens",
        "a flood of requests without a token",
        AtMost(3.0, "×"),
    )
    .because(why::FLOOD),
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
    .because(why::CLIENT_BYTES),
    now(
        "models",
        "10 → 100,000 models, CPU a request",
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
    .because(why::MEMORY),
    now(
        "http2",
        "gate, 1 KB JSON, API key, HTTP/2",
        "bare Envoy over HTTP/2",
        AtMost(1.25, "×"),
    )
    .because(why::KEY),
    now(
        "tls",
        "gate, 1 KB JSON, API key, TLS",
        "bare Envoy with TLS",
        AtMost(1.25, "×"),
    )
    .because(why::KEY),
    now(
        "two-workers",
        "gate, 1 KB JSON, API key, two workers",
        "bare Envoy with two workers",
        AtMost(1.25, "×"),
    )
    .because(why::KEY),
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
        "a fresh instance of a Rust handler without WASI, p50",
        ALONE,
        AtMost(8.0, " µs"),
    )
    .because(why::INSTANCE),
    now(
        "instance-p99",
        "a fresh instance of a Rust handler without WASI, p99",
        ALONE,
        AtMost(40.0, " µs"),
    )
    .because(why::INSTANCE),
    now(
        "handler",
        "a whole call on a fresh instance, 224×224×3 to FP32 NCHW, metered",
        "the same code native",
        AtMost(2.0, "×"),
    )
    .because(why::HANDLER),
    now(
        "kserve",
        "a request with that handler, gRPC to gRPC, CPU of the host",
        "CPU of a KServe transformer",
        AtMost(0.25, "×"),
    )
    .because(why::TRANSFORM),
    now(
        "kserve-python",
        "a request with a handler in Python, gRPC to gRPC, CPU of the host",
        "CPU of a KServe transformer with the same lines of numpy",
        AtMost(0.8, "×"),
    )
    .because(why::PYTHON_TASK),
    now(
        "triton",
        "a request with that handler, gRPC to gRPC, CPU of the host",
        "CPU of a Triton Python-backend ensemble",
        AtMost(0.45, "×"),
    )
    .because(why::TRANSFORM),
    now(
        "mlserver",
        "a request with that handler, gRPC to gRPC, CPU of the host",
        "CPU of MLServer",
        AtMost(0.1, "×"),
    )
    .because(why::TRANSFORM),
    now(
        "host-memory-kserve",
        "memory of the host, 64 concurrent requests",
        "the KServe transformer",
        AtMost(0.3, "×"),
    ),
    now(
        "host-memory-triton",
        "memory of the host, 64 concurrent requests",
        "the Triton ensemble",
        AtMost(0.3, "×"),
    ),
    now(
        "host-memory-mlserver",
        "memory of the host, 64 concurrent requests",
        "MLServer",
        AtMost(0.3, "×"),
    ),
    now(
        "pass-1k",
        "pass-through model, 1 KB, CPU of the host",
        "CPU of a bare Envoy hop to the same backend",
        AtMost(1.5, "×"),
    )
    .because(why::PASS_1K),
    now(
        "pass-600k",
        "pass-through model, 600 KB, CPU of the host",
        "CPU of a bare Envoy hop to the same backend",
        AtMost(2.0, "×"),
    ),
    now(
        "host-buffering",
        "peak memory of the host with four concurrent bodies of 256 MiB",
        "`limits.buffered_bytes`",
        AtMost(1.0, "×"),
    )
    .because(why::HOST_BUFFERING),
    now(
        "runaway",
        "stopping a runaway handler, after its deadline",
        ALONE,
        AtMost(2.0, " ms"),
    ),
    now(
        "neighbour",
        "p99 of a handler beside a hostile one, worst case",
        "its p99 alone",
        AtMost(2.0, "×"),
    )
    .because(why::NEIGHBOUR),
    now(
        "many-models",
        "1 → 1,000 models at the host, CPU a request",
        ITSELF,
        AtMost(1.2, "×"),
    ),
    now(
        "overload",
        "good responses at twice the full load",
        "the same at full load",
        AtLeast(0.9, "×"),
    )
    .because(why::OVERLOAD),
    now(
        "overload-given-up",
        "requests a second without a response in time at twice the full load",
        ALONE,
        AtMost(0.0, " a second"),
    )
    .because(why::OVERLOAD),
    now(
        "python-start",
        "an empty handler in Python, a whole call on a fresh instance, p50",
        ALONE,
        AtMost(0.8, " ms"),
    )
    .because(why::PYTHON_START),
    now(
        "js-start",
        "a JavaScript handler's start and first call",
        ALONE,
        AtMost(0.15, " ms"),
    )
    .because(why::JS_START),
    now(
        "python-nchw",
        "the NCHW task in Python with numpy, a whole call on a fresh instance, p50",
        ALONE,
        AtMost(1.5, " ms"),
    )
    .because(why::PYTHON_TASK),
    now(
        "python-scaler",
        "256 rows with pandas and a scaler of scikit-learn, a whole call on a fresh instance",
        "the same file in CPython, again and again",
        AtMost(5.0, "×"),
    )
    .because(why::PYTHON_TASK),
    now(
        "python-table",
        "256 rows with pandas and a pipeline of scikit-learn, a whole call on a fresh instance",
        "the same file in CPython, again and again",
        AtMost(5.0, "×"),
    )
    .because(why::PYTHON_TASK),
    now(
        "python-mel",
        "a mel spectrogram with numpy, a whole call on a fresh instance",
        "the same file in CPython, again and again",
        AtMost(5.0, "×"),
    )
    .because(why::PYTHON_TASK),
    now(
        "python-memory",
        "memory that a call touches, the most of three handlers with numpy alone",
        ALONE,
        AtMost(24.0, " MiB"),
    ),
    now(
        "js-nchw",
        "the NCHW task in JavaScript with the tensor kit",
        "the Rust handler",
        AtMost(3.0, "×"),
    )
    .because(why::KIT_JOB),
    now(
        "edit-python",
        "an edit of a handler in Python, until it answers at `up --dev`",
        ALONE,
        AtMost(2.0, " s"),
    ),
    now(
        "edit-pandas",
        "the same with pandas and scikit-learn",
        ALONE,
        AtMost(2.0, " s"),
    ),
    now(
        "edit-js",
        "an edit of a handler in JavaScript, until it answers at `up --dev`",
        ALONE,
        AtMost(2.0, " s"),
    ),
    now(
        "edit-rust",
        "an edit of a handler in Rust, until it answers at `up --dev`",
        ALONE,
        AtMost(5.0, " s"),
    ),
    now(
        "handler-test",
        "`handler test` of a component that was tested before, the slowest language",
        ALONE,
        AtMost(0.5, " s"),
    ),
    now(
        "guardrail-call",
        "a handler's call for 10 KB at a guardrail, p99",
        ALONE,
        AtMost(1.0, " ms"),
    ),
    now(
        "guardrail-request",
        "`POST /analyze` with 10 KB at gate and host, p99",
        ALONE,
        AtMost(1.0, " ms"),
    ),
    later(
        "manifest",
        "SHA-256 manifests",
        "openssl speed",
        AtLeast(0.8, "×"),
        "measured by `make bench-signing`, see bench/signing.md",
    ),
    later(
        "scan",
        "scanning model files",
        "picklescan, modelscan",
        AtLeast(20.0, "×"),
        "measured by `make bench-scan`, see bench/scan.md",
    ),
    later(
        "signature",
        "verifying a 10 GB model's signature, added to hashing it",
        ITSELF,
        AtMost(1.02, "×"),
        "measured by `make bench-signing`, see bench/signing.md",
    ),
    now(
        "watch",
        "host, 1 KB over gRPC, throughput with all anomaly rules and an export of the audit log",
        "without both",
        AtLeast(0.95, "×"),
    ),
    now(
        "watch-cost",
        "a request in all anomaly rules, with its summary",
        ALONE,
        AtMost(2.0, " µs"),
    ),
    now(
        "watch-memory",
        "memory of all anomaly rules for a client",
        ALONE,
        AtMost(4.0, " KiB"),
    ),
    now(
        "console-cost",
        "a request in what the console keeps",
        ALONE,
        AtMost(2.0, " µs"),
    ),
    now(
        "console",
        "host, 1 KB over gRPC, throughput while 64 browsers show the console",
        "without readers",
        AtLeast(0.97, "×"),
    ),
    later(
        "hostile",
        "generated hostile requests without a wrong response",
        ALONE,
        AtLeast(1_000_000.0, ""),
        "counted by fuzzing and the attack corpus, not by the bench",
    ),
    later(
        "crash",
        "recovery after kill -9 of host or backend under load",
        ALONE,
        AtMost(1.0, " s"),
        "part of the chaos runs, which do not exist yet",
    ),
];
