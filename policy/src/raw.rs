//! What users write, field by field, before anything has been checked.
//!
//! Unknown keys are refused. Fields that a policy must have are still optional here, so that validation
//! can report every missing one at once instead of the first. Serialising gives the canonical form.

mod audit;
mod backend;
mod capture;
mod composition;
mod credentials;
mod decoupled;
mod json;
mod limits;
mod listen;
mod lookup;
mod mode;
mod openai;
mod reach;
mod shared;
mod signing;
mod spelling;
mod tensors;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Deserializer, Serialize};

pub use audit::{Audit, AuditFailure};
pub use backend::{
    AdaptiveConcurrency, Backend, BackendKind, BackendTls, CircuitBreaker, HealthCheck,
    OutlierDetection, Retry,
};
pub use capture::{CallOutcome, Capture};
pub use composition::{
    Chain, Ensemble, EnsembleStep, GrantHandlers, Sticky, VersionRule, Versions,
};
pub use credentials::{
    ApiKeyPlaces, ClaimToHeader, Issuer, Jwk, Jwks, JwtRule, KeySet, Lockout, MetadataRule,
    MtlsRule, Requires, Revoked, Scopes, Secret, Texts, Tls,
};
pub use decoupled::Decoupled;
pub use json::{BytesAs, Json, Place};
pub use limits::{Budget, Cost, Period, Rate, RateLimitService, Redis, Scope, ServiceFailure};
pub use listen::{Health, Limits, Listen};
pub use lookup::{KeyType, Lookup, LookupKind};
pub use mode::{Enforcement, Mode, Modes};
pub use openai::{
    Chat, CompiledTexts, Completions, Constraints, Embeddings, Grammars, Images, OpenAi, Tools,
};
pub use reach::Fetch;
pub use shared::Shared;
pub use signing::SigningKey;
pub use spelling::{ByteSize, Dim, Scalar};
pub use tensors::{ChannelRanges, Input, Media, Output, Role, Url};

/// A whole `gate.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Policy {
    /// The format's version: 1.
    pub version: Option<u64>,
    /// Where the gate listens and the bounds on what it reads.
    pub listen: Listen,
    /// Who may sign tokens, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub issuers: BTreeMap<String, Issuer>,
    /// Who may call, by name.
    pub clients: BTreeMap<String, Client>,
    /// Named sets of clients.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Vec<String>>,
    /// What counts no more.
    #[serde(skip_serializing_if = "Revoked::is_empty")]
    pub revoked: Revoked,
    /// Inference servers, by name.
    pub backends: BTreeMap<String, Backend>,
    /// Who may sign components, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, SigningKey>,
    /// Sandboxed handlers, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub handlers: BTreeMap<String, Handler>,
    /// Feature services that handlers may have asked, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub lookups: BTreeMap<String, Lookup>,
    /// Models and their contracts, by public name.
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, Model>"))]
    pub models: BTreeMap<String, Shared<Model>>,
    /// Who may do what with which model, and how often.
    pub grants: Vec<Grant>,
    /// Who counts what grants limit across gateways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit_service: Option<RateLimitService>,
    /// What wrong credentials come to; without it each is judged like the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lockout: Option<Lockout>,
    /// The audit log. It is always written: without this section, with the section's defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<Audit>,
    /// Calls of handlers that are kept, to be run again; none without this section.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture: Option<Capture>,
}

/// A client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Client {
    /// API keys that prove it; several while one is rotated out.
    #[serde(deserialize_with = "exact")]
    pub api_keys: Vec<ApiKey>,
    /// Requests to models in flight at once, whatever the grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
    /// A file of further ones, relative to the policy: a line is a digest and, after a blank, its last day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_keys_file: Option<String>,
    /// Tokens that prove it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Box<JwtRule>>,
    /// Certificates that prove it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtls: Option<Box<MtlsRule>>,
    /// Another filter's word for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Box<MetadataRule>>,
    /// Networks that it calls from; anywhere unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<String>>,
}

/// A list without room for more: there is one for each of a hundred thousand clients.
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
    /// The last day on which it counts, `YYYY-MM-DD`, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
}

/// A sandboxed handler.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Handler {
    /// The component's file, relative to the policy, or `builtin:` and the name of one that is installed with the host.
    pub component: Option<String>,
    /// SHA-256 of that file, 64 lower-case hex digits.
    pub sha256: Option<String>,
    /// Keys of which one must have signed the component; its signature lies beside it, as `FILE.sigstore.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<Vec<String>>,
    /// What that signature must call the component, `name@version`; whatever its signer says unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_as: Option<String>,
    /// Instructions a call, in wasmtime's fuel units.
    pub fuel: Option<u64>,
    /// Linear memory an instance.
    pub memory_bytes: Option<ByteSize>,
    /// A call, instantiation included.
    pub timeout_ms: Option<u64>,
    /// What the handler's `config` import answers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// Files that the host fetches for it. A component that asks for any is loaded with this alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetch: Option<Fetch>,
    /// Lookups that it may ask for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lookups: Vec<String>,
}

/// A model and its contract.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Model {
    /// Which backend serves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// In place of a backend: the models that answer together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ensemble: Option<Ensemble>,
    /// Its name there, if another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_model: Option<String>,
    /// Versions that may be named; a request that names none means the single one, or one by weight.
    pub versions: Versions,
    /// With weights: what keeps to the version that it got. Each request is by itself unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// Protocols it may be called by: `oip-rest`, `oip-grpc`, `tf-serving-rest`, `tf-serving-grpc`, `torchserve-rest`, `torchserve-grpc`, `json`, or `openai` alone. A backend is spoken to in its own.
    pub protocols: Vec<String>,
    /// Content codings in which inferences may come beside plain ones: `gzip`, `deflate`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub encodings: Vec<String>,
    /// What the backend gets.
    pub inputs: Vec<Input>,
    /// What the backend answers.
    pub outputs: Vec<Output>,
    /// Request parameters that may be sent, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, ParameterRule>,
    /// With `json`: its route, and where its tensors sit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<Json>,
    /// With `openai`, in place of inputs and outputs: what may be asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openai: Option<OpenAi>,
    /// It may answer one message of a stream several times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoupled: Option<Decoupled>,
    /// What may be in flight to it at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<ModelLimits>,
    /// Which kinds of proof it asks callers for, beside a grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requires: Option<Requires>,
    /// The handlers that make `inputs` of what the client sent, one after another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<Chain>,
    /// With `preprocess`: what the client sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepts: Option<Accepts>,
    /// The handlers that make `returns` of `outputs`, one after another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postprocess: Option<Chain>,
    /// With `postprocess`: what the client gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returns: Option<Returns>,
}

/// What may be in flight to a model at once, all clients together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelLimits {
    /// Inferences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
    /// Bytes of their bodies as they came; of a compressed one, what it may become.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight_bytes: Option<ByteSize>,
}

/// What a client sends to a model with a preprocess handler: exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Accepts {
    /// Tensors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// A body as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<RawBody>,
}

/// A body, or the one file in it, that a handler takes as it is: over REST, and with TorchServe's protocols.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RawBody {
    /// Media types, lower-case, without parameters.
    pub content_types: Vec<String>,
    /// Its size.
    pub max_bytes: Option<ByteSize>,
    /// It is a file of these kinds and sizes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media: Option<Media>,
}

/// What a client gets from a model with a postprocess handler.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Returns {
    /// Tensors.
    pub outputs: Vec<Output>,
}

/// A request parameter's type and bounds: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ParameterRule {
    /// An integer in `[least, greatest]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub int: Option<(i64, i64)>,
    /// A finite number in `[least, greatest]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub float: Option<(f64, f64)>,
    /// A boolean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bool: Option<bool>,
    /// One of these strings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_of: Option<Vec<String>>,
}

/// Who may do what with which model, and how often.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Grant {
    /// Its name: buckets, logs and rate answers carry it.
    pub name: Option<String>,
    /// Client names and `group:` names.
    pub clients: Vec<String>,
    /// Model names, `name@version` for one version.
    pub models: Vec<String>,
    /// `infer`, `stream` (inference over a stream of messages, or answered in pieces), `metadata`, `ready`.
    pub operations: Vec<String>,
    /// How often, for each client by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// What inferences may cost, for each client by itself: charged once a request is checked, and before it is sent on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// What each client has a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Requests in flight at once, for each client by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
    /// Whether rates, costs and rules on values refuse or only tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Handlers of these clients' own, by model.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub handlers: BTreeMap<String, GrantHandlers>,
    /// The outputs that these clients may ask for and get; all of the contract's unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Vec<String>>,
    /// Decimals of the floats that these clients get, where the contract has more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_decimals: Option<u64>,
    /// Class scores that these clients get of each row, where the contract has more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u64>,
}
