//! The verbs of the command, one module each.

pub mod audit;
pub mod check;
pub mod completions;
pub mod diff;
pub mod explain;
pub mod handler;
pub mod import;
pub mod keys;
pub mod render;
pub mod schema;
pub mod story;
pub mod status;
pub mod up;
