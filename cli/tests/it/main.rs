//! The real binary, on real files, with the real Envoy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

mod alerts;
mod alike;
mod audit;
mod block;
mod check;
mod compiled;
mod composition;
mod diff;
mod explain;
mod files;
mod handler;
mod held;
mod hold;
mod image;
mod import;
mod init;
mod issuer;
mod keys;
mod model_artifacts;
mod policy_file;
mod program;
mod proofs;
mod public_inputs;
mod readiness;
mod reload;
mod render;
mod restarts;
mod schema;
mod status;
mod up;
