//! Failures, in kinds that a language can map to its own exceptions.

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Shapes, axes or arguments that do not match.
    Value,
    /// An element type that the function does not support.
    Datatype,
    /// A number that does not fit its type.
    Overflow,
    /// A division by zero.
    Division,
    /// Invalid or unsupported image or sound data.
    Data,
    /// A limit is exceeded, or memory is exhausted.
    Room,
}

/// Why a function failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind of the failure.
    pub kind: Kind,
    /// A message for the author.
    pub message: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

macro_rules! maker {
    ($($name:ident $kind:ident),*) => {$(
        pub(crate) fn $name(message: impl Into<String>) -> Failure {
            Failure { kind: Kind::$kind, message: message.into() }
        }
    )*};
}

maker!(value Value, datatype Datatype, overflow Overflow, division Division, data Data, room Room);
