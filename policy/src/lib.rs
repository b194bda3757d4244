//! The pure core of tensorgate: policies and decisions.
//!
//! Raw configuration ([`raw`]) becomes a validated [`Policy`]; facts about one request go through
//! the steps of a [`Decision`]. Nothing here reads a clock, a file or a socket: time is an argument
//! ([`Now`]), and effects (a charge, a response) are plain data that a driver executes.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod address;
pub mod budget;
pub mod bundle;
pub mod contract;
pub mod datatype;
pub mod decision;
pub mod denial;
pub mod fault;
#[cfg(test)]
mod fixture;
pub mod gcra;
pub mod global;
mod hex;
mod host_name;
pub mod in_flight;
pub mod json;
pub mod lockout;
pub mod policy;
pub mod raw;
pub mod release;
pub mod request;
pub mod request_hash;
pub mod tensor;
pub mod time;
pub mod validate;

pub use bundle::{Bundle, FilterConfiguration, HeaderMode};
pub use datatype::Datatype;
pub use decision::{Charge, ChargeOutcome, Decision, Step};
pub use denial::{Denial, Reason};
pub use fault::{Fault, Severity};
pub use hex::{hex, unhex};
pub use policy::Policy;
pub use request::{Credential, Head, Operation, Protocol, Route};
pub use request_hash::RequestHash;
pub use tensor::{InferRequest, Tensor};
pub use time::Now;
