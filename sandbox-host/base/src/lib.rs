//! Small types and helpers that all crates of the host and the command are built from: fair shares
//! and turns of clients, memory for bodies, files, times.

pub mod circuit;
pub mod client_key;
pub mod egress_log;
pub mod files;
pub mod grpc_timeout;
pub mod guard;
pub mod heap;
pub mod local_host;
pub mod memory_budget;
pub mod owned;
pub mod payload;
pub mod renewed;
pub mod rfc3339;
pub mod secret_file;
pub mod shares;
pub mod shell;
pub mod source_host;
pub mod turns;
pub mod unix_time;
