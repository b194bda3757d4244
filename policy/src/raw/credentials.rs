//! What users write about who is who: issuers of tokens, certificates, places that a client calls from, and what was revoked.
//!
//! Files that are named here (`jwks.file`, `api_keys_file`, `jti_file`, `keys_file`, `certificates_file`) are read where the policy is loaded, and what they hold
//! takes the place of their names: no enforcement point reads a file. Certificates and keys of the listener are Envoy's
//! own to read, and stay names; so are those of the authorities of a key set's server (`jwks.ca`).

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Who may sign tokens, and with which keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Issuer {
    /// `iss` of its tokens, character for character.
    pub issuer: Option<String>,
    /// What `aud` must name one of.
    pub audiences: Vec<String>,
    /// `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `EdDSA`.
    pub algorithms: Vec<String>,
    /// Its public keys.
    pub jwks: Option<Jwks>,
    /// The longest life of a token, `exp` less `iat`.
    pub max_lifetime_s: Option<u64>,
    /// How far its clock and ours may differ; 30 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_skew_s: Option<u64>,
    /// What claims of every token must hold, whoever it proves: a text or a list of texts, each of which must be the claim or be in it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub required_claims: BTreeMap<String, Texts>,
    /// Which scope a token must carry for an operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Scopes>,
    /// Claims that go on as header fields to whatever stands behind, once the token is verified.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claim_to_headers: Vec<ClaimToHeader>,
}

/// A claim and its header field. A field of that name that comes from outside never goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClaimToHeader {
    /// The claim: a text, a number, `true`, `false`, or a list of texts, which are joined by commas and so have none. Further keys behind dots.
    pub claim: Option<String>,
    /// The field, `x-…`. It is left out where the token has no such claim, or one that a field cannot hold.
    pub header: Option<String>,
}

/// A scope for each operation; an operation without one asks for none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Scopes {
    /// For inference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infer: Option<String>,
    /// For inference over a stream of messages, and for inference that is answered in pieces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// For a model's metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// For a model's readiness.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// For a model's statistics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistics: Option<String>,
}

/// Public keys: a file, a URL, or the keys themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Jwks {
    /// A JSON Web Key Set (RFC 7517), relative to the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Where the issuer publishes one; https, or http on loopback. The gate fetches it through Envoy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Of a URL: the authorities that its server's certificate may come from, PEM, relative to the policy; the system's unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Of a URL: how often it is fetched; 300 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_s: Option<u64>,
    /// Of a URL: how long keys count after they were fetched last; 3600 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_s: Option<u64>,
    /// Its keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Jwk>,
}

/// A JSON Web Key Set (RFC 7517, 5), as an issuer publishes it. Other members are passed over.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct KeySet {
    /// Its keys.
    pub keys: Vec<Jwk>,
}

/// One JSON Web Key (RFC 7517). Members that mean nothing here, certificates among them, are passed over (4 of that RFC).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Jwk {
    /// `RSA`, `EC`, `OKP`.
    pub kty: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// The one algorithm that it is for.
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

/// Whether a secret stood here. What it was is not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Secret(pub bool);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        de::IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

/// A token that proves a client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JwtRule {
    /// A key of `issuers`.
    pub issuer: Option<String>,
    /// `sub`, character for character.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What further claims must hold: a text or a list of texts, each of which must be the claim or be in it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, Texts>,
    /// Scopes that the token must carry, all of them (`scope` or `scp`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// A client certificate that proves a client: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MtlsRule {
    /// The one URI of its subject alternative names, `spiffe://trust-domain/path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spiffe: Option<String>,
    /// The first DNS name of its subject alternative names; no wildcards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<String>,
}

/// What another filter of the same proxy has proven of a client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MetadataRule {
    /// The namespace of its dynamic metadata, `envoy.filters.http.jwt_authn`.
    pub filter: Option<String>,
    /// The key in it; further keys behind dots.
    pub claim: Option<String>,
    /// The text that must stand there; the client's name unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The text that must stand beside it, at `iss`: needed where that filter believes several issuers, of which each names its own subjects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
}

/// What counts no more, whatever else says it does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Revoked {
    /// A file of tokens' `jti`, one a line, relative to the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti_file: Option<String>,
    /// A file of API keys' SHA-256 digests, one a line, relative to the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys_file: Option<String>,
    /// A file of client certificates' SHA-256 fingerprints, one a line, relative to the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates_file: Option<String>,
    /// A file of client certificates' serial numbers, one a line in hex digits, relative to the policy. Behind a blank the identifier of the authority's
    /// key, which the certificate has too; without it, of every authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serials_file: Option<String>,
    /// Tokens, by `jti`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jti: Vec<String>,
    /// API keys, by SHA-256 digest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Client certificates, by the SHA-256 of their DER form.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<String>,
    /// The same by serial number, in lower-case hex digits, and behind a blank the identifier of the authority's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serials: Option<Vec<String>>,
}

impl Revoked {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Kinds of proof (`api_key`, `jwt`, `mtls`, `metadata`): exactly one of the two lists.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Requires {
    /// One of these is enough.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub any_of: Vec<String>,
    /// Every one of these must prove the same client.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub all_of: Vec<String>,
}

/// After how many wrong credentials a source's next ones are checked at a bounded pace only: each source with one credential prefix by itself, and a
/// source whose wrong ones are all different.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Lockout {
    /// Wrong ones within a window; 10 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<u64>,
    /// The window; 60 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_s: Option<u64>,
    /// How long a lock holds; 300 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_s: Option<u64>,
}

/// Where a request may carry its API key: in one of these places, or it is refused. The gate takes it away before the request goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ApiKeyPlaces {
    /// Header fields; `x-api-key` and `authorization` (`Bearer tg_…`) unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<String>>,
    /// A cookie's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// The name of a parameter of the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

/// TLS of the listener. Files are relative to the policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tls {
    /// The certificate chain, PEM.
    pub cert: Option<String>,
    /// Its private key, PEM.
    pub key: Option<String>,
    /// Authorities that client certificates may come from, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<String>,
    /// Revocation lists of these authorities, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_crl: Option<String>,
    /// Proxies in front, `trusted_hops` of them, whose certificates have one of these names: what they say of their own clients' certificates in
    /// `x-forwarded-client-cert` is believed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forwarded_by: Vec<MtlsRule>,
}

/// One text, or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts(pub Vec<String>);

impl Serialize for Texts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => serializer.serialize_str(one),
            several => several.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Texts, E> {
                Ok(Texts(alloc::vec![value.into()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// The schemas of what is written in several ways or not kept.
#[cfg(feature = "schema")]
mod schema {
    use super::{Secret, Texts};
    use alloc::borrow::Cow;
    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    impl JsonSchema for Texts {
        fn schema_name() -> Cow<'static, str> {
            "Texts".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "description": "a text or a list of texts",
                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
            })
        }
    }

    impl JsonSchema for Secret {
        fn schema_name() -> Cow<'static, str> {
            "Secret".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"description": "a secret, which has no place here"})
        }
    }
}
