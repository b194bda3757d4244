//! Composition of models: handler chains, versions and ensembles.

use core::fmt;
use std::collections::BTreeMap;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::number::{Number, Percent, Shares, Within};
use super::{Artifact, Returns};

/// Handlers that run in order: a name, or a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain(pub Vec<String>);

/// Versions of a model: a list, or a map with rules.
#[derive(Clone, Debug, PartialEq)]
pub enum Versions {
    /// Versions that are called by name; a request without a version uses a single one.
    Listed(Vec<String>),
    /// Versions that share requests without a version, and shadow versions.
    Ruled(BTreeMap<String, VersionRule>),
}

/// Rule of one version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VersionRule {
    /// Weight for requests without a version. With 0 it is only called by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<Within<0, 100_000, Shares>>,
    /// The version gets mirrored requests and never answers clients.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub shadow: bool,
    /// With `shadow`: percentage of answered requests that are mirrored; all by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<Number<1, 100, 100, Percent>>,
    /// With `shadow`: tolerated difference of floats, relative to the larger value or to 1; 0.001
    /// by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
    /// Its own files, instead of the model's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
}

/// A grant's own handlers for one of its models. Absent fields keep the model's handlers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GrantHandlers {
    /// Handlers that convert the accepted input to the model's `inputs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<Chain>,
    /// Handlers that convert the model's `outputs` to `returns`; none with `[]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "schema::chain_or_none"))]
    pub postprocess: Option<Chain>,
    /// With `postprocess`: outputs for these clients; the model's own `returns` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returns: Option<Returns>,
}

/// Models that answer one request together; each step starts once its inputs exist.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ensemble {
    /// The calls, in any order.
    pub steps: Vec<EnsembleStep>,
}

/// One call of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EnsembleStep {
    /// `name@version` of a model of the policy; the version is needed if it has several.
    pub model: Option<String>,
    /// By model input: the ensemble input or step output to use; ensemble inputs of the same names
    /// by default.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
    /// By model output: its name for other steps and for the response.
    pub outputs: BTreeMap<String, String>,
}

/// What stays on a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Sticky {
    /// Each client, as long as the weights stay the same.
    Client,
}

impl Default for Versions {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

impl Versions {
    /// Versions that clients can call, in order.
    pub fn called(&self) -> Vec<&str> {
        match self {
            Self::Listed(versions) => versions.iter().map(String::as_str).collect(),
            Self::Ruled(rules) => rules
                .iter()
                .filter(|(_, rule)| !rule.shadow)
                .map(|(version, _)| version.as_str())
                .collect(),
        }
    }

    /// Whether a version is a shadow version.
    pub fn is_shadow(&self, version: &str) -> bool {
        match self {
            Self::Listed(_) => false,
            Self::Ruled(rules) => rules.get(version).is_some_and(|rule| rule.shadow),
        }
    }
}

impl Serialize for Chain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [only] => serializer.serialize_str(only),
            names => names.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Chain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Chain;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a handler, or a list of names")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Chain, E> {
                Ok(Chain([name.into()].into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Chain, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(Chain)
            }
        }
        deserializer.deserialize_any(Names)
    }
}

impl Serialize for Versions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Listed(versions) => versions.serialize(serializer),
            Self::Ruled(rules) => rules.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Versions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Versions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of versions, or versions with {weight} or {shadow: true} each")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Versions, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(Versions::Listed)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Versions, A::Error> {
                let rules = de::value::MapAccessDeserializer::new(map);
                BTreeMap::deserialize(rules).map(Versions::Ruled)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// The schemas of the types that are written in several ways.
#[cfg(feature = "schema")]
mod schema {
    use super::{Chain, VersionRule, Versions};
    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use std::borrow::Cow;

    /// A chain that may be empty.
    pub(super) fn chain_or_none(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "the name of a handler, or a list of names; an empty list for none",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
        })
    }

    impl JsonSchema for Chain {
        fn schema_name() -> Cow<'static, str> {
            "Chain".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "description": "the name of a handler, or a list of names: each is given what the one before made",
                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
            })
        }
    }

    impl JsonSchema for Versions {
        fn schema_name() -> Cow<'static, str> {
            "Versions".into()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            let rule = generator.subschema_for::<VersionRule>();
            json_schema!({
                "description": "a list of versions, or each with what it is for",
                "anyOf": [
                    {"type": "array", "items": {"type": "string"}, "minItems": 1},
                    {"type": "object", "additionalProperties": rule, "minProperties": 1}
                ]
            })
        }
    }
}
