//! What can go wrong, in kinds that a language can make its own exceptions of.

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Shapes, axes or arguments that do not go together.
    Value,
    /// An element type that the function does not take.
    Datatype,
    /// A number that its type cannot hold.
    Overflow,
    /// A division by zero.
    Division,
    /// Bytes that are no image or sound that is taken.
    Data,
    /// More than there may be, or more than memory has room for.
    Room,
}

/// Why a function did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind it is.
    pub kind: Kind,
    /// For the author.
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
