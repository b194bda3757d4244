//! End-to-end tests on a real Envoy. One binary, because each one is linked with every dependency.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod audit;
mod binary;
mod certificates;
mod conformance_envoy;
mod ensembles;
mod forged;
mod global;
mod guardrails;
mod headers;
mod hostile;
mod infer_decoupled;
mod infer_stream;
mod judged_bodies;
mod jwks;
mod large;
mod lifecycle;
mod limits;
mod meshes;
mod module;
mod mutated;
mod no_leaks;
mod places;
mod projects;
mod readme;
mod reload;
mod replies;
mod rollout;
mod settled;
mod shared;
mod slow_clients;
mod soak;
mod stream_ends;
mod streams;
mod tls;
