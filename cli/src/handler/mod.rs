//! What an author's verbs share: a project on disk, the tools that make a component of it, and the host's own sandbox to run it in.
//!
//! What it never does: it decides nothing about a component that the host would decide in another way. Limits are validated as a
//! policy's, components are loaded and called by the host's code.

pub mod authority;
pub mod build;
pub mod case;
pub mod compare;
pub mod configure;
pub mod contract;
mod copy;
pub mod given;
pub mod initialise;
pub mod kit;
pub mod port;
pub mod project;
pub mod registry;
pub mod runner;
pub mod template;
pub mod tools;
