//! Support for the end-to-end tests. It decides nothing about requests.
//!
//! - [`Stack`] is a whole gate as processes
//! - [`backend`] is a stand-in for the inference server behind it
//! - [`ask`] sends vectors over a socket
//! - `tensorgate_conformance::verdict` compares an answer with what a vector expects
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "test support: a failure here is a failed test and says where"
)]

pub mod ask;
pub mod backend;
pub mod held;
pub mod policy;
pub mod programs;
pub mod rls;
pub mod several;
pub mod stack;

pub use tensorgate_conformance::{streams, verdict};

pub use stack::{Lease, Setup, Stack};
