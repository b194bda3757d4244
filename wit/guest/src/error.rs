//! The two kinds of failure. The kind decides what the caller gets, so there is no conversion from
//! other errors: the author states whose fault it is.

use core::fmt::Display;

use crate::bindings::preprocess::tensorgate::handler::types::Error;

impl Error {
    /// The input is bad: the caller gets 400. The text goes to the log.
    pub fn bad_input(cause: impl Display) -> Self {
        Self::BadInput(cause.to_string())
    }

    /// The handler failed: the caller gets 500. The text goes to the log.
    pub fn fault(cause: impl Display) -> Self {
        Self::Fault(cause.to_string())
    }
}
