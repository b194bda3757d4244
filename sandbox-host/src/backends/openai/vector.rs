//! Lists of numbers in an answer, read without anything between their text and themselves.

use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An embedding: numbers, or their bytes in base64.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Vector {
    Floats(Vec<f32>),
    Base64(String),
}

impl Vector {
    /// Whether every number is one, and all of a text is base64.
    pub(super) fn is_one(&self) -> bool {
        let digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        match self {
            Self::Floats(floats) => floats.iter().all(|float| float.is_finite()),
            Self::Base64(text) => text.bytes().all(digit),
        }
    }
}

impl<'de> Deserialize<'de> for Vector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Vector;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("numbers, or base64")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Vector, E> {
                Ok(Vector::Base64(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Vector, A::Error> {
                let mut floats = Vec::new();
                while let Some(float) = numbers.next_element()? {
                    floats.push(float);
                }
                Ok(Vector::Floats(floats))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Likely tokens by their texts, each once, with their probabilities.
#[derive(Debug, PartialEq)]
pub(super) struct Likely(Vec<(String, f64)>);

impl Likely {
    /// How many.
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }
}

impl<'de> Deserialize<'de> for Likely {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tokens;

        impl<'de> Visitor<'de> for Tokens {
            type Value = Likely;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tokens with their probabilities")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Likely, A::Error> {
                let mut tokens: Vec<(String, f64)> = Vec::new();
                while let Some(token) = map.next_entry()? {
                    tokens.push(token);
                }
                tokens.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
                // Servers that name a token by its text may have several of one.
                tokens.dedup_by(|(one, _), (other, _)| one == other);
                Ok(Likely(tokens))
            }
        }

        deserializer.deserialize_map(Tokens)
    }
}

impl Serialize for Likely {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (token, probability) in &self.0 {
            map.serialize_entry(token, probability)?;
        }
        map.end()
    }
}
