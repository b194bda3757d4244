//! The verbs of the command, one module each.

pub mod alerts;
pub mod audit;
pub mod block;
pub mod check;
pub mod completions;
pub mod diff;
pub mod explain;
pub mod handler;
pub mod image;
pub mod import;
pub mod init;
pub mod keys;
pub mod model;
pub mod reload;
pub mod render;
pub mod schema;
pub mod status;
pub mod story;
pub mod up;
