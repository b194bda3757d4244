//! Integration tests of the filters in the in-memory proxy.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod allocations;
mod bodies;
mod body_streaming;
mod buckets;
mod chains;
mod configuration;
mod costs;
mod forwarding;
mod heads;
mod host_calls;
mod host_release;
mod judged_bodies;
mod key_locations;
mod keys;
mod late_worker;
mod lingering;
mod lockout;
mod lockout_sources;
mod log_quotas;
mod noise;
mod outages;
mod outcomes;
mod permits;
mod policies;
mod proofs;
mod readiness;
mod shared_limits;
mod shares;
mod slots;
mod streams;
mod support;
mod uncharged;
