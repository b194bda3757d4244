//! Values and their encodings: tensors, datatypes, JSON, DER, hexadecimal, times, host names, keys,
//! exceptions for files, choices of a policy, alerts, and text that is safe for a terminal.

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
pub(crate) mod hex_keys;
mod host_name;
pub mod json;
mod jwk;
mod model_format;
mod named;
mod published_keys;
pub mod safe_text;
mod shared;
pub mod tensor;
pub mod tensor_data;
pub mod time;
mod unique_members;

pub use alerts::{AlertAction, AlertSeverity, WatchRule};
pub use byte_size::ByteSize;
pub use choices::{
    AuditFailure, BackendKind, CallOutcome, HeaderMode, Health, KeyFormat, KeyType, LookupKind,
    OcsfVersion, Scope, ServiceFailure,
};
pub use code_kind::CodeKind;
pub use file_exception::{ExceptionFault, FileException};
pub use fnv::{FNV_OFFSET, fnv1a};
pub(crate) use getters::getters;
pub use hex::{hex, hex_digits, unhex};
pub use host_name::is_host_name;
pub use jwk::{Jwk, Secret};
pub use model_format::ModelFormat;
pub(crate) use named::named;
pub use published_keys::{KeyEntry, KeyEntryFault, KeySet};
pub use shared::Shared;
pub use unique_members::unique_members;
