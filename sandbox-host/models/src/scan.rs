//! Scans files of models in processes without rights. No parser of such a file runs in the process
//! that asks.
//!
//! Its modules, from bottom to top: `messages`, `code_kinds`, `worker`, `process`, `supervisor`.

pub mod code_kinds;
pub mod messages;
pub mod process;
pub mod supervisor;
pub mod worker;
