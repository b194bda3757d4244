//! Integration tests of the protocols.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    reason = "tests"
)]

mod agree;
mod binary;
mod common;
mod expand;
mod grpc;
mod grpc_contents;
mod json;
mod json_checked;
mod json_data;
mod json_runs;
mod predict;
mod prost;
mod rate_limit;
mod stream;
mod template;
mod tf_prost;
mod torch;
mod torch_form;
