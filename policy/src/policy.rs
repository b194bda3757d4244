//! A validated policy. Every name resolves, every bound is finite, every grant is unambiguous: fields are
//! private, and only [`crate::validate`] makes one.

mod credentials;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::lockout::Lockout;
use crate::raw::Health;
use crate::request::{Codings, Operation, Proof, Proofs, Protocol};

mod allowance;
mod audit;
mod backend;
mod capture;
mod ensemble;
mod grant;
mod handler;
mod key_places;
mod key_set;
mod listed;
mod lookup;
mod model;
mod reach;
mod role;
mod routing;
mod service;
mod shadow;
mod signing;
mod template;

pub use allowance::{Allowance, Budget, Cost, Drawn, Level, Limit, Rate, Unit, Wait};
pub use audit::Audit;
pub use backend::{Backend, BackendTls, CircuitBreaker, OutlierDetection, Retry, Trust};
pub use capture::Capture;
pub use credentials::{
    Algorithm, ClaimHeader, Hash, Issuer, JwtRule, KeyMaterial, MetadataRule, Network, PeerName,
    PublicKey, Revoked, RsaScheme, Serials, Tls,
};
pub use ensemble::{Ensemble, EnsembleStep, Joint};
pub use grant::{Grant, OwnHandlers};
pub use handler::{BUILTIN, Handler};
pub use key_places::{KeyPlaces, MAX_KEY_HEADER_BYTES};
pub use key_set::{KeySetUrl, Server};
pub(crate) use lookup::KEY_PLACE;
pub use lookup::Lookup;
pub(crate) use model::Rules;
pub use model::{Accepts, Decoupled, EMPTY_FINAL_RESPONSE, Media, Model, ModelLimits};
pub use reach::{Fetch, Target};
pub(crate) use role::{Granted, RoleId};
pub use routing::{Routing, ShadowVersion};
pub use service::{Counter, RateLimitService, Redis};
pub use shadow::{Shadow, note};
pub use signing::{SignedAs, SignedBy};
pub use template::{Place, Pointer, Step, Template, Templates, is_taken};

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(crate) u32);
    };
}

index!(
    /// A client of one [`Policy`].
    ClientId
);
index!(
    /// A model of one [`Policy`].
    ModelId
);
index!(
    /// A grant of one [`Policy`].
    GrantId
);

/// A validated policy.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) listen: Listen,
    pub(crate) issuers: Vec<Issuer>,
    pub(crate) revoked: Revoked,
    pub(crate) clients: Vec<Client>,
    pub(crate) models: Vec<Model>,
    pub(crate) templates: Templates,
    pub(crate) grants: Vec<Grant>,
    pub(crate) rate_limit_service: Option<RateLimitService>,
    pub(crate) backends: BTreeMap<String, Backend>,
    pub(crate) handlers: BTreeMap<String, Handler>,
    pub(crate) models_by_name: BTreeMap<String, ModelId>,
    pub(crate) granted: Granted,
    /// What clients of a role may do with some model or other, where a body is yet to name it.
    pub(crate) reachable: BTreeSet<(RoleId, Protocol, Operation)>,
    /// Types of which some model takes bodies as they are.
    pub(crate) raw_types: BTreeSet<String>,
    /// Codings of which some model takes bodies.
    pub(crate) codings: Codings,
    pub(crate) lockout: Option<Lockout>,
    pub(crate) audit: Audit,
    pub(crate) capture: Option<Capture>,
}

impl Policy {
    /// The listener and its bounds.
    pub const fn listen(&self) -> &Listen {
        &self.listen
    }

    /// Who may sign tokens, in name order.
    pub fn issuers(&self) -> &[Issuer] {
        &self.issuers
    }

    /// What counts no more.
    pub const fn revoked(&self) -> &Revoked {
        &self.revoked
    }

    /// Every client, in name order.
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// Every model, in name order.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// Every grant, in the order written.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// Inference servers by name.
    pub const fn backends(&self) -> &BTreeMap<String, Backend> {
        &self.backends
    }

    /// Handlers by name.
    pub const fn handlers(&self) -> &BTreeMap<String, Handler> {
        &self.handlers
    }

    /// Who counts limits of scope `global`: there is one where a grant has such a limit.
    pub const fn rate_limit_service(&self) -> Option<&RateLimitService> {
        self.rate_limit_service.as_ref()
    }

    /// What wrong credentials come to, if anything.
    pub const fn lockout(&self) -> Option<&Lockout> {
        self.lockout.as_ref()
    }

    /// Which calls of handlers are kept.
    pub const fn capture(&self) -> Option<&Capture> {
        self.capture.as_ref()
    }

    /// The audit log.
    pub const fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The models that have a route of their own.
    pub const fn templates(&self) -> &Templates {
        &self.templates
    }

    /// A client by its name.
    pub fn client_id(&self, name: &str) -> Option<ClientId> {
        let clients = &self.clients;
        let place = clients.binary_search_by(|client| client.name.as_str().cmp(name));
        u32::try_from(place.ok()?).ok().map(ClientId)
    }

    /// A model by its public name.
    pub fn model_id(&self, name: &str) -> Option<ModelId> {
        self.models_by_name.get(name).copied()
    }

    /// Every grant with its id.
    pub fn grants_by_id(&self) -> impl Iterator<Item = (GrantId, &Grant)> {
        (0..).map(GrantId).zip(&self.grants)
    }

    /// A client; `None` only for an id of another policy.
    pub fn client(&self, id: ClientId) -> Option<&Client> {
        self.clients.get(usize::try_from(id.0).ok()?)
    }

    /// A model; `None` only for an id of another policy.
    pub fn model(&self, id: ModelId) -> Option<&Model> {
        self.models.get(usize::try_from(id.0).ok()?)
    }

    /// A grant; `None` only for an id of another policy.
    pub fn grant(&self, id: GrantId) -> Option<&Grant> {
        self.grants.get(usize::try_from(id.0).ok()?)
    }

    /// Who may do what: client, model, index of the version, operation, and the one grant by which.
    pub fn granted(
        &self,
    ) -> impl Iterator<Item = (ClientId, ModelId, u32, Operation, GrantId)> + '_ {
        self.granted.iter()
    }

    /// The one grant by which a client may do this with a version of a model, by its index.
    pub fn grant_for(
        &self,
        client: ClientId,
        model: ModelId,
        version: u32,
        operation: Operation,
    ) -> Option<GrantId> {
        self.granted.get(client, model, version, operation)
    }

    /// Whether a client may do this over a protocol with any model at all.
    pub(crate) fn reaches(
        &self,
        client: ClientId,
        protocol: Protocol,
        operation: Operation,
    ) -> bool {
        let role = self.granted.role(client);
        role.is_some_and(|role| self.reachable.contains(&(role, protocol, operation)))
    }

    /// What this policy can charge, so that a driver can make the slots before the first request: every limit of every grant, for each of
    /// its clients by itself.
    pub fn allowances(&self) -> impl Iterator<Item = (&Grant, &Client, Allowance)> {
        self.grants.iter().flat_map(move |grant| {
            let clients = grant.clients.iter().filter_map(|id| self.client(*id));
            clients.flat_map(move |client| {
                let allowances = grant.per_request().chain(grant.per_content());
                allowances.map(move |allowance| (grant, client, allowance))
            })
        })
    }
}

/// The listener.
#[derive(Clone, Debug)]
pub struct Listen {
    pub(crate) address: core::net::SocketAddr,
    pub(crate) trusted_hops: u32,
    pub(crate) tls: Option<Tls>,
    pub(crate) key_places: KeyPlaces,
    pub(crate) health: Health,
    pub(crate) limits: Limits,
}

impl Listen {
    /// Where the gate listens.
    pub const fn address(&self) -> core::net::SocketAddr {
        self.address
    }

    /// Proxies in front of the gate whose `x-forwarded-for` is believed.
    pub const fn trusted_hops(&self) -> u32 {
        self.trusted_hops
    }

    /// TLS; plain text without it.
    pub const fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Whether Envoy asks clients for certificates, and so makes `x-forwarded-client-cert` itself.
    pub fn asks_for_certificates(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
    }

    /// Where a request may carry an API key.
    pub const fn key_places(&self) -> &KeyPlaces {
        &self.key_places
    }

    /// Who may ask for liveness and readiness.
    pub const fn health(&self) -> Health {
        self.health
    }

    /// Bounds on what is read.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// Bounds on what is read; see [`crate::raw::Limits`] for what each bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the raw type says what each bounds")]
pub struct Limits {
    pub header_bytes: usize,
    pub headers: usize,
    pub body_bytes: usize,
    pub hold_bytes: usize,
    /// Most bytes that one byte of a compressed body may stand for.
    pub max_expansion: usize,
    pub buffered_bytes: usize,
    pub timeout_ms: u64,
    pub stream_ms: u64,
    pub connections: u32,
    pub streams_per_connection: u32,
    pub streams_per_client: u64,
}

/// A client.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) name: String,
    pub(crate) api_keys: Vec<ApiKey>,
    pub(crate) concurrency: Option<u64>,
    /// Few clients have what is in a box: it takes no room in the others.
    pub(crate) jwt: Option<Box<JwtRule>>,
    pub(crate) mtls: Option<PeerName>,
    pub(crate) metadata: Option<Box<MetadataRule>>,
    pub(crate) sources: Vec<Network>,
}

impl Client {
    /// Its name: logs, buckets and the context carry it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its keys' digests.
    pub fn api_keys(&self) -> &[ApiKey] {
        &self.api_keys
    }

    /// Requests to models that it may have in flight at once, whatever the grant.
    pub const fn concurrency(&self) -> Option<u64> {
        self.concurrency
    }

    /// Tokens that prove it.
    pub fn jwt(&self) -> Option<&JwtRule> {
        self.jwt.as_deref()
    }

    /// Certificates that prove it.
    pub const fn mtls(&self) -> Option<&PeerName> {
        self.mtls.as_ref()
    }

    /// Another filter's word for it.
    pub fn metadata(&self) -> Option<&MetadataRule> {
        self.metadata.as_deref()
    }

    /// Kinds of proof that it has a rule for.
    pub fn proofs(&self) -> Proofs {
        [
            (Proof::ApiKey, !self.api_keys.is_empty()),
            (Proof::Jwt, self.jwt.is_some()),
            (Proof::Mtls, self.mtls.is_some()),
            (Proof::Metadata, self.metadata.is_some()),
        ]
        .into_iter()
        .filter_map(|(proof, has)| has.then_some(proof))
        .collect()
    }

    /// Networks that it calls from; empty for anywhere.
    pub fn sources(&self) -> &[Network] {
        &self.sources
    }
}

/// An API key, by digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiKey {
    pub(crate) sha256: [u8; 32],
    pub(crate) expires_unix_s: Option<u64>,
}

impl ApiKey {
    /// SHA-256 of the whole key.
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// The first Unix second at which it no longer counts.
    pub const fn expires_unix_s(&self) -> Option<u64> {
        self.expires_unix_s
    }
}
