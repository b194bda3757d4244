//! Scans files of models for `model scan`: finds them, has processes without rights read them, and
//! writes what was found.

pub mod exceptions;
mod messages;
pub mod outcome;
pub mod process;
pub mod run;
pub mod sarif;
pub mod walk;
pub mod worker;
