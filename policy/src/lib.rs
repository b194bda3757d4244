//! The pure core of tensorgate: policies and decisions.
//!
//! Raw configuration ([`raw`]) becomes a validated [`Policy`]; facts about one request go through
//! the steps of a [`Decision`]. Nothing here reads a clock, a file or a socket: time is an argument
//! ([`Now`]), and effects (a charge, a response) are plain data that a driver executes.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod compile;
pub mod compiled;
pub mod contract;
pub mod decision;
pub mod denial;
#[cfg(test)]
mod fixture;
pub mod limits;
pub mod policy;
pub mod raw;
pub mod request;
pub mod validate;
pub mod values;

pub use compile::compile_for_filter;
pub use compiled::{Compiled, FilterConfiguration, FilterConfigurationFault, LoadFault};
pub use decision::{Charge, ChargeOutcome, Decision, Step, global};
pub use denial::{Denial, Reason};
pub use limits::{budget, circuit_breaker, gcra, in_flight, lockout};
pub use policy::{Policy, address, release};
pub use raw::bundle::{self, Bundle};
pub use request::{Credential, Head, Operation, Protocol, RequestHash, Route};
pub use values::datatype::{self, Datatype};
pub use values::fault::{self, Fault, Severity};
pub use values::tensor::{self, InferRequest, Tensor};
pub use values::tensor_data::{self, TensorData};
pub use values::time::{self, Now};
pub use values::{CodeKind, FileException, HeaderMode, ModelFormat, hex, json, unhex};
