//! The pure core of tensorgate: policies and decisions.
//!
//! A [`Policy`] is loaded from its compiled form ([`Compiled`]); facts about one request go through
//! the steps of a [`Decision`]. Nothing here reads a clock, a file or a socket: time is an argument
//! ([`Now`]), and effects (a charge, a response) are plain data that a driver executes.
#![no_std]
#![forbid(unsafe_code)]
// A new variant of an enum must be decided in each `match` of the enum.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

extern crate alloc;

pub mod compiled;
pub mod contract;
pub mod decision;
pub mod denial;
#[cfg(test)]
mod fixture;
pub mod issuer_keys;
pub mod limits;
pub mod policy;
pub mod report;
pub mod request;

pub use compiled::{
    Compiled, FilterConfiguration, FilterConfigurationFault, FilterTarget, HostTarget, LoadFault,
    Target,
};
pub use decision::{Charge, ChargeOutcome, Decision, Step, global};
pub use denial::{Denial, Reason};
pub use limits::{budget, circuit_breaker, gcra, in_flight, lockout};
pub use policy::{Policy, address, release};
pub use request::{Credential, Head, Operation, Protocol, RequestHash, Route};
pub use smol_str::{SmolStr, format_smolstr};
pub use tensorgate_values as values;
pub use values::{
    CodeKind, Datatype, Fault, FileException, HeaderMode, InferRequest, ModelFormat, Now, Severity,
    Tensor, TensorData, datatype, fault, hex, hex_digits, json, tensor, tensor_data, time, unhex,
};
