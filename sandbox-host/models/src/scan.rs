//! Scans files of models in processes without rights. No parser of such a file runs in the process
//! that asks.
//!
<<<<<<< HEAD
//! Its modules, from bottom to top: `messages`, `code_kinds`, `worker`, `process`, `supervisor`.

pub mod code_kinds;
=======
//! Its modules, from bottom to top: `messages`, `asked`, `worker`, `process`, `supervisor`,
//! `folder`.

pub mod asked;
pub mod folder;
>>>>>>> 3a0a77ce (model scan: a model and its data are scanned together)
pub mod messages;
pub mod process;
pub mod supervisor;
pub mod worker;
