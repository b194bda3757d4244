//! Integration tests of the scanners.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    missing_docs,
    reason = "tests"
)]

mod bounds;
mod large_files;
mod peak_memory;
