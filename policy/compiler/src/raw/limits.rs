//! Rates, costs and daily budgets, and the service for shared limits.

use serde::{Deserialize, Serialize};
use tensorgate_policy::values::{Scope, ServiceFailure};

use tensorgate_policy::policy::{DEFAULT_SLOTS, MAX_SLOTS, MIN_SLOTS};

use super::ByteSize;
use super::number::{Milliseconds, Number, Requests, Seconds, Slots, Within};

/// Maximum burst.
pub(crate) const MAX_BURST: u64 = 1_000_000;

/// A window of at most 31 days.
pub type Window = Within<1, 2_678_400, Seconds>;

/// A request rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Rate {
    /// Requests per window.
    pub quota: Option<Within<1, 1_000_000_000, Requests>>,
    /// The window.
    pub window_s: Option<Window>,
    /// Maximum burst; the quota by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<Within<1, MAX_BURST, Requests>>,
    /// `global`: shared by all gateways through `rate_limit_service`; `local` (default): per
    /// gateway, and for messages of streams per host. Where only the body names the model, bodies
    /// larger than `listen.judge_bytes` are counted per host, too.
    #[serde(skip_serializing_if = "Scope::is_local")]
    pub scope: Scope,
    /// With `scope: local`: what divides the limit. By default each gateway has all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_share: Option<LocalShare>,
}

/// A rate of request contents: one or more amounts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cost {
    /// Elements per window and per burst.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elements: Option<u64>,
    /// Bytes in OIP's raw form per window and per burst; for a raw body, its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<ByteSize>,
    /// With `openai`: tokens per window and per burst: the maximum of a request's texts plus the
    /// tokens that it may generate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// The window.
    pub window_s: Option<Window>,
    /// `global`: shared by all gateways through `rate_limit_service`; `local` (default): per host.
    #[serde(skip_serializing_if = "Scope::is_local")]
    pub scope: Scope,
    /// With `scope: local`: what divides the limit. By default each gateway has all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_share: Option<LocalShare>,
}

/// Daily limits: one or more amounts.
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
    /// Bytes of input tensors in OIP's raw form; for a raw body, its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<ByteSize>,
    /// With `openai`: tokens, counted as for a cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// `day`: between two midnights, UTC.
    pub per: Option<Period>,
    /// `global`: shared by all gateways through `rate_limit_service`; `local` (default): per
    /// gateway, and for contents and messages of streams per host. Bodies larger than
    /// `listen.judge_bytes` are counted as for a rate.
    #[serde(skip_serializing_if = "Scope::is_local")]
    pub scope: Scope,
    /// With `scope: local`: what divides the limit. By default each gateway has all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_share: Option<LocalShare>,
}

impl Budget {
    /// Whether it limits contents of requests.
    pub const fn limits_contents(&self) -> bool {
        self.elements.is_some() || self.bytes.is_some() || self.tokens.is_some()
    }
}

/// Limits of each end user or each source of a client, counted by each host in a fixed number of
/// slots. Those of one slot share its quota.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CallerLimits {
    /// Request rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Cost limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Daily limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Slots of each client.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub slots: Number<{ MIN_SLOTS as u64 }, { MAX_SLOTS as u64 }, { DEFAULT_SLOTS as u64 }, Slots>,
}

impl CallerLimits {
    /// Whether they limit requests.
    pub fn limits_requests(&self) -> bool {
        count_requests(self.rate.as_ref(), self.budget.as_ref())
    }
}

/// Whether any of them limits requests.
pub(super) fn count_requests(rate: Option<&Rate>, budget: Option<&Budget>) -> bool {
    rate.is_some() || budget.is_some_and(|it| it.requests.is_some())
}

/// Period of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Period {
    /// A calendar day, UTC.
    Day,
}

/// What a limit of scope `local` is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LocalShare {
    /// The number of pods that `tensorgate render` writes. A gate of `tensorgate up` is one.
    Replicas,
}

/// Service for limits of scope `global`: exactly one of `redis` and `endpoint`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RateLimitService {
    /// tensorgate's own service in the sandbox host, with counters in a shared Redis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,
    /// Another server of Envoy's rate limit protocol (`envoy.service.ratelimit.v3`):
    /// `http://host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Domain of these limits in a shared service; `tensorgate` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    // With two cores and two other busy processes, one of a thousand calls took 17 ms, and with
    // eight the longest took 55 ms. So Envoy's default of 20 ms fails on a busy machine.
    /// Timeout of a call. Each failure counts a request alone. While Redis is away, five requests
    /// wait for this time, and then two a second.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub timeout_ms: Number<1, 1_000, 100, Milliseconds>,
    /// Fallback while the service fails; `local` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<ServiceFailure>,
}

/// A Redis.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Redis {
    /// `redis://host:port/database` or, over TLS, `rediss://…`; port 6379 and database 0 by
    /// default.
    pub url: Option<String>,
    /// With `rediss`: CA file, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// User name; Redis's default user if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password file; read again for each connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
}
