//! Scans files of models in processes without rights. No parser of such a file runs in the process
//! that asks.
//!
<<<<<<< HEAD
<<<<<<< HEAD
//! Its modules, from bottom to top: `messages`, `code_kinds`, `worker`, `process`, `supervisor`.

pub mod code_kinds;
=======
//! Its modules, from bottom to top: `messages`, `asked`, `worker`, `process`, `supervisor`,
=======
//! Its modules, from bottom to top: `messages`, `scan_input`, `worker`, `process`, `supervisor`,
>>>>>>> 25fce574 (model scan: names of the field for what is scanned)
//! `folder`.

pub mod folder;
>>>>>>> 3a0a77ce (model scan: a model and its data are scanned together)
pub mod messages;
pub mod process;
pub mod scan_input;
pub mod supervisor;
pub mod worker;
