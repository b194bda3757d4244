//! The real program, on small models that are written here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

mod program;
mod public_files;
mod scan;
mod serve_verified;
mod signing;
