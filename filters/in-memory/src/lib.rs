//! An in-memory proxy that makes the same callbacks in the same order as Envoy.
//!
//! [`InMemoryProxy::send`] plays one whole request; [`Stream`] plays one callback at a time.
//! Envoy's own limits (header size, buffer size, timeouts) and normalisations (path, `Host`,
//! hop-by-hop fields) are not simulated: the input is what Envoy would pass to a filter. Three
//! exceptions exist because filters rely on them:
//! - names are lower-cased,
//! - a client's `x-request-id` is replaced,
//! - a client's `x-forwarded-client-cert` is replaced, or kept before the proxy's own value if the
//!   policy trusts proxies in front.

mod configuration;
mod limiter;
mod peer;
pub mod played;
mod store;
mod stream;
mod world;

use std::rc::Rc;

use tensorgate_filter_core::filter::{Filter, check_chain};
use tensorgate_filter_core::host::{Field, HttpResponse, ListenerBounds};
use tensorgate_filter_core::report::record::Record;
use tensorgate_filter_core::root::{Configuration, GateRoot, create_shared_state, host_fault};
use tensorgate_policy::{Denial, Fault, HeaderMode, Now, Policy, Protocol, Reason};
use tensorgate_wire::Answer;

pub use configuration::{compile, configuration};
pub use limiter::{Limiter, LimiterMode};
pub use peer::{Peer, PeerCertificate};
pub use store::{Store, StoreMode};
pub use stream::{Logged, Stream};
pub use world::{PendingHttpCall, World};

/// Time at which a proxy is configured.
const START: Now = Now {
    unix_s: 0,
    monotonic_ns: 0,
};

/// A request as a proxy passes it to a filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Header fields in order, pseudo-headers (`:method`, `:path`, `:authority`, `:scheme`) first.
    pub headers: Vec<Field>,
    /// The chunks of the body.
    pub body: Vec<Vec<u8>>,
    /// Trailer fields; `None` if there are none.
    pub trailers: Option<Vec<Field>>,
}

/// Outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// Rejected with this response.
    Denied(Answer),
    /// Forwarded with these header fields and this body.
    Forwarded {
        /// Header fields that the upstream sees.
        headers: Vec<Field>,
        /// The body.
        body: Vec<u8>,
    },
}

/// A proxy with the combined filter or a chain of filters, configured with empty buckets.
pub struct InMemoryProxy {
    /// One per filter, in order; at least one.
    roots: Vec<Rc<GateRoot>>,
    policy: Policy,
    store: Store,
    warnings: Vec<Fault>,
    /// Requests so far: the source of request ids, so that equal runs give equal ids.
    requests: u64,
    peer: Peer,
    /// Whether no callback runs while a filter holds headers.
    stops_all: bool,
    /// The pieces in which filters may read bodies without a copy, if they may.
    lent_bytes: Option<usize>,
    /// Name of the filter chain of its connections; empty if rendered by another tool.
    chain_name: String,
    /// State outside of requests.
    pub world: World,
    limiter: Limiter,
}

impl InMemoryProxy {
    /// Configures the combined filter with a policy (JSON, [`configuration()`]) and the context key
    /// (hex), as one of several workers or after a reload: buckets are in `store`.
    ///
    /// # Errors
    /// The faults of the policy.
    pub fn worker(
        policy_json: &[u8],
        context_key_hex: &str,
        store: Store,
    ) -> Result<Self, Vec<Fault>> {
        Self::chain(&[Filter::Gate], policy_json, Some(context_key_hex), store)
    }

    /// Configures a chain of filters, in order. Each filter reads the same policy and key.
    ///
    /// # Errors
    /// The faults of the policy.
    pub fn chain(
        filters: &[Filter],
        policy_json: &[u8],
        context_key_hex: Option<&str>,
        store: Store,
    ) -> Result<Self, Vec<Fault>> {
        let headers = HeaderMode::Hold;
        Self::chain_in(headers, filters, policy_json, context_key_hex, store)
    }

    /// As [`Self::chain`], with an explicit header mode.
    pub fn chain_in(
        headers: HeaderMode,
        filters: &[Filter],
        policy_json: &[u8],
        context_key_hex: Option<&str>,
        store: Store,
    ) -> Result<Self, Vec<Fault>> {
        let configuration = configuration(policy_json)?;
        Self::configured(headers, filters, &configuration, context_key_hex, store)
    }

    /// As [`Self::chain_in`], with a configuration that [`compile`] has written.
    ///
    /// # Errors
    /// The faults of the configuration.
    pub fn configured(
        headers: HeaderMode,
        filters: &[Filter],
        configuration: &str,
        context_key_hex: Option<&str>,
        store: Store,
    ) -> Result<Self, Vec<Fault>> {
        check_chain(filters).map_err(|fault| configuration::error(fault.to_string()))?;
        let mut roots = Vec::new();
        let mut warnings = Vec::new();
        for filter in filters {
            let (configuration, warned) =
                Configuration::load(Some(*filter), configuration, context_key_hex, Some(headers))?;
            warnings = warned;
            roots.push(GateRoot::new(&configuration));
        }
        Self::start(roots, warnings, store)
    }

    /// As [`Self::chain_in`], but no host is behind the filters. `policy_json`
    /// must not say anything about a host.
    ///
    /// # Errors
    /// The faults of the policy.
    pub fn without_host(
        headers: HeaderMode,
        filters: &[Filter],
        policy_json: &[u8],
        context_key_hex: Option<&str>,
        store: Store,
    ) -> Result<Self, Vec<Fault>> {
        let members = policy_json.trim_ascii_start().strip_prefix(b"{");
        let policy_json = [br#"{"host": false, "#, members.unwrap_or_default()].concat();
        Self::chain_in(headers, filters, &policy_json, context_key_hex, store)
    }

    /// A proxy with the same filters and an empty store, as after a restart. The policy is not read
    /// again, which is most of the work of a short test.
    ///
    /// # Errors
    /// The store has no room for the policy.
    pub fn restarted(&self) -> Result<Self, Vec<Fault>> {
        let roots = self.roots.iter().map(|root| root.without_state()).collect();
        Self::start(roots, self.warnings.clone(), Store::default())
    }

    /// Makes room for the state of each filter.
    fn start(
        roots: Vec<GateRoot>,
        warnings: Vec<Fault>,
        mut store: Store,
    ) -> Result<Self, Vec<Fault>> {
        for root in &roots {
            create_shared_state(&mut store, root, START)
                .map_err(|fault| vec![host_fault(fault)])?;
        }
        // A chain has at least one filter.
        let policy = roots
            .first()
            .map(|root| root.policy().clone())
            .ok_or_else(Vec::new)?;
        let stops_all = roots
            .iter()
            .any(|root| root.headers() == HeaderMode::Forward);
        Ok(Self {
            roots: roots.into_iter().map(Rc::new).collect(),
            policy,
            world: World::new(store.clone(), START),
            limiter: Limiter::default(),
            store,
            warnings,
            requests: 0,
            peer: Peer::default(),
            stops_all,
            lent_bytes: None,
            chain_name: String::new(),
        })
    }

    /// Sets the rate-limit service; by default a proxy has its own.
    pub fn set_limiter(&mut self, limiter: Limiter) {
        self.limiter = limiter;
    }

    /// Sets the peer of the following requests.
    pub fn set_peer(&mut self, peer: Peer) {
        self.peer = peer;
    }

    /// From now on delivers nothing of a request while a filter holds its headers, as Envoy does
    /// without `allow_on_headers_stop_iteration`.
    pub const fn stop_all(&mut self) {
        self.stops_all = true;
    }

    /// From now on filters may read complete bodies in pieces of so many bytes, without a copy.
    pub const fn lend_bodies(&mut self, bytes: Option<usize>) {
        self.lent_bytes = bytes;
    }

    /// Sets the limits that the listener enforces. A listener of an older policy keeps its
    /// connections.
    pub fn set_listener_bounds(&mut self, stream_ms: u64, hold_bytes: usize) {
        self.chain_name = ListenerBounds::name(stream_ms, hold_bytes);
    }

    /// Sets the name of the listener's filter chain.
    pub fn set_filter_chain(&mut self, name: &str) {
        name.clone_into(&mut self.chain_name);
    }

    /// Warnings of the validation.
    pub fn warnings(&self) -> &[Fault] {
        &self.warnings
    }

    /// The policy in force.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Plays one request through the filters at a given time.
    pub fn send(&mut self, request: &Request, now: Now) -> (RequestOutcome, Record) {
        let mut stream = self.open(now);
        stream.send_headers(
            &request.headers,
            request.body.is_empty() && request.trailers.is_none(),
        );
        let mut pieces = request.body.iter().peekable();
        while let Some(piece) = pieces.next() {
            stream.send_body(piece, pieces.peek().is_none() && request.trailers.is_none());
        }
        if let Some(trailers) = &request.trailers {
            stream.send_trailers(trailers);
        }
        // Nothing is fetched here, so a wait for a key ends without a result.
        stream.wake();
        let (outcome, record, _) = stream.close();
        // A filter that neither answers nor continues leaves a request to the proxy's timeout.
        let outcome = outcome.unwrap_or_else(|| {
            let denial = Denial::new(
                Reason::Overloaded,
                "internal: the filter reached no verdict",
            );
            RequestOutcome::Denied(Answer::to_denial(&denial, Protocol::OipRest, ""))
        });
        (outcome, record)
    }

    /// Runs the background work of every filter that is due.
    pub fn tick(&mut self, now: Now) {
        self.world.now = now;
        for root in &self.roots {
            root.on_tick(&mut self.world);
        }
    }

    /// Delivers the response to a filter's HTTP call; `None`: no response.
    pub fn answer(&mut self, token: u32, answered: Option<&HttpResponse>, now: Now) {
        self.world.now = now;
        for root in &self.roots {
            root.on_answer(&mut self.world, token, answered);
        }
    }

    /// Publishes an issuer's key set as if it had been fetched at a time.
    ///
    /// # Errors
    /// What is wrong with the document, or that no such issuer has a key set URL.
    pub fn publish(&mut self, issuer: &str, document: &[u8], now: Now) -> Result<(), String> {
        let mut outcome = Err("no filter verifies tokens".to_owned());
        for root in self.roots.iter().filter(|root| root.ticks()) {
            outcome = root.publish(&mut self.store, issuer, document, now);
        }
        outcome
    }

    /// Shuts the proxy down as a worker does when its configuration is replaced.
    pub fn close(mut self) {
        for root in &self.roots {
            root.close(&mut self.store);
        }
    }

    /// Opens a stream, for tests that drive single callbacks or several streams at once.
    pub fn open(&mut self, now: Now) -> Stream {
        self.requests = self.requests.saturating_add(1);
        let request_id = format!("00000000-0000-4000-8000-{:012x}", self.requests);
        let peer = self.peer.clone();
        Stream::new(&self.roots, self.store.clone(), request_id, peer, now)
            .stopping_all(self.stops_all)
            .lending(self.lent_bytes)
            .carried_by(&self.chain_name)
            .limited_by(&self.limiter)
    }

    /// Opens a stream after another proxy's filters; their results for the request are kept.
    pub fn open_behind(&mut self, now: Now, before: Stream) -> Stream {
        self.open(now).behind(before)
    }
}
