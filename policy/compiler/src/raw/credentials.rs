//! Credentials in the policy document: issuers, certificates, client networks and revocations.
//!
//! Files named here (`jwks.file`, `api_keys_file`, `jti_file`, `keys_file`, `certificates_file`)
//! are read when the policy is loaded, and their contents replace the names: no enforcement point
//! reads a file. The listener's certificates and keys, and `jwks.ca`, are read by Envoy and stay
//! names.

use core::fmt;
use std::collections::BTreeMap;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tensorgate_policy::values::Jwk;

use super::number::{Failures, Number, Seconds, Within};

/// Maximum lifetime of a token: a hundred years. There is always a limit.
const MAX_LIFETIME_S: u64 = 36_525 * 86_400;

/// A token issuer and its keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Issuer {
    /// `iss` of its tokens, case-sensitive. Only an issuer with `trust_domain` may lack it.
    pub issuer: Option<String>,
    /// SPIFFE trust domain, without `spiffe://`, if the tokens are JWT-SVIDs. Tokens without `iss`
    /// are this issuer's if `sub` is an ID of the trust domain, and `sub` of all its tokens must be
    /// one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<String>,
    /// Accepted values of `aud`, and of the claim that `audiences_claim` names.
    pub audiences: Vec<String>,
    /// Claim that names the audience of tokens without `aud`, such as `client_id` (Amazon Cognito),
    /// `azp` or `cid`. In a token that also has `aud`, both must name an accepted one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audiences_claim: Option<String>,
    /// `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `ES512`,
    /// `EdDSA`.
    pub algorithms: Vec<String>,
    /// Its public keys.
    pub jwks: Option<Jwks>,
    /// Maximum lifetime of a token, `exp` minus `iat`.
    pub max_lifetime_s: Option<Within<1, MAX_LIFETIME_S, Seconds>>,
    /// Tolerated clock difference. Beyond 300 s `exp` and `nbf` would mean little.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub clock_skew_s: Number<0, 300, 30, Seconds>,
    /// Claims that every token must carry: a text or a list of texts, each of which must equal the
    /// claim or be in it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub required_claims: BTreeMap<String, Texts>,
    /// Scopes that operations require.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Scopes>,
    /// Claims of verified tokens that are forwarded as header fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claim_to_headers: Vec<ClaimToHeader>,
    /// Claim that names the end user, for limits under `per_user`, such as `sub`: a text or a whole
    /// number, which is the same user as its decimal text. Nested keys are separated by dots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_claim: Option<String>,
}

/// A claim and its header field. Fields of that name from clients are never forwarded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClaimToHeader {
    /// The claim: a text, number, boolean or list of texts without commas, joined by commas. Nested
    /// keys are separated by dots.
    pub claim: Option<String>,
    /// The field, `x-…`. It is omitted if the token has no such claim or an unsuitable value.
    pub header: Option<String>,
}

/// A scope per operation; operations without one require none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Scopes {
    /// For inference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infer: Option<String>,
    /// For streams of messages and streamed responses.
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
    /// URL of the key set; https, or http on loopback. The gate fetches it through Envoy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Of a URL: CA file of its server, PEM, relative to the policy; the system's by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Of a URL: fetch interval; 300 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_s: Option<Number<1, 86_400, 300, Seconds>>,
    /// Of a URL: validity of keys after the last fetch; 3600 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_s: Option<u64>,
    /// Its keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Jwk>,
}

/// Token that authenticates a client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JwtRule {
    /// A key of `issuers`.
    pub issuer: Option<String>,
    /// `sub`, case-sensitive: a text. A `sub` that is a number matches no subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Further required claims: a text or a list of texts, each of which must equal the claim or be
    /// in it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, Texts>,
    /// Required scopes (`scope` or `scp`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// Client certificate that authenticates a client: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MtlsRule {
    /// The only URI subject alternative name, `spiffe://trust-domain/path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spiffe: Option<String>,
    /// The first DNS subject alternative name; no wildcards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<String>,
}

/// Metadata of another filter of the same proxy that authenticates a client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MetadataRule {
    /// Namespace of the dynamic metadata, such as `envoy.filters.http.jwt_authn`.
    pub filter: Option<String>,
    /// Key in the metadata; nested keys are separated by dots.
    pub claim: Option<String>,
    /// Required text; the client's name by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Required text of `iss` beside it, if that filter trusts several issuers with their own
    /// subjects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
}

/// Revoked credentials, which are never accepted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Revoked {
    /// File of tokens' `jti`, one per line, relative to the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti_file: Option<String>,
    /// File of API keys' SHA-256 digests, one per line, relative to the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys_file: Option<String>,
    /// File of client certificates' SHA-256 fingerprints, one per line, relative to the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates_file: Option<String>,
    /// File of client certificates' serial numbers in hex, one per line, relative to the policy.
    /// The identifier of the authority's key may follow after a blank; without it, all authorities
    /// match.
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
    /// Client certificates by serial number in lower-case hex, optionally with the identifier of
    /// the authority's key after a blank.
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
    /// All of these must authenticate the same client.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub all_of: Vec<String>,
}

/// Number of wrong credentials after which further checks of a source are rate-limited. Counted per
/// source and credential prefix, and per source if all credentials differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Lockout {
    /// Failures within a window. Beyond the maximum a lock would never occur.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub failures: Number<1, 10_000, 10, Failures>,
    /// The window.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub window_s: Number<1, 3_600, 60, Seconds>,
    /// Duration of a lock.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub for_s: Number<1, 86_400, 300, Seconds>,
}

/// Allowed locations of API keys; others are rejected. The key is removed before the request is
/// forwarded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ApiKeyLocations {
    /// Header fields; `x-api-key` and `authorization` (`Bearer tg_…`) by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<String>>,
    /// A cookie's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// The name of a query parameter.
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
    /// Authorities of client certificates, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<String>,
    /// Revocation lists of these authorities, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_crl: Option<String>,
    /// Names of `trusted_hops` proxies in front. Their `x-forwarded-client-cert` about their own
    /// clients is trusted.
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
                Ok(Texts(vec![value.into()]))
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

/// The schema of a type with two forms.
#[cfg(feature = "schema")]
mod schema {
    use super::Texts;
    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use std::borrow::Cow;

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
}
