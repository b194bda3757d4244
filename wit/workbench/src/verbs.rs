//! The verbs for handler authors, one module each: from a new project to a policy entry.

pub mod bench;
pub mod build;
pub mod configure;
pub mod image;
pub mod inspect;
pub mod logs;
pub mod new;
pub mod replay;
pub mod serve;
pub mod setup;
pub mod sign;
pub mod test;
