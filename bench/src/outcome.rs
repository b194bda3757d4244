//! How things fail here: with a text for whoever runs the bench.

/// Any failure.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What may fail.
pub type Outcome<T> = Result<T, Failure>;

/// A failure that is a text.
pub fn failure<T>(text: impl Into<String>) -> Outcome<T> {
    Err(Failure::from(text.into()))
}
