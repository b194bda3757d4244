//! A route of JSON by template, as users write it: where in a request each input sits, and in an answer each output.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A route of its own for a model that is called by `json`, in the form that its clients have it: BentoML's, Ray Serve's, a server's of one's
/// own. A member of a request that is named nowhere here is refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Json {
    /// The path, such as `/classify`; requests are POSTs to it.
    pub route: Option<String>,
    /// Where each input sits, by its name.
    pub inputs: BTreeMap<String, Place>,
    /// Where each output goes, by its name; what has no place is not answered.
    pub outputs: BTreeMap<String, Place>,
    /// Members that may come and are not read, each a JSON Pointer, with `*` as above.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
}

/// Where a tensor sits: `/image`, or `{pointer: /image, bytes: base64}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// A JSON Pointer (RFC 6901) through objects, with `*` for every element of a list; empty for the whole document.
    pub pointer: String,
    /// `BYTES`: how they are strings.
    pub bytes: BytesAs,
}

/// How `BYTES` are strings of JSON.
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

impl Serialize for Place {
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

impl<'de> Deserialize<'de> for Place {
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
            type Value = Place;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON Pointer, or {pointer, bytes}")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Place, E> {
                Ok(Place {
                    pointer: value.into(),
                    bytes: BytesAs::Text,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Place, A::Error> {
                let Both { pointer, bytes } =
                    Both::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Place { pointer, bytes })
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// The schema of what is written in two ways.
#[cfg(feature = "schema")]
mod schema {
    use super::Place;
    use alloc::borrow::Cow;
    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    impl JsonSchema for Place {
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
