//! Files, words and limits that the host and the command share: policy bundles and their sources,
//! folders and signatures of components, captured calls, documents of the admin server, threads and
//! memory of handlers, and what of a policy the OS sandbox must permit.

pub mod admin;
pub mod bounds;
pub mod bundle;
pub mod capture;
pub mod component;
pub mod folders;
pub mod handler_memory;
pub mod handler_threads;
pub mod permitted;
pub mod policy_resources;
pub mod sealed_capture;
pub mod signed;
pub mod sources;
pub mod system_memory;
