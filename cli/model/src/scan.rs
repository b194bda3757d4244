//! Scans files of models for `model scan`: finds them, has processes without rights read them, and
//! writes what was found.

mod beside;
pub mod draft;
pub mod exceptions;
pub mod ignored;
pub mod outcome;
pub mod run;
pub mod sarif;
pub mod settings;
pub mod walk;
