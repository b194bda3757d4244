//! Integration tests of the host. One binary, because each one is linked with wasmtime.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    reason = "tests"
)]

mod admin_server;
mod admission;
mod answer_memory;
mod answers;
mod ask_servers;
mod audit;
mod audit_export;
mod backend_faults;
mod backend_tls;
mod blocks;
mod bulkhead;
mod capture;
mod compiled;
mod composition;
mod concurrency;
mod console;
mod containment;
mod context_keys;
mod fault_matrix;
mod fetch;
mod filter_work;
mod gateways;
mod generations;
mod guardrail;
mod handler_breaker;
mod handler_memory;
mod handler_request;
mod hardened;
mod hostile_answers;
mod http_json;
mod kept_connections;
mod killed;
mod limits;
mod load;
mod lookup;
mod members;
mod model_artifacts;
mod normalise;
mod openai;
mod openai_screening;
mod openai_settled;
mod pool;
mod process;
mod released;
mod releases;
mod served;
mod shared_limits;
mod signature;
mod signed;
mod slow_network;
mod soak;
mod status;
mod stream_ends;
mod stream_messages;
mod support;
mod template;
mod text;
mod tf_serving;
mod torchserve;
mod traces;
mod wall;
mod watch;
mod webhook;
mod workload_api;
