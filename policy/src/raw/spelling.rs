//! Types with several forms: sizes, dimensions and values.

use alloc::string::String;
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

/// A number of bytes: a plain number, or with a unit (`KiB`, `MiB`, `GiB`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Parses `65536`, `64KiB`, `8MiB` or `2GiB`.
    pub fn parse(text: &str) -> Option<Self> {
        const UNITS: [(&str, u32); 3] = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
        let (digits, shift) = UNITS
            .iter()
            .find_map(|(unit, shift)| text.strip_suffix(unit).map(|digits| (digits, *shift)))
            .unwrap_or((text, 0));
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        digits
            .parse::<u64>()
            .ok()?
            .checked_mul(1_u64.checked_shl(shift)?)
            .map(Self)
    }
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

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes such as 65536, 64KiB, 8MiB or 2GiB")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<ByteSize, E> {
                u64::try_from(value)
                    .map(ByteSize)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<ByteSize, E> {
                ByteSize::parse(value)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(Size)
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
    use super::{ByteSize, Dim, Scalar};
    use alloc::borrow::Cow;
    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    impl JsonSchema for Scalar {
        fn schema_name() -> Cow<'static, str> {
            "Scalar".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"description": "a number or a text", "type": ["number", "string"]})
        }
    }

    impl JsonSchema for ByteSize {
        fn schema_name() -> Cow<'static, str> {
            "ByteSize".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "description": "bytes: a plain number, or with a unit",
                "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+([KMG]iB)?$"}]
            })
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
