//! Scans files of models for `model scan`: finds them, has processes without rights read them, and
//! writes what was found.

pub mod exceptions;
pub mod outcome;
pub mod run;
pub mod sarif;
pub mod walk;
