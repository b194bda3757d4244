//! Values and their encodings: tensors, datatypes, JSON, DER, hexadecimal, times, host names,
//! SPIFFE IDs, keys, exceptions for files, choices of a policy, alerts, and text that is safe for a
//! terminal.
#![no_std]
#![forbid(unsafe_code)]
// A new variant of an enum must be decided in each `match` of the enum.
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

extern crate alloc;

mod alerts;
mod byte_size;
mod choices;
mod code_kind;
pub mod datatype;
pub mod der;
pub mod fault;
mod file_exception;
mod fnv;
mod getters;
mod hex;
pub mod hex_keys;
mod host_name;
pub mod json;
mod jwk;
mod model_format;
mod named;
mod published_keys;
pub mod safe_text;
mod shared;
pub mod spiffe;
pub mod tensor;
pub mod tensor_data;
pub mod time;
mod unique_members;

pub use alerts::{AlertAction, AlertSeverity, WatchRule};
pub use byte_size::ByteSize;
pub use choices::{
    AuditFailure, BackendKind, CallOutcome, ConnectionSharing, HeaderMode, Health, KeyFormat,
    KeyType, LookupKind, OcsfVersion, Scope, ServiceFailure,
};
pub use code_kind::CodeKind;
pub use datatype::Datatype;
pub use fault::{Fault, Severity};
pub use file_exception::{ExceptionFault, FileException, FileExceptions};
pub use fnv::{FNV_OFFSET, fnv1a};
pub use hex::{hex, hex_digits, unhex};
pub use host_name::is_host_name;
pub use jwk::{Jwk, Secret};
pub use model_format::ModelFormat;
pub use published_keys::{KeyEntry, KeyEntryFault, KeySet};
pub use shared::Shared;
pub use tensor::{InferRequest, Tensor};
pub use tensor_data::TensorData;
pub use time::Now;
pub use unique_members::unique_members;
