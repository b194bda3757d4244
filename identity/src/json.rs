//! Strict parser for JSON objects in tokens: unique members, bounded depth, no trailing data. Any
//! two parsers agree on such objects.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use tensorgate_policy::values::unique_members;

/// Maximum depth; the outermost object is 1. Claims such as `realm_access: {roles: [...]}` need 3.
const MAX_DEPTH: usize = 8;
/// Maximum members of an object.
const MAX_MEMBERS: usize = 128;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`.
    Other,
    /// `true`, `false`.
    Bool(bool),
    /// A non-negative integer.
    Integer(u64),
    /// Any other number; finite.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// An object.
    Object(Object),
}

/// Members with unique names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object(BTreeMap<String, Json>);

impl Object {
    /// Parses a document; `None` if it is not one object within the limits.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut document = serde_json::Deserializer::from_slice(bytes);
        let value = At(MAX_DEPTH).deserialize(&mut document).ok()?;
        document.end().ok()?;
        match value {
            Json::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The member with this name.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.get(name)
    }

    /// The member with this name, if there is no other.
    pub fn only(&self, name: &str) -> Option<&Json> {
        self.get(name).filter(|_| self.0.len() == 1)
    }
}

impl Json {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether this is a text, or a list that contains it.
    pub fn holds(&self, wanted: &str) -> bool {
        match self {
            Self::Text(text) => text == wanted,
            Self::List(list) => list.iter().any(|value| value.text() == Some(wanted)),
            _ => false,
        }
    }
}

/// Parses a value at a depth.
struct At(usize);

impl<'de> DeserializeSeed<'de> for At {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Integer(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        // Negative, because others are `u64`. Full precision is not needed here.
        Ok(u64::try_from(value).map_or(Json::Float(value as f64), Json::Integer))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Json, E> {
        if value.is_finite() {
            Ok(Json::Float(value))
        } else {
            Err(E::custom("not finite"))
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let below = self.below()?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(At(below))? {
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Json, A::Error> {
        let below = self.below()?;
        let twice = |_: &str| "a member twice";
        let members = unique_members(map, twice, |map, _, members| {
            if members == MAX_MEMBERS {
                return Err(de::Error::custom("too many members"));
            }
            map.next_value_seed(At(below))
        })?;
        Ok(Json::Object(Object(members)))
    }
}

impl At {
    fn below<E: de::Error>(&self) -> Result<usize, E> {
        self.0
            .checked_sub(1)
            .ok_or_else(|| E::custom("nested too deep"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "tests")]

    use super::*;
    use alloc::format;

    #[test]
    fn only_a_single_object_is_read() {
        let nested = |depth: usize| {
            let inner = depth.saturating_sub(1);
            format!("{{\"a\":{}{}}}", "[".repeat(inner), "]".repeat(inner))
        };
        let members = |count: usize| {
            let list: Vec<String> = (0..count).map(|at| format!("\"{at}\":0")).collect();
            format!("{{{}}}", list.join(","))
        };
        for (text, expected) in [
            ("{}", true),
            (" {\"a\": 1}\n", true),
            (&nested(MAX_DEPTH), true),
            (&nested(MAX_DEPTH + 1), false),
            (&nested(20_000), false),
            (&members(MAX_MEMBERS), true),
            (&members(MAX_MEMBERS + 1), false),
            ("{\"a\":1,\"a\":1}", false),
            ("{\"a\":1,\"\\u0061\":2}", false),
            ("{\"b\":{\"a\":1,\"a\":2}}", false),
            ("{\"b\":[{\"a\":1,\"a\":2}]}", false),
            ("{\"a\":1}{}", false),
            ("{\"a\":1} x", false),
            ("{\"a\":1,}", false),
            ("{\"a\":01}", false),
            ("{\"a\":1e999}", false),
            ("{\"a\":NaN}", false),
            ("{\"a\":\"\\ud800\"}", false),
            ("{'a':1}", false),
            ("\u{feff}{}", false),
            ("[]", false),
            ("\"a\"", false),
            ("", false),
        ] {
            let start: String = text.chars().take(60).collect();
            assert_eq!(
                Object::parse(text.as_bytes()).is_some(),
                expected,
                "{start}"
            );
        }
        assert_eq!(Object::parse(b"{\"a\":\"\xff\"}"), None);
    }
}
