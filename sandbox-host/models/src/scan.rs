//! Scans files of models in processes without rights. No parser of such a file runs in the process
//! that asks.
//!
//! Its modules, from bottom to top: `messages`, `code_kinds`, `scan_input`, `known_indexes`,
//! `worker`, `process`, `supervisor`, `folder`.

pub mod code_kinds;
pub mod folder;
mod known_indexes;
pub mod messages;
pub mod process;
pub mod scan_input;
pub mod supervisor;
pub mod worker;
