//! The policy document, before validation.
//!
//! Unknown keys are rejected. Required fields are optional here, so that validation can report all
//! missing ones at once. Serializing gives the canonical form.

mod artifact;
mod audit;
mod audit_export;
mod backend;
mod capture;
mod composition;
mod credentials;
mod decoupled;
mod egress;
mod guardrail;
mod json;
mod limits;
mod listen;
mod lookup;
mod mode;
mod number;
mod openai;
mod parameters;
mod reload;
mod signing;
mod spelling;
mod tensors;
mod tracing;
mod watch;
mod webhook;

use std::collections::BTreeMap;

pub use artifact::{Artifact, ArtifactException};
pub use audit::Audit;
pub use audit_export::{AuditExport, ExportFormat, OtlpExport};
pub use backend::{
    AdaptiveConcurrency, Backend, BackendTls, CircuitBreaker, HealthCheck, OutlierDetection, Retry,
};
pub use capture::Capture;
pub(crate) use capture::MAX_CALL_BYTES;
pub use composition::{
    Chain, Ensemble, EnsembleStep, GrantHandlers, Sticky, VersionRule, Versions,
};
pub use credentials::{
    ApiKeyLocations, ClaimToHeader, Issuer, Jwks, JwtRule, Lockout, MetadataRule, MtlsRule,
    Requires, Revoked, Scopes, Texts, Tls,
};
pub use decoupled::Decoupled;
pub use egress::Fetch;
pub use guardrail::Guardrail;
pub use json::{BytesAs, Json, TensorPointer};
pub(crate) use limits::MAX_BURST;
pub use limits::{
    Budget, CallerLimits, Cost, LocalShare, Period, Rate, RateLimitService, Redis, Window,
};
pub(crate) use listen::MAX_BODY_BYTES;
pub use listen::{Judge, Limits, Listen};
pub use lookup::Lookup;
pub use mode::{Enforcement, Mode, Modes};
pub(crate) use number::Items;
pub use number::{Number, Unit, Within};
pub use openai::{
    AnswerLinks, CacheSalt, Chat, Completions, Constraints, Embeddings, ImageLinks, Images,
    MaxChoices, MaxLogprobs, MaxStop, MaxTokens, OpenAi, Profile, RequestLinks, Schemas,
    SpecialTokens, Tools, UnofferedCalls,
};
pub(crate) use parameters::MAX_STRING_BYTES;
pub use parameters::{ParameterRule, TextRule};
pub use reload::{Reload, ReloadHold};
use serde::{Deserialize, Deserializer, Serialize};
pub use signing::SigningKey;
pub use spelling::{Dim, Scalar};
pub use tensorgate_policy::values::ByteSize;

use number::{Bytes, Decimals, FuelUnits, Milliseconds, Requests, Scores};

/// Requests in flight, at most more than any proxy supports.
pub type InFlight = Within<1, 1_000_000, Requests>;
/// Decimal places of outputs; a double has no more.
pub type RoundDecimals = Within<0, 15, Decimals>;
/// Number of scores of an output.
pub type TopK = Within<1, { u32::MAX as u64 }, Scores>;
/// One page of WebAssembly.
const PAGE_BYTES: u64 = 64 << 10;
use tensorgate_policy::values::Shared;
use tensorgate_policy::values::{KeyFormat, Scope};
pub use tensors::{ChannelRanges, Input, Media, Output, Role, Url};
pub use tracing::Tracing;
pub use watch::{RuleExceptions, RuleSettings, Watch};
pub use webhook::Webhook;

/// A whole `gate.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Policy {
    /// The format's version: 1.
    pub version: Option<u64>,
    /// Address and limits of the listener.
    pub listen: Listen,
    /// Token issuers, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub issuers: BTreeMap<String, Issuer>,
    /// Clients, by name.
    pub clients: BTreeMap<String, Client>,
    /// Named sets of clients.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Vec<String>>,
    /// Revoked credentials.
    #[serde(skip_serializing_if = "Revoked::is_empty")]
    pub revoked: Revoked,
    /// Inference servers, by name.
    pub backends: BTreeMap<String, Backend>,
    /// Keys that sign components and models, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, SigningKey>,
    /// Sandboxed handlers, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub handlers: BTreeMap<String, Handler>,
    /// Feature services that handlers may query, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub lookups: BTreeMap<String, Lookup>,
    /// Models and their contracts, by public name.
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, Model>"))]
    pub models: BTreeMap<String, Shared<Model>>,
    /// Permissions of clients to use models, with limits.
    pub grants: Vec<Grant>,
    /// Service that counts limits of scope `global`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit_service: Option<RateLimitService>,
    /// Lockout after wrong credentials; none if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lockout: Option<Lockout>,
    /// The audit log. It is always written; without this section, with the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<Audit>,
    /// Captured handler calls for replay; none if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture: Option<Capture>,
    /// Anomaly rules on the audit stream; all run if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watch>,
    /// Changes of this policy while the gate runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reload: Option<Reload>,
}

/// A client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Client {
    /// API keys of the client; several during a rotation.
    #[serde(deserialize_with = "exact")]
    pub api_keys: Vec<ApiKey>,
    /// Maximum requests in flight, over all grants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<InFlight>,
    /// A file of further keys, relative to the policy. A line is a digest, optionally followed by
    /// the last valid day and `any` for the format, separated by blanks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_keys_file: Option<String>,
    /// Tokens that authenticate the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Box<JwtRule>>,
    /// Certificates that authenticate the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtls: Option<Box<MtlsRule>>,
    /// Metadata of another filter that authenticates the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Box<MetadataRule>>,
    /// Networks that it may call from; any if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<String>>,
}

/// A list without spare capacity: there is one for each of a hundred thousand clients.
fn exact<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let mut list = Vec::deserialize(from)?;
    list.shrink_to_fit();
    Ok(list)
}

/// An API key, by digest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ApiKey {
    /// SHA-256 of the whole key, `tg_` included, 64 lower-case hex digits.
    pub sha256: Option<String>,
    /// Last valid day, `YYYY-MM-DD`, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Box<str>>,
    /// Format of the key: `tensorgate`, or `any` for keys of another system.
    #[serde(skip_serializing_if = "KeyFormat::is_tensorgate")]
    pub format: KeyFormat,
}

/// A sandboxed handler.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Handler {
    /// The component's file, relative to the policy, or `builtin:` and the name of an installed
    /// one.
    pub component: Option<String>,
    /// SHA-256 of that file, 64 lower-case hex digits.
    pub sha256: Option<String>,
    /// Keys of which one must have signed the component; the signature is in `FILE.sigstore.json`
    /// beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<Vec<String>>,
    /// Required `name@version` in the signature; any if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_as: Option<String>,
    /// Fuel per call, in wasmtime's units.
    pub fuel: Number<1, 1_000_000_000_000, 50_000_000, FuelUnits>,
    /// Linear memory per instance. All concurrent calls must fit into the host.
    pub memory_bytes: Number<PAGE_BYTES, { 1 << 30 }, { 64 << 20 }, Bytes>,
    /// Timeout of a call, including instantiation.
    pub timeout_ms: Number<1, 60_000, 50, Milliseconds>,
    /// Values of the handler's `config` import.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// Files that the host fetches for it. Components that import fetching need this section.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetch: Option<Fetch>,
    /// Lookups that it may request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lookups: Vec<String>,
    /// Parameters of requests that its `context` shows; none by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<String>,
    /// Whether callers get its own text when it rejects an input; `private` by default.
    #[serde(skip_serializing_if = "HandlerErrors::is_private")]
    pub errors: HandlerErrors,
}

/// Whether callers get a handler's own text when it rejects an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum HandlerErrors {
    /// Callers get the title of the reason.
    #[default]
    Private,
    /// Callers also get the handler's text for them: at most 256 characters, without control
    /// characters. The text of a fault stays in the log.
    Public,
}

impl HandlerErrors {
    /// Whether callers get only the title of the reason.
    pub const fn is_private(&self) -> bool {
        matches!(self, Self::Private)
    }
}

/// A model and its contract.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Model {
    /// Name of its backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Instead of a backend: models that answer together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ensemble: Option<Ensemble>,
    /// Its name at the backend, if different.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_model: Option<String>,
    /// Public versions. A request without a version uses the only one, or one by weight.
    pub versions: Versions,
    /// With weights: what stays on its version. By default each request is routed separately.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// Protocols of clients: `oip-rest`, `oip-grpc`, `tf-serving-rest`, `tf-serving-grpc`,
    /// `torchserve-rest`, `torchserve-grpc`, `json`, or `openai` alone. The backend uses its own
    /// protocol.
    pub protocols: Vec<String>,
    /// Accepted content codings of inferences besides plain: `gzip`, `deflate`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub encodings: Vec<String>,
    /// Inputs of the backend.
    pub inputs: Vec<Input>,
    /// Outputs of the backend.
    pub outputs: Vec<Output>,
    /// Allowed request parameters, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, ParameterRule>,
    /// Names that requests may have and that the backend never gets: members of OpenAI's API, and
    /// parameters of requests, inputs and requested outputs that no rule names. With `openai`
    /// also JSON Pointers to members of messages, functions and stream options, with `*` for every
    /// element: `/messages/*/agent`, `/tools/*/id`, `/tools/*/function/id`, `/stream_options/id`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
    /// With `json`: its route and the locations of its tensors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<Json>,
    /// Instead of a backend, inputs, outputs and protocols: its preprocess handlers answer Agent
    /// Router's `POST /analyze`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardrail: Option<Guardrail>,
    /// With `openai`, instead of inputs and outputs: allowed requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openai: Option<OpenAi>,
    /// The model may answer one message of a stream several times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoupled: Option<Decoupled>,
    /// Limits of requests in flight, counted by each host, or by each gateway without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<ModelLimits>,
    /// Daily limits of its inferences, over all clients. Each host counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Required kinds of proof, in addition to a grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requires: Option<Requires>,
    /// Handlers that convert the client's input to `inputs`, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<Chain>,
    /// With `preprocess`: the client's input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepts: Option<Accepts>,
    /// Handlers that convert `outputs` to `returns`, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postprocess: Option<Chain>,
    /// With `postprocess`: the client's outputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returns: Option<Returns>,
    /// Its files, and who vouches for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
}

/// Limits of requests in flight to a model, over all clients. Each host counts them, or each
/// gateway without one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelLimits {
    /// Inferences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<InFlight>,
    /// Bytes of bodies as received; for a compressed body, its expanded size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight_bytes: Option<Within<1, { 1 << 40 }, Bytes>>,
}

/// Input of clients for a preprocess handler: exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Accepts {
    /// Tensors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// A raw body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<RawBody>,
}

/// A raw body, or a single file in it, for a handler: over REST and with TorchServe's protocols.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RawBody {
    /// Media types, lower-case, without parameters.
    pub content_types: Vec<String>,
    /// Maximum size.
    pub max_bytes: Option<ByteSize>,
    /// Allowed file types and sizes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media: Option<Media>,
}

/// Outputs for clients from a postprocess handler.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Returns {
    /// Tensors.
    pub outputs: Vec<Output>,
}

/// Permission of clients to use models, with limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Grant {
    /// Name of the grant in buckets, logs and rate headers.
    pub name: Option<String>,
    /// Client names and `group:` names.
    pub clients: Vec<String>,
    /// Model names; `name@version` for one version.
    pub models: Vec<String>,
    /// `infer`, `stream` (a stream of messages, or a streamed response), `metadata`, `ready`.
    pub operations: Vec<String>,
    /// Request rate of each client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Cost limits of each client, charged after validation and before dispatch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Daily limits of each client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Limits of each end user of a client: of each value of `user_claim` of the token's issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_user: Option<CallerLimits>,
    /// Limits of each source of a client: of each IPv4 address, and of each /64 of IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_source: Option<CallerLimits>,
    /// Maximum requests in flight of each client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<InFlight>,
    /// Whether rates, costs and value rules are enforced or in shadow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The grant's own handlers, by model.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub handlers: BTreeMap<String, GrantHandlers>,
    /// Outputs that the grant's clients may get; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Vec<String>>,
    /// Decimals of floats for the grant's clients, if fewer than in the contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_decimals: Option<RoundDecimals>,
    /// Class scores per row for the grant's clients, if fewer than in the contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<TopK>,
}

/// Fields of the limits of each client of a grant.
pub const CLIENT_LIMITS: [&str; 3] = ["rate", "cost", "budget"];
/// Fields of the limits of each end user.
pub const USER_LIMITS: [&str; 3] = ["per_user.rate", "per_user.cost", "per_user.budget"];
/// Fields of the limits of each source.
pub const SOURCE_LIMITS: [&str; 3] = ["per_source.rate", "per_source.cost", "per_source.budget"];

impl Grant {
    /// The limits of each client that a gateway or the rate-limit service counts, by field: where
    /// each is counted, and what divides it.
    pub fn own_limits(
        &self,
    ) -> impl Iterator<Item = (&'static str, Scope, Option<LocalShare>)> + use<> {
        let own = of_fields(CLIENT_LIMITS, (&self.rate, &self.cost, &self.budget));
        own.into_iter().flatten()
    }

    /// The same with those of each end user and each source.
    pub fn limits(
        &self,
    ) -> impl Iterator<Item = (&'static str, Scope, Option<LocalShare>)> + use<> {
        let of = |limits: Option<&CallerLimits>, names| {
            limits.map(|it| of_fields(names, (&it.rate, &it.cost, &it.budget)))
        };
        let users = of(self.per_user.as_ref(), USER_LIMITS);
        let sources = of(self.per_source.as_ref(), SOURCE_LIMITS);
        let of_callers = [users, sources].into_iter().flatten().flatten().flatten();
        self.own_limits().chain(of_callers)
    }

    /// Whether it limits requests of each client.
    pub fn limits_requests(&self) -> bool {
        limits::count_requests(self.rate.as_ref(), self.budget.as_ref())
    }

    /// The limits of end users and of sources.
    pub fn callers(&self) -> impl Iterator<Item = &CallerLimits> {
        [&self.per_user, &self.per_source].into_iter().flatten()
    }
}

/// The present ones of three limits, each with its field's name.
fn of_fields(
    [of_rate, of_cost, of_budget]: [&'static str; 3],
    (rate, cost, budget): (&Option<Rate>, &Option<Cost>, &Option<Budget>),
) -> [Option<(&'static str, Scope, Option<LocalShare>)>; 3] {
    [
        (rate.as_ref()).map(|it| (of_rate, it.scope, it.local_share)),
        (cost.as_ref()).map(|it| (of_cost, it.scope, it.local_share)),
        (budget.as_ref()).map(|it| (of_budget, it.scope, it.local_share)),
    ]
}
