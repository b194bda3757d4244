//! A serde deserializer for a [`Tree`]. Errors keep the node where they occurred, and serde's
//! details as data, so that they can be worded for users.

use std::fmt;

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};

use crate::tree::{Content, Key, NodeId, Tree};

/// The value of `expected` in [`Problem::Length`] for surplus elements. Serde does not report a
/// number there.
pub const TOO_MANY: &str = "fewer";

/// Kind of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A value of the wrong type.
    Type {
        /// The type found.
        found: String,
        /// The type expected.
        expected: String,
        /// Whether quotes would fix the value.
        quotable: bool,
    },
    /// An unknown key.
    UnknownKey {
        /// The key.
        key: String,
        /// The known keys.
        known: &'static [&'static str],
    },
    /// An unknown enum variant.
    UnknownName {
        /// The name.
        name: String,
        /// The known names.
        known: &'static [&'static str],
    },
    /// A list of the wrong length.
    Length {
        /// The number of elements.
        found: usize,
        /// The expected number.
        expected: String,
    },
    /// Any other error.
    Other(String),
}

/// An error and its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The innermost node.
    pub at: Option<NodeId>,
    /// Kind of the error.
    pub problem: Problem,
}

impl Error {
    fn new(problem: Problem) -> Self {
        Self { at: None, problem }
    }

    /// Sets the node, unless an inner node is already set.
    fn at(mut self, node: NodeId) -> Self {
        self.at.get_or_insert(node);
        self
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.problem)
    }
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Problem::Other(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let quotable =
            matches!(found, Unexpected::Bool(_)) && expected.to_string().contains("string");
        Self::new(Problem::Type {
            found: found.to_string(),
            expected: expected.to_string(),
            quotable,
        })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(Problem::Type {
            found: found.to_string(),
            expected: expected.to_string(),
            quotable: false,
        })
    }

    fn invalid_length(found: usize, expected: &dyn de::Expected) -> Self {
        Self::new(Problem::Length {
            found,
            expected: expected.to_string(),
        })
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownKey {
            key: key.to_owned(),
            known,
        })
    }

    fn unknown_variant(name: &str, known: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownName {
            name: name.to_owned(),
            known,
        })
    }
}

/// A deserializer for one node.
#[derive(Clone, Copy)]
pub struct At<'t> {
    tree: &'t Tree,
    node: NodeId,
}

impl<'t> At<'t> {
    /// The root node.
    pub const fn root(tree: &'t Tree) -> Self {
        Self {
            tree,
            node: tree.root(),
        }
    }

    fn content(self) -> &'t Content {
        self.tree
            .get(self.node)
            .map_or(&Content::Null, |node| &node.content)
    }

    fn child(self, node: NodeId) -> Self {
        Self {
            tree: self.tree,
            node,
        }
    }
}

impl<'de> Deserializer<'de> for At<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.content() {
            Content::Null => visitor.visit_unit(),
            Content::Bool(value) => visitor.visit_bool(*value),
            Content::Unsigned(value) => visitor.visit_u64(*value),
            Content::Signed(value) => visitor.visit_i64(*value),
            Content::Float(value) => visitor.visit_f64(*value),
            Content::Text(text) => visitor.visit_borrowed_str(text),
            Content::List(items) => {
                let mut list = List {
                    at: self,
                    items: items.iter(),
                };
                let value = visitor.visit_seq(&mut list)?;
                match list.items.len() {
                    0 => Ok(value),
                    _ => Err(de::Error::invalid_length(items.len(), &TOO_MANY)),
                }
            }
            Content::Map(entries) => visitor.visit_map(Map {
                at: self,
                entries: entries.iter(),
                value: None,
            }),
        }
        .map_err(|error| error.at(self.node))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.content() {
            Content::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
        .map_err(|error| error.at(self.node))
    }

    /// Where text is expected, an unquoted number is read as written.
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self
            .tree
            .get(self.node)
            .and_then(|node| node.plain.as_deref())
        {
            Some(text) => visitor
                .visit_borrowed_str(text)
                .map_err(|error: Error| error.at(self.node)),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    /// A derived struct would also accept a list of its fields in order; only named keys are
    /// allowed.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.content() {
            Content::List(_) => {
                Err(<Error as de::Error>::invalid_type(Unexpected::Seq, &visitor).at(self.node))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.content() {
            Content::Text(text) => visitor.visit_enum(Name(text)),
            _ => Err(de::Error::invalid_type(
                Unexpected::Other("another type"),
                &"a name",
            )),
        }
        .map_err(|error| error.at(self.node))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

struct List<'t> {
    at: At<'t>,
    items: std::slice::Iter<'t, NodeId>,
}

impl<'de> SeqAccess<'de> for &mut List<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.items
            .next()
            .map(|item| seed.deserialize(self.at.child(*item)))
            .transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Map<'t> {
    at: At<'t>,
    entries: std::slice::Iter<'t, (Key, NodeId)>,
    value: Option<NodeId>,
}

impl<'de> MapAccess<'de> for Map<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some(*value);
        let text: &'de str = &key.text;
        seed.deserialize(de::value::BorrowedStrDeserializer::new(text))
            .map(Some)
            .map_err(|error: Error| error.at(*value))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let node = self
            .value
            .take()
            .ok_or_else(|| <Error as de::Error>::custom("a value before its key"))?;
        seed.deserialize(self.at.child(node))
    }
}

/// A unit variant, by name.
struct Name<'t>(&'t str);

impl<'de> EnumAccess<'de> for Name<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name: de::value::StrDeserializer<'_, Error> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Name<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Error> {
        Err(de::Error::custom("a plain name is expected"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        Err(de::Error::custom("a plain name is expected"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        Err(de::Error::custom("a plain name is expected"))
    }
}
