//! JSON templates in the policy document: locations of inputs and outputs.

use core::fmt;
use std::collections::BTreeMap;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A model's own JSON route, in the form of its clients, such as BentoML's or Ray Serve's. Request
/// members that are not named here are rejected.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Json {
    /// The path, such as `/classify`; requests are POSTs to it.
    pub route: Option<String>,
    /// Location of each input, by name.
    pub inputs: BTreeMap<String, TensorPointer>,
    /// Location of each output, by name; outputs without a location are omitted.
    pub outputs: BTreeMap<String, TensorPointer>,
    /// Allowed members that are ignored, each a JSON Pointer, with `*` as above.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
}

/// Location of a tensor: `/image`, or `{pointer: /image, bytes: base64}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TensorPointer {
    /// A JSON Pointer (RFC 6901) through objects, with `*` for every element of a list; empty for
    /// the whole document.
    pub pointer: String,
    /// `BYTES`: encoding of strings.
    pub bytes: BytesAs,
}

/// Encoding of `BYTES` as JSON strings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum BytesAs {
    /// As UTF-8.
    #[default]
    Text,
    /// In base64.
    Base64,
}

impl Serialize for TensorPointer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Both<'a> {
            pointer: &'a str,
            bytes: BytesAs,
        }
        match self.bytes {
            BytesAs::Text => serializer.serialize_str(&self.pointer),
            bytes @ BytesAs::Base64 => Both {
                pointer: &self.pointer,
                bytes,
            }
            .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for TensorPointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Both {
            pointer: String,
            #[serde(default)]
            bytes: BytesAs,
        }
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = TensorPointer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON Pointer, or {pointer, bytes}")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<TensorPointer, E> {
                Ok(TensorPointer {
                    pointer: value.into(),
                    bytes: BytesAs::Text,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TensorPointer, A::Error> {
                let Both { pointer, bytes } =
                    Both::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(TensorPointer { pointer, bytes })
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Schema of a type with two forms.
#[cfg(feature = "schema")]
mod schema {
    use super::TensorPointer;
    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use std::borrow::Cow;

    impl JsonSchema for TensorPointer {
        fn schema_name() -> Cow<'static, str> {
            "Place".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "description": "a JSON Pointer, with * for every element of a list, or one with how BYTES are strings there",
                "anyOf": [
                    {"type": "string"},
                    {
                        "type": "object",
                        "additionalProperties": false,
                        "required": ["pointer"],
                        "properties": {
                            "pointer": {"type": "string"},
                            "bytes": {"enum": ["text", "base64"]}
                        }
                    }
                ]
            })
        }
    }
}
