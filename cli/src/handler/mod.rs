//! Shared code of the `handler` verbs: a project on disk, the build tools, and the host's sandbox.
//!
//! Components are loaded and called by the host's code, and limits are validated as in a policy. So
//! these verbs and the host always agree on a component.

pub mod authority;
pub mod build;
pub mod case;
pub mod case_resources;
pub mod compare;
pub mod configure;
pub mod contract;
mod copy;
pub mod initialise;
pub mod kit;
pub mod port;
pub mod project;
pub mod registry;
pub mod runner;
pub mod template;
pub mod tools;
