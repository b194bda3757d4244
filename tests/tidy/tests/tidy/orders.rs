//! The orders of the modules of the larger crates, lowest first. The module `modules` checks them.

/// A crate whose modules have an order.
pub(crate) struct Crate {
    pub(crate) source: &'static str,
    /// Its modules, lowest first. A module refers to modules before it.
    pub(crate) order: &'static [&'static str],
    /// Modules that only tests use. They may refer to each module, and tests to them.
    pub(crate) for_tests: &'static [&'static str],
    /// The section of the page of modules that shows the order.
    pub(crate) section: &'static str,
}

pub(crate) const HOST: Crate = Crate {
    source: "sandbox-host/src",
    order: &[
        "server",
        "admission",
        "backends",
        "egress",
        "dispatch",
        "pipeline",
        "config",
        "policy_store",
        "service",
        // Starts all others.
        "host",
    ],
    for_tests: &[],
    section: "## The host",
};

const VERIFIED_MODELS: Crate = Crate {
    source: "sandbox-host/verified-models/src",
    order: &[
        "status",
        "endpoint_loads",
        "load_state",
        "servers",
        "retry",
        "first_digests",
        "trust",
<<<<<<< HEAD
        "acceptance",
=======
        "beside",
>>>>>>> 25fce574 (model scan: names of the field for what is scanned)
        "check",
        "confirmations",
        "check_turns",
        "registry",
        "reporter",
        "threads",
    ],
    for_tests: &[],
    section: "## Verified models",
};

const BASE: Crate = Crate {
    source: "sandbox-host/base/src",
    order: &[
        "circuit",
        "client_key",
        "egress_log",
        "files",
        "grpc_timeout",
        "guard",
        "heap",
        "owned",
        "payload",
        "renewed",
        "rfc3339",
        "unix_time",
        "secret_file",
        "shares",
        "turns",
        "memory_budget",
    ],
    for_tests: &[],
    section: "## What the host is built from",
};

const SANDBOX: Crate = Crate {
    source: "sandbox-host/sandbox/src",
    order: &[
        "bindings",
        "error",
        "fixed_limits",
        "outcome",
        "resources",
        "breaker",
        "engine",
        "guest_log",
        "job_handle",
        "limits",
        "priority",
        "structure",
        "tensors",
        "finished_call",
        "handler_queue",
        "low_priority",
        "ticker",
        "capabilities",
        "capture",
        "pool",
        "caller",
        "call_state",
        "cause",
        "component_cache",
        "imports",
        "compile",
        "load",
        "call",
        "call_history",
    ],
    for_tests: &[],
    section: "## The sandbox",
};

const AUDIT: Crate = Crate {
    source: "sandbox-host/audit/src",
    order: &[
        "envoy_reply",
        "key",
        "sequence",
        "record",
        "als",
        "line",
        "listener",
        "files",
        "recover",
        "verify",
        "writer",
        "export",
        "outcomes",
        "access_log_service",
        "ending",
    ],
    for_tests: &[],
    section: "## The audit log",
};

const WATCH: Crate = Crate {
    source: "sandbox-host/watch/src",
    order: &[
        "baseline",
        "failed_rules",
        "management_path",
        "time",
        "observation",
        "table",
        "window",
        "alert",
        "blocks",
        "report",
        "rules",
        "monitor",
        "respond",
        "webhook",
        "tap",
    ],
    for_tests: &["attacks", "day", "tests"],
    section: "## The anomaly rules",
};

pub(crate) const POLICY: Crate = Crate {
    source: "policy/src",
    order: &[
        "values", "limits", "request", "denial", "raw", "contract", "policy", "decision",
        "validate",
    ],
    for_tests: &["fixture"],
    section: "## The policy crate",
};

const FILTERS: Crate = Crate {
    source: "filters/core/src",
    order: &[
        "filter",
        "host",
        "body",
        "store",
        "quota",
        "keys",
        "root",
        "steps",
        "report",
        "identify",
        "upstream",
        "message_stream",
        "gate",
        "sdk",
    ],
    for_tests: &[],
    section: "## The filter's crate",
};

const WIRE: Crate = Crate {
    source: "wire/src",
    order: &[
        "limits",
        "fault",
        "raw_contents",
        "parameters",
        "percent",
        "unserved",
        "route",
        "credential",
        "headers",
        "signature",
        "stream_event",
        "json",
        "torch",
        "grpc",
        "multipart",
        "json_text",
        "answer",
        "context",
        "settlement",
        "rate_limit",
        "messages",
        "decode",
        "stream",
        "expand",
        "proto",
        "tensorflow",
        "openai",
        "encode",
        "owned",
        "template",
        "upstream",
    ],
    for_tests: &[],
    section: "## The protocol crate",
};

const IDENTITY: Crate = Crate {
    source: "identity/src",
    order: &[
        "attempts",
        "der",
        "json",
        "key_sets",
        "verifier",
        "x509",
        "xfcc",
        "claim_headers",
        "jws",
        "pure",
        "cache",
        "evidence",
        "api_key",
        "certificates",
        "token",
        "identifier",
    ],
    for_tests: &["tests"],
    section: "## The identity crate",
};

const ARTIFACT: Crate = Crate {
    source: "artifact/src",
    order: &[
        "key",
        "signature_fault",
        "envelope",
        "component",
        "model_signing",
        "scan",
        "capture",
    ],
    for_tests: &[],
    section: "## The artifact crate",
};

const COMMON: Crate = Crate {
    source: "cli/common/src",
    order: &[
        "arguments",
        "bounded_file",
        "command_tree",
        "oci_layout",
        "private_dir",
        "user_folders",
        "load_error",
        "failure",
        "clock",
        "policy_file",
        "replace",
        "state_folder",
        "ui",
    ],
    for_tests: &[],
    section: "## What the commands share",
};

const COMMAND: Crate = Crate {
    source: "cli/src",
    order: &[
        "chain",
        "components",
        "duration",
        "image",
        "model_artifacts",
        "programs",
        "public_address",
        "similar_name",
        "tighten",
        "certificates",
        "render",
        "files",
        "message",
        "stack",
        "verbs",
    ],
    for_tests: &[],
    section: "## The command",
};

const GUEST: Crate = Crate {
    source: "wit/guest/src",
    order: &[
        "arena",
        "bindings",
        "bytes",
        "element",
        "error",
        "tensor",
        "testing",
        "configured",
        "fetch",
        "host",
        "lookup",
        "export",
    ],
    for_tests: &[],
    section: "## The handler library",
};

const COMPONENTIZE: Crate = Crate {
    source: "wit/componentize/src",
    order: &[
        "filler", "imports", "options", "parts", "blocks", "compose", "fuse",
    ],
    for_tests: &[],
    section: "## Components from modules",
};

const KIT: Crate = Crate {
    source: "wit/kit/src",
    order: &[
        "datatype",
        "failure",
        "operator",
        "buffer",
        "lanes",
        "array",
        "arithmetic",
        "blocks",
        "image",
        "moves",
        "planes",
        "reduce",
        "resize",
        "sound",
        "unary",
        "boxes",
        "component",
    ],
    for_tests: &[],
    section: "## The tensor kit",
};

const WORKBENCH: Crate = Crate {
    source: "wit/workbench/src",
    order: &[
        "build_cache",
        "build_error",
        "compare",
        "copy",
        "handler_image",
        "initialise",
        "pin",
        "project",
        "case",
        "configure",
        "kit",
        "template",
        "case_resources",
        "tools",
        "watch",
        "contract",
        "runner",
        "build",
        "verbs",
    ],
    for_tests: &[],
    section: "## The workbench for handlers",
};

pub(crate) const CRATES: [Crate; 17] = [
    HOST,
    VERIFIED_MODELS,
    BASE,
    SANDBOX,
    AUDIT,
    WATCH,
    POLICY,
    FILTERS,
    WIRE,
    IDENTITY,
    ARTIFACT,
    COMMON,
    COMMAND,
    GUEST,
    COMPONENTIZE,
    KIT,
    WORKBENCH,
];
