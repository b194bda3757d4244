//! Scans files of models for `model scan`: finds them, has processes without rights read them, and
//! writes what was found.

<<<<<<< HEAD
pub mod draft;
=======
mod beside;
>>>>>>> 3a0a77ce (model scan: a model and its data are scanned together)
pub mod exceptions;
pub mod ignored;
pub mod outcome;
pub mod run;
pub mod sarif;
pub mod settings;
pub mod walk;
