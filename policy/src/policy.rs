//! A validated policy. All names resolve, all limits are finite, and all grants are unambiguous. By
//! convention only the compiler fills fields, and everything else reads them by getters.
#![expect(
    missing_docs,
    reason = "fields that the compiler fills have their documentation at the getters"
)]

mod credentials;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU64;
use serde::{Deserialize, Serialize};
use tensorgate_values::{Health, KeyFormat, Shared, getters};

use crate::limits::lockout::Lockout;
use crate::request::{Coding, Codings, Operation, Proof, Proofs, Protocol};

pub mod address;
mod allowance;
mod artifact;
mod audit_export;
mod backend;
mod egress;
mod ensemble;
mod filter_part;
mod grant;
mod handler;
mod holder;
mod lookup;
mod model;
mod permissions;
mod records;
pub mod release;
mod routing;
mod rows;
mod service;
mod shadow;
mod stored_models;
mod template;
mod tracing;
mod watch;
mod webhook;

pub use crate::limits::Unit;
pub use allowance::{Allowance, Budget, ChargePreview, Cost, Limit, Rate, RemainingQuota, Wait};
pub use artifact::ModelArtifacts;
pub use artifact::{ArtifactTrust, ModelArtifact, ModelSigner};
pub use audit_export::{AuditExport, OtlpExport};
pub use backend::{Backend, BackendTls, CircuitBreaker, OutlierDetection, Retry, Trust};
pub use credentials::{
    Algorithm, ClaimHeader, ClaimPath, Hash, Issuer, JwtRule, KeyMaterial, MetadataRule, Network,
    PeerName, PublicKey, Revoked, RsaScheme, Serials, Tls,
};
pub use credentials::{KeyLocations, MAX_KEY_HEADER_BYTES};
pub use credentials::{KeySetUrl, Server};
pub use egress::{Fetch, Target};
pub use ensemble::{Ensemble, EnsembleStep, TensorMapping};
pub use filter_part::filter_part;
pub use grant::{CallerLimits, Grant, OwnHandlers};
pub use grant::{Granted, allowances};
pub use handler::{BUILTIN, Handler};
pub use handler::{SignedAs, SignedBy};
pub use holder::{DEFAULT_SLOTS, Holder, MAX_POLICY_SLOTS, MAX_SLOTS, MIN_SLOTS};
pub use lookup::KEY_PLACEHOLDER;
pub use lookup::Lookup;
pub use model::Rules;
pub use model::{Accepts, Decoupled, EMPTY_FINAL_RESPONSE, Media, Model, ModelLimits};
pub use permissions::{MAX_PERMISSIONS, RoleId};
pub use records::Audit;
pub use records::Capture;
pub use routing::{Routing, ShadowVersion};
pub use service::{Counter, RateLimitService, Redis};
pub use shadow::{Shadow, note};
pub use stored_models::distinct_rules;
pub use template::{Pointer, Step, Template, Templates, TensorPointer, is_taken};
pub use tracing::{SAMPLE_SHARES, Tracing};
pub use watch::{DAY_MINUTES, are_always};
pub use watch::{QuietWindow, RuleSettings, Watch};
pub use webhook::Webhook;

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u32);
    };
}

index!(
    /// Id of a client of one [`Policy`].
    ClientId
);
index!(
    /// Id of a model of one [`Policy`].
    ModelId
);
index!(
    /// Id of a grant of one [`Policy`].
    GrantId
);

/// A validated policy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Policy {
    pub listen: Listen,
    pub issuers: Vec<Issuer>,
    pub revoked: Shared<Revoked>,
    #[serde(deserialize_with = "rows::deserialize")]
    pub clients: Shared<Vec<Client>>,
    /// In the order of their digests. A policy may have a hundred thousand, in each worker.
    #[serde(deserialize_with = "rows::deserialize")]
    pub api_keys: Shared<Vec<ApiKey>>,
    #[serde(with = "stored_models")]
    pub models: Vec<Model>,
    pub templates: Templates,
    pub grants: Vec<Grant>,
    pub rate_limit_service: Option<RateLimitService>,
    pub backends: BTreeMap<String, Backend>,
    pub handlers: BTreeMap<String, Handler>,
    pub granted: Granted,
    /// Operations that clients of a role may perform on any model, for bodies that name the model
    /// later.
    #[serde(skip)]
    pub reachable: BTreeSet<(RoleId, Protocol, Operation)>,
    /// Content types of raw bodies that any model accepts.
    #[serde(skip)]
    pub raw_types: BTreeSet<String>,
    /// Content codings that any model accepts.
    #[serde(skip)]
    pub codings: Codings,
    pub lockout: Option<Lockout>,
    pub audit: Audit,
    pub capture: Option<Capture>,
    pub watch: Watch,
}

getters! { Policy {
    /// The listener and its limits.
    listen: &Listen,
    /// Token issuers, in name order.
    issuers: &[Issuer],
    /// Revoked credentials.
    revoked: &Shared<Revoked>,
    /// All clients, in name order.
    clients: &Shared<Vec<Client>>,
    /// The API keys of all clients, in the order of their digests.
    api_keys: &Shared<Vec<ApiKey>>,
    /// All models, in name order.
    models: &[Model],
    /// All grants, in document order.
    grants: &[Grant],
    /// Inference servers by name.
    backends: &BTreeMap<String, Backend>,
    /// Handlers by name.
    handlers: &BTreeMap<String, Handler>,
    /// The rate-limit service for limits of scope `global`; present if any grant has such a limit.
    rate_limit_service: Option<&RateLimitService>,
    /// The lockout rule for failed credentials.
    lockout: Option<&Lockout>,
    /// Which handler calls are captured.
    capture: Option<&Capture>,
    /// The audit log.
    audit: &Audit,
    /// Which anomaly rules run.
    watch: &Watch,
    /// Models with their own routes.
    templates: &Templates,
} }

impl Policy {
    /// The same with what follows from grants and models.
    pub fn with_summaries(mut self) -> Self {
        let of_role = self.granted.by_role.keys();
        let models = &self.models;
        let reachable = of_role.flat_map(|(role, model, _, operation)| {
            let model = usize::try_from(model.0).ok();
            let model = model.and_then(|model| models.get(model));
            let protocols = model.map(Model::protocols).unwrap_or_default();
            protocols
                .iter()
                .map(|protocol| (*role, *protocol, *operation))
        });
        // Elements are inserted one by one: the code that sorts many is large.
        self.reachable = BTreeSet::new();
        self.reachable.extend(reachable);
        let raw_types = models.iter().flat_map(|model| match model.accepts() {
            Accepts::Raw { content_types, .. } => content_types.as_slice(),
            Accepts::Tensors(_) | Accepts::OpenAi(_) => &[],
        });
        self.raw_types = BTreeSet::new();
        self.raw_types.extend(raw_types.cloned());
        let is_taken = |coding: &Coding| models.iter().any(|model| model.takes(*coding));
        self.codings = Coding::ALL.into_iter().filter(is_taken).collect();
        self
    }

    /// The client with this name.
    pub fn client_id(&self, name: &str) -> Option<ClientId> {
        let clients = &self.clients;
        let index = clients.binary_search_by(|client| client.name.as_str().cmp(name));
        u32::try_from(index.ok()?).ok().map(ClientId)
    }

    /// The model with this public name.
    pub fn model_id(&self, name: &str) -> Option<ModelId> {
        let models = &self.models;
        let index = models.binary_search_by(|model| model.name.as_str().cmp(name));
        u32::try_from(index.ok()?).ok().map(ModelId)
    }

    /// Every grant with its id.
    pub fn grants_by_id(&self) -> impl Iterator<Item = (GrantId, &Grant)> {
        (0..).map(GrantId).zip(&self.grants)
    }

    /// A client; `None` only for an id of another policy.
    pub fn client(&self, id: ClientId) -> Option<&Client> {
        self.clients.get(usize::try_from(id.0).ok()?)
    }

    /// The API keys of a client. All keys of the policy are searched.
    pub fn keys_of(&self, client: ClientId) -> impl Iterator<Item = &ApiKey> {
        self.api_keys.iter().filter(move |key| key.client == client)
    }

    /// A model; `None` only for an id of another policy.
    pub fn model(&self, id: ModelId) -> Option<&Model> {
        self.models.get(usize::try_from(id.0).ok()?)
    }

    /// Every version of every model that has an artifact, in name order. Shadow versions are among
    /// them.
    pub fn artifacts(&self) -> impl Iterator<Item = (&Model, &str, &Shared<ModelArtifact>)> {
        self.models.iter().flat_map(|model| {
            let shadows = model.routing().shadows().iter();
            let versions = model.versions().iter().map(String::as_str);
            let versions = versions.chain(shadows.map(ShadowVersion::version));
            versions.filter_map(move |version| Some((model, version, model.artifact(version)?)))
        })
    }

    /// A grant; `None` only for an id of another policy.
    pub fn grant(&self, id: GrantId) -> Option<&Grant> {
        self.grants.get(usize::try_from(id.0).ok()?)
    }

    /// All permissions: client, model, index of the version, operation and grant.
    pub fn granted(
        &self,
    ) -> impl Iterator<Item = (ClientId, ModelId, u32, Operation, GrantId)> + '_ {
        self.granted.iter()
    }

    /// The grant by which a client may perform an operation on a version of a model, given its
    /// index.
    pub fn grant_for(
        &self,
        client: ClientId,
        model: ModelId,
        version: u32,
        operation: Operation,
    ) -> Option<GrantId> {
        self.granted.get(client, model, version, operation)
    }

    /// Whether a client may perform an operation over a protocol on any model.
    pub(crate) fn reaches(
        &self,
        client: ClientId,
        protocol: Protocol,
        operation: Operation,
    ) -> bool {
        let role = self.granted.role(client);
        role.is_some_and(|role| self.reachable.contains(&(role, protocol, operation)))
    }

    /// All limits of clients under all grants, so that a driver can create their states before the
    /// first request. Users, sources and models have states of their own, which only hosts create.
    pub fn allowances(&self) -> impl Iterator<Item = (&Grant, &Client, Allowance)> {
        let all = self.allowances_with_callers();
        all.filter(|(.., it)| it.holder == Holder::Client)
    }

    /// The same with those of each client's users and sources.
    pub fn allowances_with_callers(&self) -> impl Iterator<Item = (&Grant, &Client, Allowance)> {
        self.grants.iter().flat_map(move |grant| {
            let clients = grant.clients.iter().filter_map(|id| self.client(*id));
            clients.flat_map(move |client| {
                let allowances = grant.per_request().chain(grant.per_content());
                allowances.map(move |allowance| (grant, client, allowance))
            })
        })
    }

    /// Whether any limit is of users, sources or models, which only hosts count.
    pub fn has_host_limits(&self) -> bool {
        self.grants.iter().any(|grant| grant.callers.is_some())
            || self.models.iter().any(|model| model.budget.is_some())
    }

    /// The most states that a host has of users and sources.
    pub fn caller_slots(&self) -> u64 {
        let of_grant = |grant: &Grant| {
            let slots = grant.of_callers().map(|allowance| allowance.holder.slots());
            let clients = u64::try_from(grant.clients.len()).unwrap_or(u64::MAX);
            slots.sum::<u64>().saturating_mul(clients)
        };
        self.grants
            .iter()
            .map(of_grant)
            .fold(0, u64::saturating_add)
    }

    /// Whether any limit is of end users.
    pub fn limits_users(&self) -> bool {
        self.limits_callers(|callers| !callers.per_user.is_empty())
    }

    /// Whether any limit is of sources.
    pub fn limits_sources(&self) -> bool {
        self.limits_callers(|callers| !callers.per_source.is_empty())
    }

    fn limits_callers(&self, limits: impl Fn(&CallerLimits) -> bool) -> bool {
        let mut grants = self.grants.iter();
        grants.any(|grant| grant.callers.as_deref().is_some_and(&limits))
    }

    /// Models on which a client with these proofs may perform an operation over a protocol, in name
    /// order.
    pub fn models_of(
        &self,
        client: &str,
        proofs: Proofs,
        protocol: Protocol,
        operation: Operation,
    ) -> impl Iterator<Item = &str> {
        let client = self.client_id(client);
        let ids = (0..).map(ModelId).zip(&self.models);
        ids.filter_map(move |(id, _)| {
            self.open_to(client?, proofs, id, protocol, operation)
                .map(Model::name)
        })
    }

    /// Whether a client with these proofs may perform an operation over a protocol on any version
    /// of a model.
    pub fn may(
        &self,
        client: &str,
        proofs: Proofs,
        model: &str,
        protocol: Protocol,
        operation: Operation,
    ) -> bool {
        let ids = self.client_id(client).zip(self.model_id(model));
        ids.is_some_and(|(client, id)| {
            self.open_to(client, proofs, id, protocol, operation)
                .is_some()
        })
    }

    /// A model, if a client with these proofs may perform an operation over a protocol on any of
    /// its versions.
    fn open_to(
        &self,
        client: ClientId,
        proofs: Proofs,
        id: ModelId,
        protocol: Protocol,
        operation: Operation,
    ) -> Option<&Model> {
        let model = self.model(id)?;
        let mut versions = 0..u32::try_from(model.versions().len()).unwrap_or(0);
        let is_open = versions
            .any(|version| self.grant_for(client, id, version, operation).is_some())
            && model
                .requires()
                .is_none_or(|requires| requires.met_by(proofs))
            && model.protocols().contains(&protocol);
        is_open.then_some(model)
    }

    /// Whether any claim is forwarded as a header field.
    pub fn passes_claims_on(&self) -> bool {
        self.issuers.iter().any(|it| !it.claim_headers.is_empty())
    }

    /// Whether a header field is reserved for claims; clients cannot send it.
    pub fn is_for_claims(&self, name: &[u8]) -> bool {
        let mut rules = self.issuers.iter().flat_map(|it| &it.claim_headers);
        rules.any(|rule| name.eq_ignore_ascii_case(rule.header.as_bytes()))
    }
}

/// The listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listen {
    pub address: core::net::SocketAddr,
    pub trusted_hops: u32,
    pub tls: Option<Tls>,
    pub key_locations: KeyLocations,
    pub health: Health,
    pub judged_bytes: usize,
    pub limits: Limits,
}

getters! { Listen {
    /// Listening address.
    address: core::net::SocketAddr,
    /// Number of trusted proxies in front, for `x-forwarded-for`.
    trusted_hops: u32,
    /// TLS; plain text if absent.
    tls: Option<&Tls>,
    /// Where a request may carry an API key.
    key_locations: &KeyLocations,
    /// Who may query liveness and readiness.
    health: Health,
    /// Maximum size of a body that a filter judges where a sandbox host is behind it; 0: none. At
    /// most [`Limits::hold_bytes`].
    judged_bytes: usize,
    /// Limits of requests and connections.
    limits: &Limits,
} }

impl Listen {
    /// Whether Envoy requests client certificates, and so writes `x-forwarded-client-cert` itself.
    pub fn asks_for_certificates(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
    }
}

/// Limits of requests and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the raw type says what each bounds")]
pub struct Limits {
    pub header_bytes: usize,
    pub headers: usize,
    pub body_bytes: usize,
    pub hold_bytes: usize,
    /// Maximum ratio of expanded to compressed bytes.
    pub max_expansion: usize,
    pub buffered_bytes: usize,
    pub timeout_ms: u64,
    pub stream_ms: u64,
    pub handshake_ms: u64,
    pub idle_ms: u64,
    pub connections: u32,
    pub streams_per_connection: u32,
    pub streams_per_client: u64,
}

/// Minimum idle timeout of a stream, in milliseconds.
const MIN_STREAM_IDLE_MS: u64 = 10_000;

impl Limits {
    /// How long a stream may be idle, in milliseconds: twice `timeout_ms`, at least 10 s, at most
    /// the whole stream.
    pub fn stream_idle_ms(&self) -> u64 {
        let idle_ms = self.timeout_ms.saturating_mul(2).max(MIN_STREAM_IDLE_MS);
        idle_ms.min(self.stream_ms)
    }
}

/// A client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Client {
    pub name: String,
    /// Not an `Option<u64>`, which is twice as large.
    pub concurrency: Option<NonZeroU64>,
    /// Rare fields are boxed to keep other clients small.
    pub jwt: Option<Box<JwtRule>>,
    pub mtls: Option<Box<PeerName>>,
    pub metadata: Option<Box<MetadataRule>>,
    pub sources: Vec<Network>,
}

getters! { Client {
    /// Name of the client in logs, buckets and the context.
    name: &str,
    /// Networks that it may call from; empty for any.
    sources: &[Network],
} }

impl Client {
    /// Maximum requests in flight over all grants.
    pub fn concurrency(&self) -> Option<u64> {
        self.concurrency.map(NonZeroU64::get)
    }

    /// Certificates that authenticate it.
    pub fn mtls(&self) -> Option<&PeerName> {
        self.mtls.as_deref()
    }

    /// Tokens that authenticate it.
    pub fn jwt(&self) -> Option<&JwtRule> {
        self.jwt.as_deref()
    }

    /// Metadata of another filter that authenticates it.
    pub fn metadata(&self) -> Option<&MetadataRule> {
        self.metadata.as_deref()
    }

    /// Kinds of proof for which it has a rule of its own. API keys are in a table.
    fn proofs(&self) -> Proofs {
        [
            (Proof::Jwt, self.jwt.is_some()),
            (Proof::Mtls, self.mtls.is_some()),
            (Proof::Metadata, self.metadata.is_some()),
        ]
        .into_iter()
        .filter_map(|(proof, has)| has.then_some(proof))
        .collect()
    }
}

/// Kinds of proof that each client can give, in client order.
pub fn proofs_of(clients: &[Client], keys: &[ApiKey]) -> Vec<Proofs> {
    let mut proofs: Vec<Proofs> = clients.iter().map(Client::proofs).collect();
    for key in keys {
        let client = usize::try_from(key.client.0).ok();
        if let Some(own) = client.and_then(|client| proofs.get_mut(client)) {
            *own = own.with(Proof::ApiKey);
        }
    }
    proofs
}

/// An API key, by digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    pub sha256: [u8; 32],
    /// Not an `Option<u64>`, which is twice as large: a policy may have a hundred thousand keys.
    pub expires_unix_s: Option<NonZeroU64>,
    pub client: ClientId,
    pub format: KeyFormat,
}

getters! { ApiKey {
    /// SHA-256 of the whole key.
    sha256: &[u8; 32],
    /// First Unix second at which the key is expired.
    expires_unix_s: Option<NonZeroU64>,
    /// Its client.
    client: ClientId,
    /// Format of the key.
    format: KeyFormat,
} }
