//! Error type of the bench: a text for the user.

/// Any failure.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A result with [`Failure`] as its error.
pub type Outcome<T> = Result<T, Failure>;

/// Returns an error with a text.
pub fn failure<T>(text: impl Into<String>) -> Outcome<T> {
    Err(Failure::from(text.into()))
}
