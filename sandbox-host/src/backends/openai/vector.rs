//! Number lists and token maps of a response, decoded without intermediate values.

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
    /// Whether all numbers are finite, or the text is base64.
    pub(super) fn is_valid(&self) -> bool {
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

/// Likely tokens with their log probabilities, each token once.
#[derive(Debug, PartialEq)]
pub(super) struct TokenProbabilities(Vec<(String, f64)>);

impl TokenProbabilities {
    /// The number of tokens.
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }
}

impl<'de> Deserialize<'de> for TokenProbabilities {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tokens;

        impl<'de> Visitor<'de> for Tokens {
            type Value = TokenProbabilities;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tokens with their probabilities")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<TokenProbabilities, A::Error> {
                let mut tokens: Vec<(String, f64)> = Vec::new();
                while let Some(token) = map.next_entry()? {
                    tokens.push(token);
                }
                tokens.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
                // Servers that name tokens by their text may repeat one.
                tokens.dedup_by(|(one, _), (other, _)| one == other);
                Ok(TokenProbabilities(tokens))
            }
        }

        deserializer.deserialize_map(Tokens)
    }
}

impl Serialize for TokenProbabilities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (token, probability) in &self.0 {
            map.serialize_entry(token, probability)?;
        }
        map.end()
    }
}
