//! A parsed JSON document, for protocols without tensors. It is not validated against a contract.

use alloc::borrow::{Cow, ToOwned};
use alloc::string::String;
use alloc::vec::Vec;

/// A value. The parser limits depth and number of values.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without fraction or exponent.
    Int(i64),
    /// Any other number; finite.
    Float(f64),
    /// A string.
    String(Cow<'a, str>),
    /// A list.
    Array(Vec<Value<'a>>),
    /// An object with distinct names, in original order.
    Object(Members<'a>),
}

/// An object's members.
pub type Members<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

impl<'a> Value<'a> {
    /// A text that borrows.
    pub const fn text(text: &'a str) -> Self {
        Self::String(Cow::Borrowed(text))
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// The members, if it is an object.
    pub fn as_object(&self) -> Option<&[(Cow<'a, str>, Value<'a>)]> {
        if let Self::Object(members) = self {
            Some(members)
        } else {
            None
        }
    }

    /// The elements, if it is an array.
    pub fn as_array(&self) -> Option<&[Value<'a>]> {
        if let Self::Array(elements) = self {
            Some(elements)
        } else {
            None
        }
    }

    /// The member with this name.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        member(self.as_object()?, name)
    }

    /// The member with this name, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value<'a>> {
        let Self::Object(members) = self else {
            return None;
        };
        let mut members = members.iter_mut();
        let (_, value) = members.find(|(known, _)| known == name)?;
        Some(value)
    }

    /// Upper bound of its size as compact text, escapes included. The recursion is limited by the
    /// parser's depth.
    pub fn text_bytes(&self) -> usize {
        /// Maximum size of a number as text.
        const NUMBER_BYTES: usize = 25;
        /// Size of an escaped character.
        const ESCAPED_BYTES: usize = 6;
        let text = |text: &str| {
            let bytes = text.chars().map(|character| match character {
                '"' | '\\' | '\0'..='\x1f' | '\x7f' | '\u{2028}' | '\u{2029}' => ESCAPED_BYTES,
                _ => character.len_utf8(),
            });
            bytes.fold(2, usize::saturating_add)
        };
        match self {
            Self::Null | Self::Bool(_) => 5,
            Self::Int(_) | Self::Float(_) => NUMBER_BYTES,
            Self::String(string) => text(string),
            Self::Array(elements) => elements.iter().fold(2, |sum, element| {
                sum.saturating_add(element.text_bytes()).saturating_add(1)
            }),
            Self::Object(members) => members.iter().fold(2, |sum, (name, value)| {
                sum.saturating_add(text(name))
                    .saturating_add(value.text_bytes())
                    .saturating_add(2)
            }),
        }
    }

    /// Whether any text in it satisfies a test, names of members included. The recursion is limited
    /// by the parser's depth.
    pub fn any_text(&self, test: &mut dyn FnMut(&str) -> bool) -> bool {
        match self {
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) => false,
            Self::String(text) => test(text),
            Self::Array(elements) => elements.iter().any(|element| element.any_text(test)),
            Self::Object(members) => members
                .iter()
                .any(|(name, value)| test(name) || value.any_text(test)),
        }
    }

    /// How many lists and objects are nested in it: 0 for a text, 1 for a list of texts. The
    /// recursion is limited by the parser's depth.
    pub fn depth(&self) -> usize {
        let inner = match self {
            Self::Array(elements) => elements.iter().map(Self::depth).max(),
            Self::Object(members) => members.iter().map(|(_, value)| value.depth()).max(),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::String(_) => {
                return 0;
            }
        };
        inner.unwrap_or(0).saturating_add(1)
    }

    /// The value with owned texts.
    pub fn into_owned(self) -> Value<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(String::from(text));
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => Value::Int(value),
            Self::Float(value) => Value::Float(value),
            Self::String(text) => Value::String(owned(text)),
            Self::Array(elements) => {
                Value::Array(elements.into_iter().map(Value::into_owned).collect())
            }
            Self::Object(members) => Value::Object(
                members
                    .into_iter()
                    .map(|(name, value)| (owned(name), value.into_owned()))
                    .collect(),
            ),
        }
    }
}

/// The member with this name.
pub fn member<'m, 'a>(
    members: &'m [(Cow<'a, str>, Value<'a>)],
    name: &str,
) -> Option<&'m Value<'a>> {
    members
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value)
}

/// An object with these members.
pub fn object<'a, const N: usize>(members: [(&str, Value<'a>); N]) -> Value<'a> {
    Value::Object(
        members
            .into_iter()
            .map(|(name, value)| (Cow::Owned(name.to_owned()), value))
            .collect(),
    )
}
