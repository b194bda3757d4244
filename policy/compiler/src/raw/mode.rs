//! Enforcement mode of a grant: `enforce`, `shadow`, or a choice per kind of rule.

use core::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `enforce`, `shadow`, or `{default: enforce, rate: shadow, …}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One mode for all rules that can be in shadow.
    All(Enforcement),
    /// One mode per kind.
    Each(Modes),
}

/// Effect of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Enforcement {
    /// Rejects.
    #[default]
    Enforce,
    /// Logs and counts, and lets pass.
    Shadow,
}

/// Mode per kind of rule. Authentication, routes, structure, size and grants are always enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Modes {
    /// Kinds that are not named; `enforce` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Enforcement>,
    /// Requests per window and per day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Enforcement>,
    /// Elements and bytes per window and per day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Enforcement>,
    /// Values of inputs: `finite`, `range`, `max_abs`, `channel_ranges`, `allowed`, `min_distinct`,
    /// `max_zero_fraction`, `pattern`, `utf8`, `min_item_bytes`, `min_bytes`, `media`. A `url`
    /// is always enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Enforcement>,
    /// Values of outputs: `finite`, and negative class scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Enforcement>,
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All(enforcement) => enforcement.serialize(serializer),
            Self::Each(modes) => modes.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyMode;
        impl<'de> Visitor<'de> for AnyMode {
            type Value = Mode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("enforce, shadow, or {default, rate, cost, values, outputs}")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Mode, E> {
                match value {
                    "enforce" => Ok(Mode::All(Enforcement::Enforce)),
                    "shadow" => Ok(Mode::All(Enforcement::Shadow)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Mode, A::Error> {
                Modes::deserialize(de::value::MapAccessDeserializer::new(map)).map(Mode::Each)
            }
        }
        deserializer.deserialize_any(AnyMode)
    }
}

#[cfg(feature = "schema")]
mod schema {
    use super::{Mode, Modes};
    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use std::borrow::Cow;

    impl JsonSchema for Mode {
        fn schema_name() -> Cow<'static, str> {
            "Mode".into()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "description": "whether rules refuse or only tell: one for all, or one for each kind",
                "anyOf": [
                    {"type": "string", "enum": ["enforce", "shadow"]},
                    generator.subschema_for::<Modes>()
                ]
            })
        }
    }
}
