//! Anomaly rules on the audit stream: they report what differs from the usual. They deny nothing,
//! unless the policy has alerts about a client block it (`respond`).
//!
//! The [`tap`] receives the records that the audit log has written and hands a summary of each
//! ([`Observation`]) to a thread of its own. There a [`Monitor`] runs every rule of `rules` and
//! returns [`Alert`]s, which are counted, logged and recorded ([`report`]). The gate's own state
//! has alerts, too ([`gate_alerts`]). A rule is a state machine over observations, with the time as
//! an argument. It reads no clock and keeps only summaries, never inputs.
//!
//! Memory is bounded: each rule keeps state for a fixed number of clients, sources or models
//! (`table`). Those beyond it share one state, so an attacker with many sources cannot displace
//! the state of others, and cannot hide either.

// A new variant of an enum must be decided in each `match` of the enum.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

pub mod alert;
mod alert_budget;
mod baseline;
pub mod blocks;
pub mod conditions;
mod failed_rules;
pub mod gate_alerts;
pub mod gate_status;
mod join;
mod lasting;
pub mod learned_file;
mod learning;
mod levels;
mod management_path;
pub mod monitor;
pub mod observation;
pub mod recent_buckets;
pub mod recent_outcomes;
pub mod report;
pub mod respond;
mod rules;
mod saved;
pub mod settings;
mod table;
pub mod tap;
pub mod time;
pub mod webhook;
mod window;

pub use alert::Alert;
pub use monitor::Monitor;
pub use observation::Observation;

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod day;
#[cfg(test)]
mod evaluation;
#[cfg(test)]
mod tests;
