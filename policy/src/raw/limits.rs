//! How often, at what cost and how much a day; and who counts it where several gateways share a limit.

use alloc::string::String;

use super::ByteSize;
use serde::{Deserialize, Serialize};

/// A request rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Rate {
    /// Requests a window.
    pub quota: Option<u64>,
    /// The window.
    pub window_s: Option<u64>,
    /// Requests at once; the quota unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// `global`: shared by all gateways over `rate_limit_service`; `local`, this gateway's own, unless given.
    #[serde(skip_serializing_if = "Scope::is_local")]
    pub scope: Scope,
}

/// A rate of what requests hold: one of the amounts or several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cost {
    /// Elements a window, and at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elements: Option<u64>,
    /// Bytes in OIP's raw form a window, and at once; of a raw body, its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<ByteSize>,
    /// With `openai`: tokens a window, and at once: as many as a request's texts can come to, and all that it lets be generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// The window.
    pub window_s: Option<u64>,
    /// `global`: shared by all gateways over `rate_limit_service`; `local`, this gateway's own, unless given.
    #[serde(skip_serializing_if = "Scope::is_local")]
    pub scope: Scope,
}

/// What a day has: one of the amounts or several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Budget {
    /// Requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Elements of input tensors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elements: Option<u64>,
    /// Bytes of input tensors in OIP's raw form; of a raw body, its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<ByteSize>,
    /// With `openai`: tokens, as a cost counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// `day`: from midnight to midnight, UTC.
    pub per: Option<Period>,
    /// `global`: shared by all gateways over `rate_limit_service`; `local`, this gateway's own, unless given.
    #[serde(skip_serializing_if = "Scope::is_local")]
    pub scope: Scope,
}

/// How long a budget lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Period {
    /// A calendar day, UTC.
    Day,
}

/// Who counts a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Scope {
    /// This gateway, for itself.
    #[default]
    Local,
    /// The rate limit service, for all gateways that ask it.
    Global,
}

impl Scope {
    /// Whether it is this gateway's own.
    pub const fn is_local(&self) -> bool {
        matches!(self, Self::Local)
    }
}

/// Who counts limits of scope `global`: exactly one of `redis` and `endpoint`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RateLimitService {
    /// Ours, in the sandbox host, with its counts in a Redis that all gateways share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,
    /// Another server of Envoy's rate limit protocol (`envoy.service.ratelimit.v3`): `http://host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// What keeps these limits apart from those of others at the same service; `tensorgate` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// How long a request waits for the service; 20 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// What holds while the service does not answer; `local` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<ServiceFailure>,
}

/// A Redis.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Redis {
    /// `redis://host:port/database` or, over TLS, `rediss://…`; the port is 6379 and the database 0 unless given.
    pub url: Option<String>,
    /// With `rediss`: the authorities that its certificate may be from, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Whom the gate is to Redis; its default user unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The file with the password; read again at each connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
}

/// What holds while the rate limit service does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ServiceFailure {
    /// The same limit, counted by each gateway for itself.
    #[default]
    Local,
    /// Nothing passes that such a limit is over: `overloaded`.
    Deny,
}
