//! Decoding faults and their reasons. The only place in this crate that maps faults to reasons.

use tensorgate_policy::values::safe_text::push_quoted;
use tensorgate_policy::{Denial, Reason};

use crate::limits::MAX_QUOTED_CHARS;

/// A body that is not exactly one unambiguous request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyFault {
    /// Bytes that violate the format.
    #[error("{what} at byte {at}")]
    Form { what: &'static str, at: usize },
    /// A known field with an invalid value.
    #[error("{field} {what}")]
    Field { field: String, what: &'static str },
    /// An unknown field.
    #[error("{0} is not a field of the message")]
    Unknown(String),
    /// A repeated key or singular field.
    #[error("{0} is given twice")]
    Duplicate(String),
    /// Nesting beyond the limit.
    #[error("nesting is deeper than {max} levels at byte {at}")]
    Deep { max: usize, at: usize },
    /// The same in a member that holds schemas. `function` ends what is expected with the
    /// function's name, if it has been read.
    #[error("{field}: nesting is deeper than {max} levels at byte {at}")]
    DeepSchema {
        field: String,
        function: String,
        max: usize,
        at: usize,
    },
    /// A count beyond the limit.
    #[error("more than {max} {what}")]
    TooMany { what: &'static str, max: usize },
    /// A gRPC frame with the compressed flag.
    #[error("the frame is compressed")]
    Compressed,
}

impl BodyFault {
    pub(crate) fn field(field: impl Into<String>, what: &'static str) -> Self {
        Self::Field {
            field: field.into(),
            what,
        }
    }
}

impl From<BodyFault> for Denial {
    fn from(fault: BodyFault) -> Self {
        let cause = fault.to_string();
        match fault {
            BodyFault::Form { .. } | BodyFault::TooMany { .. } => {
                Self::new(Reason::Malformed, cause)
            }
            BodyFault::Field { field, .. } | BodyFault::Unknown(field) => {
                Self::with_field(Reason::Malformed, field, cause)
            }
            BodyFault::Duplicate(field) => Self::with_field(Reason::DuplicateKey, field, cause),
            BodyFault::Deep { .. } => Self::new(Reason::TooDeep, cause),
            BodyFault::DeepSchema {
                field,
                function,
                max,
                ..
            } => {
                let expected = format!("at most {max} levels of nesting{function}");
                Self::with_field(Reason::TooDeep, field, cause).expecting(Some(expected))
            }
            BodyFault::Compressed => Self::new(Reason::UnsupportedEncoding, cause),
        }
    }
}

/// Quotes a caller's name: truncated and escaped for one line.
pub(crate) fn quote(name: &str) -> String {
    let mut quoted = String::from("\"");
    let mut chars = name.chars();
    for character in chars.by_ref().take(MAX_QUOTED_CHARS) {
        push_quoted(&mut quoted, character);
    }
    if chars.next().is_some() {
        quoted.push('…');
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_name_is_one_bounded_line() {
        for (name, expected) in [
            ("image", "\"image\"".to_owned()),
            (
                "a\r\nb\0\"\u{202e}",
                "\"a\\r\\nb\\0\\\"\\u{202e}\"".to_owned(),
            ),
            (&"x".repeat(64), format!("\"{}\"", "x".repeat(64))),
            (&"x".repeat(65), format!("\"{}…\"", "x".repeat(64))),
        ] {
            assert_eq!(quote(name), expected);
        }
    }
}
