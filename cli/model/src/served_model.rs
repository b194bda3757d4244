//! The copy of a verified model that a server loads: how it becomes visible, and how it is
//! recognised at the next start.
//!
//! Its modules, from bottom to top: `tree`, `receipt`, `store`. Each refers to those before it.

pub mod receipt;
pub mod store;
mod tree;
