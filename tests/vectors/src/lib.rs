//! The decision vectors of `policy/vectors` as concrete requests, for every driver.
//!
//! This crate loads each file, rejects what the vectors' README does not describe, and lowers a
//! case into one request for every spelling it names. Its encoders share no code with the decoders
//! under test, so that a mistake in one does not hide a mistake in the other. It decides nothing
//! and sends nothing.

pub mod alone;
mod coding;
mod file;
mod json;
mod load;
mod lower;
mod protobuf;
mod request;
pub mod sign;
mod template;
#[cfg(test)]
mod tests;
mod tf;
mod torch;
mod value;

pub use coding::Coding;
pub use file::{Driver, Spelling};
pub use load::{load, vectors_dir};
pub use lower::{Taken, spell};
pub use request::{Expect, Field, Lowered, RawRequest};

/// Whether tests run their long forms, as in `make ci-long PART=vectors`: larger numbers, and every
/// vector on every way of loading the filter.
pub fn is_long() -> bool {
    std::env::var_os("TENSORGATE_LONG").is_some()
}

/// Why a vector cannot be used. Always a mistake in the vector, never a verdict.
#[derive(Debug, thiserror::Error)]
pub enum VectorFault {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not in the format.
    #[error("{path}: {source}")]
    Json {
        /// Which.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A case has contradictory or impossible contents.
    #[error("{id}: {message}")]
    Case {
        /// File, case and spelling.
        id: String,
        /// What is wrong.
        message: String,
    },
}
