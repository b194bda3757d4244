//! Compares answers with what decision vectors expect.
//!
//! The tests of this crate play every vector through the filters in memory and through the host's
//! own decision. The end-to-end tests play them through a real Envoy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "test support: a failure here is a failed test and says where"
)]

pub mod streams;
pub mod verdict;
