//! Types with several forms: dimensions and values.

use core::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A dimension: `8`, `n` (a name bound elsewhere), `{max: 32}` or `{name: n, min: 1, max: 32}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Exactly this many.
    Fixed(u64),
    /// Equal to the dimension of this name elsewhere in the model.
    Same(String),
    /// A bounded size, equal wherever the name recurs.
    Bounded {
        /// Its name.
        name: Option<String>,
        /// Minimum; 1 by default.
        min: Option<u64>,
        /// Maximum; required.
        max: Option<u64>,
    },
}

/// A value: an integer, kept exactly, any other number, or a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// An integer without a fraction, within 64 bits, signed or unsigned.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
}

impl Serialize for Scalar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Integer(number) => match u64::try_from(*number) {
                Ok(number) => serializer.serialize_u64(number),
                Err(_) => serializer.serialize_i64(i64::try_from(*number).unwrap_or(i64::MIN)),
            },
            Self::Float(number) => serializer.serialize_f64(*number),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a text")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar::Integer(value.into()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Integer(value.into()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar::Float(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(value.into()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl Serialize for Dim {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Bounded<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            name: &'a Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            min: &'a Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            max: &'a Option<u64>,
        }
        match self {
            Self::Fixed(size) => serializer.serialize_u64(*size),
            Self::Same(name) => serializer.serialize_str(name),
            Self::Bounded { name, min, max } => Bounded { name, min, max }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Dim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Bounded {
            name: Option<String>,
            min: Option<u64>,
            max: Option<u64>,
        }
        struct AnyDim;
        impl<'de> Visitor<'de> for AnyDim {
            type Value = Dim;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a dim: a number, the name of another dim, or {name, min, max}")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Dim, E> {
                Ok(Dim::Fixed(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Dim, E> {
                // Servers write -1 for a size that varies.
                u64::try_from(value).map(Dim::Fixed).map_err(|_| {
                    E::custom(format_args!(
                        "`{value}` is not the size of a dim; write {{max: N}} for one that varies, N the largest size that the model may get"
                    ))
                })
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Dim, E> {
                Ok(Dim::Same(value.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Dim, A::Error> {
                let Bounded { name, min, max } =
                    Bounded::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Dim::Bounded { name, min, max })
            }
        }
        deserializer.deserialize_any(AnyDim)
    }
}

/// Schemas of types with several forms.
#[cfg(feature = "schema")]
mod schema {
    use super::{Dim, Scalar};
    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use std::borrow::Cow;

    impl JsonSchema for Scalar {
        fn schema_name() -> Cow<'static, str> {
            "Scalar".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"description": "a number or a text", "type": ["number", "string"]})
        }
    }

    impl JsonSchema for Dim {
        fn schema_name() -> Cow<'static, str> {
            "Dim".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "description": "a number, the name of another dim, or bounds",
                "anyOf": [
                    {"type": "integer", "minimum": 0},
                    {"type": "string"},
                    {
                        "type": "object",
                        "additionalProperties": false,
                        "required": ["max"],
                        "properties": {
                            "name": {"type": "string"},
                            "min": {"type": "integer", "minimum": 0},
                            "max": {"type": "integer", "minimum": 1}
                        }
                    }
                ]
            })
        }
    }
}
