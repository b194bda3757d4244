//! The two kinds of failure. The kind decides what the caller gets, so there is no conversion from
//! other errors: the author states whose fault it is.

use core::fmt::Display;

use crate::bindings::preprocess::tensorgate::handler::errors::{Error, Rejection};

impl Error {
    /// The input is bad: the caller gets 400. The text goes to the log.
    pub fn bad_input(cause: impl Display) -> Self {
        Self::BadInput(Rejection {
            log: cause.to_string(),
            caller: None,
        })
    }

    /// The handler failed: the caller gets 500. The text goes to the log.
    pub fn fault(cause: impl Display) -> Self {
        Self::Fault(cause.to_string())
    }

    /// Adds a text for the caller of a bad input. It is passed on if the policy has `errors:
    /// public` for the handler: at most 256 characters, without control characters. A fault is
    /// unchanged.
    #[must_use]
    pub fn for_caller(self, text: impl Display) -> Self {
        match self {
            Self::BadInput(Rejection { log, .. }) => Self::BadInput(Rejection {
                log,
                caller: Some(text.to_string()),
            }),
            fault @ Self::Fault(_) => fault,
        }
    }

    /// The text for the log.
    pub fn log_text(&self) -> &str {
        match self {
            Self::BadInput(rejection) => &rejection.log,
            Self::Fault(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bad_input_has_a_text_for_the_caller() {
        let texts = |error: Error| match error {
            Error::BadInput(rejection) => (rejection.log, rejection.caller),
            Error::Fault(text) => (text, None),
        };
        let bad = Error::bad_input("row 3: 7 columns").for_caller("a row needs 8 columns");
        assert_eq!(bad.log_text(), "row 3: 7 columns");
        let caller = Some("a row needs 8 columns".to_owned());
        assert_eq!(texts(bad), ("row 3: 7 columns".to_owned(), caller));
        let fault = Error::fault("no table").for_caller("secret");
        assert_eq!(texts(fault), ("no table".to_owned(), None));
    }
}
