//! The orders of the modules of the four crates that each request passes through, lowest first.
//! The module `modules` checks them.

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
        "traces",
        "backends",
        "egress",
        "dispatch",
        "counters",
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

pub(crate) const POLICY: Crate = Crate {
    source: "policy/src",
    order: &[
        "limits",
        "request",
        "denial",
        "contract",
        "report",
        "policy",
        "issuer_keys",
        "compiled",
        "decision",
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
    ],
    for_tests: &[],
    section: "## The filter's crate",
};

const WIRE: Crate = Crate {
    source: "wire/src",
    order: &[
        "limits",
        "request_id",
        "trace_context",
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
        "readiness",
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

pub(crate) const CRATES: [Crate; 4] = [HOST, POLICY, FILTERS, WIRE];
