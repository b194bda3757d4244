//! Every decision vector in memory. The vectors are read once, and each policy is parsed once for
//! each filter and header mode.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

mod callers;
mod filters;
mod host;
mod pair;
mod verdicts;

use std::sync::LazyLock;

use tensorgate_vectors::{Lowered, load};

/// All vectors.
static VECTORS: LazyLock<Vec<Lowered>> =
    LazyLock::new(|| load().unwrap_or_else(|fault| panic!("{fault}")));
