//! JSON Web Keys. Of a secret member only its presence is kept.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// One JSON Web Key (RFC 7517). Other members, including certificates, are ignored (section 4).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Jwk {
    /// `RSA`, `EC`, `OKP`.
    pub kty: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// Its only algorithm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    /// `sig`.
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
    /// `verify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_ops: Option<Vec<String>>,
    /// The curve of an `EC` or `OKP` key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crv: Option<String>,
    /// The modulus of an `RSA` key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    /// The exponent of an `RSA` key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e: Option<String>,
    /// The point of an `EC` key, or an `OKP` key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    /// The point of an `EC` key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
    /// Private; a fault.
    #[serde(skip_serializing)]
    pub d: Secret,
    /// Private; a fault.
    #[serde(skip_serializing)]
    pub p: Secret,
    /// Private; a fault.
    #[serde(skip_serializing)]
    pub q: Secret,
    /// Private; a fault.
    #[serde(skip_serializing)]
    pub dp: Secret,
    /// Private; a fault.
    #[serde(skip_serializing)]
    pub dq: Secret,
    /// Private; a fault.
    #[serde(skip_serializing)]
    pub qi: Secret,
    /// Private; a fault.
    #[serde(skip_serializing)]
    pub oth: Secret,
    /// A shared secret; a fault.
    #[serde(skip_serializing)]
    pub k: Secret,
}

/// Whether a secret was present. The secret is not kept. Some issuers write `null` or an empty list
/// for a member that a key does not have; these hold no secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Secret(pub bool);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Option::<SecretValue>::deserialize(deserializer)?;
        Ok(Self(
            value.is_some_and(|SecretValue(is_present)| is_present),
        ))
    }
}

/// Whether a value that is not `null` may hold a secret.
struct SecretValue(bool);

impl<'de> Deserialize<'de> for SecretValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = SecretValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<SecretValue, E> {
        Ok(SecretValue(true))
    }

    fn visit_u64<E>(self, _: u64) -> Result<SecretValue, E> {
        Ok(SecretValue(true))
    }

    fn visit_i64<E>(self, _: i64) -> Result<SecretValue, E> {
        Ok(SecretValue(true))
    }

    fn visit_f64<E>(self, _: f64) -> Result<SecretValue, E> {
        Ok(SecretValue(true))
    }

    fn visit_str<E>(self, _: &str) -> Result<SecretValue, E> {
        Ok(SecretValue(true))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<SecretValue, A::Error> {
        let mut is_present = false;
        while list.next_element::<de::IgnoredAny>()?.is_some() {
            is_present = true;
        }
        Ok(SecretValue(is_present))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretValue, A::Error> {
        while map
            .next_entry::<de::IgnoredAny, de::IgnoredAny>()?
            .is_some()
        {}
        Ok(SecretValue(true))
    }
}

/// The schema of a secret.
#[cfg(feature = "schema")]
mod schema {
    use super::Secret;
    use alloc::borrow::Cow;
    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    impl JsonSchema for Secret {
        fn schema_name() -> Cow<'static, str> {
            "Secret".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"description": "a secret, which has no place here"})
        }
    }
}
