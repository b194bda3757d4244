//! What the end-to-end tests stand on: a whole gate as processes ([`Stack`]), a stand-in for the inference server behind it
//! ([`backend`]), the documentation's pages ([`book`]), vectors over a socket ([`ask`]), and the comparison of an answer with what a vector expects ([`verdict`]). Decides
//! nothing about requests.
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
pub mod book;
pub mod held;
#[path = "../../../sandbox-host/tests/it/support/openai.rs"]
pub mod openai;
pub mod policy;
pub mod programs;
pub mod rls;
pub mod several;
pub mod stack;
pub mod streams;
pub mod verdict;

pub use stack::{Setup, Stack};
