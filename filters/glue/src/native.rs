//! A proxy in memory: the same callbacks in the same order as Envoy makes them, without Envoy.
//!
//! [`NativeProxy::send`] plays one whole request; [`Stream`] plays one callback at a time. Where it differs from Envoy:
//! Envoy's own limits (header size, buffer size, timeouts) and normalisations (path, `Host`, hop-by-hop fields) are not played:
//! what is given here is what Envoy would hand to a filter. Three are, because filters rely on them: names are lower-cased, a
//! client's own `x-request-id` gives way to one of the proxy's, and its own `x-forwarded-client-cert` to that of its certificate, or stands before it
//! where the policy believes proxies in front.

mod limiter;
mod outside;
mod peer;
mod store;
mod stream;

use std::rc::Rc;

use tensorgate_policy::{Denial, Fault, Now, Policy, Protocol, Reason, Severity};
use tensorgate_wire::Answer;
use tensorgate_wire::settlement::{Settlement, TRAILER};

use crate::enforced::Enforced;
use crate::filter::{Filter, check_chain};
use crate::host::{Answered, Field};
use crate::lockout::make_pages;
use crate::places::make_counts;
use crate::record::Record;
use crate::root::GateRoot;
use crate::shared_limits::make_breaker;
use crate::spend::make_slots;

pub use limiter::{Limiter, LimiterMode};
pub use outside::{Asked, World};
pub use peer::{Peer, PeerCertificate};
pub use store::{Store, StoreMode};
pub use stream::{Logged, Stream};

/// When a proxy is configured.
const START: Now = Now {
    unix_s: 0,
    monotonic_ns: 0,
};

/// A request as a proxy hands it to a filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Header fields in order, pseudo-headers (`:method`, `:path`, `:authority`, `:scheme`) first.
    pub headers: Vec<Field>,
    /// The body in the pieces in which it arrives.
    pub body: Vec<Vec<u8>>,
    /// Trailer fields; `None` if there are none.
    pub trailers: Option<Vec<Field>>,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Refused with this answer.
    Denied(Answer),
    /// Sent on, with these header fields and this body.
    Forwarded {
        /// Header fields that the upstream sees.
        headers: Vec<Field>,
        /// The body.
        body: Vec<u8>,
    },
}

/// A proxy with the gate filter, or a chain of its parts, configured, its buckets fresh.
pub struct NativeProxy {
    /// One for each filter, in order; at least one.
    roots: Vec<Rc<GateRoot>>,
    policy: Policy,
    store: Store,
    warnings: Vec<Fault>,
    /// Requests so far: the source of request ids, so that equal plays give equal ids.
    requests: u64,
    peer: Peer,
    /// Name of the filter chain that carries its connections; none of ours if empty.
    chain_name: String,
    /// What is outside of requests.
    pub world: World,
    limiter: Limiter,
}

impl NativeProxy {
    /// Configures the gate with a bundle (JSON) and the context key (hex).
    ///
    /// # Errors
    /// The faults of the policy.
    pub fn new(bundle_json: &[u8], context_key_hex: &str) -> Result<Self, Vec<Fault>> {
        Self::worker(bundle_json, context_key_hex, Store::default())
    }

    /// The same as one worker of several, or as a proxy after a reload: buckets are in `store`.
    ///
    /// # Errors
    /// The faults of the policy.
    pub fn worker(
        bundle_json: &[u8],
        context_key_hex: &str,
        store: Store,
    ) -> Result<Self, Vec<Fault>> {
        Self::chain(&[Filter::Gate], bundle_json, Some(context_key_hex), store)
    }

    /// Configures a chain of filters, in order. Each reads the same bundle, and the same key if there is one.
    ///
    /// # Errors
    /// The faults of the policy.
    pub fn chain(
        filters: &[Filter],
        bundle_json: &[u8],
        context_key_hex: Option<&str>,
        mut store: Store,
    ) -> Result<Self, Vec<Fault>> {
        check_chain(filters).map_err(|fault| {
            vec![Fault {
                severity: Severity::Error,
                path: String::new(),
                message: fault.to_string(),
                fix: None,
            }]
        })?;
        let mut roots = Vec::new();
        let mut warnings = Vec::new();
        for filter in filters {
            let (root, warned) = GateRoot::configure(*filter, bundle_json, context_key_hex)?;
            make_slots(&mut store, root.policy())
                .and_then(|()| make_counts(&mut store, root.policy()))
                .and_then(|()| make_pages(&mut store, root.policy()))
                .and_then(|()| make_breaker(&mut store, root.policy()))
                .and_then(|()| root.make_keys(&mut store, START))
                .map_err(|fault| vec![crate::root::host_fault(fault)])?;
            warnings = warned;
            roots.push(Rc::new(root));
        }
        // A chain has at least one filter.
        let policy = roots
            .first()
            .map(|root| root.policy().clone())
            .ok_or_else(Vec::new)?;
        Ok(Self {
            roots,
            policy,
            world: World::new(store.clone(), START),
            limiter: Limiter::default(),
            store,
            warnings,
            requests: 0,
            peer: Peer::default(),
            chain_name: String::new(),
        })
    }

    /// Who counts what gateways share from now on; a service of this proxy's own unless it is given one.
    pub fn set_limiter(&mut self, limiter: Limiter) {
        self.limiter = limiter;
    }

    /// Who calls from now on.
    pub fn set_peer(&mut self, peer: Peer) {
        self.peer = peer;
    }

    /// What the listener enforces on streams from now on: one of an older policy goes on carrying the connections that it has.
    pub fn set_enforced(&mut self, stream_ms: u64, hold_bytes: usize) {
        self.chain_name = Enforced::name(stream_ms, hold_bytes);
    }

    /// What validation warned of.
    pub fn warnings(&self) -> &[Fault] {
        &self.warnings
    }

    /// The policy in force.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Plays one request through the filter at a given time.
    pub fn send(&mut self, request: &Request, now: Now) -> (Outcome, Record) {
        self.send_settled(request, now, None)
    }

    /// The same, and its answer says how many tokens it used.
    pub fn send_settled(
        &mut self,
        request: &Request,
        now: Now,
        used: Option<u64>,
    ) -> (Outcome, Record) {
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
        // Nobody fetches here: what waits for that waits in vain.
        stream.wake();
        if let Some(tokens) = used {
            self.settle(&mut stream, tokens);
        }
        let (outcome, record, _) = stream.close();
        // A filter that neither answers nor goes on leaves a request to the proxy's timeout.
        let outcome = outcome.unwrap_or_else(|| {
            let denial = Denial::new(Reason::Overloaded, "the filter came to no verdict");
            Outcome::Denied(Answer::to_denial(&denial, Protocol::OipRest, ""))
        });
        (outcome, record)
    }

    /// A stream's answer comes to its end, and says as the sandbox host does how many tokens it used. The trailers that reach the client.
    pub fn settle(&self, stream: &mut Stream, tokens: u64) -> Vec<Field> {
        let key = self
            .roots
            .first()
            .and_then(|root| root.context_key.as_ref());
        let trailer = key.map(|key| {
            let request_id = stream.request_id().to_owned();
            let value = Settlement { request_id, tokens }.sign(key);
            (TRAILER.as_bytes().to_vec(), value.into_bytes())
        });
        stream.end_answer(trailer.as_slice())
    }

    /// Has every filter do the work that no request does, as far as it is due at a time.
    pub fn tick(&mut self, now: Now) {
        self.world.now = now;
        for root in &self.roots {
            root.on_tick(&mut self.world);
        }
    }

    /// Answers a question that a filter asked, at a time; `None`: no answer comes.
    pub fn answer(&mut self, token: u32, answered: Option<&Answered>, now: Now) {
        self.world.now = now;
        for root in &self.roots {
            root.on_answer(&mut self.world, token, answered);
        }
    }

    /// Has an issuer publish a key set, as if it had been fetched at a time.
    ///
    /// # Errors
    /// What is wrong with the document, or that the keys of no such issuer are fetched.
    pub fn publish(&mut self, issuer: &str, document: &[u8], now: Now) -> Result<(), String> {
        let mut outcome = Err("no filter reads tokens".to_owned());
        for root in self.roots.iter().filter(|root| root.ticks()) {
            outcome = root.publish(&mut self.store, issuer, document, now);
        }
        outcome
    }

    /// Ends the proxy's work, as a worker does whose configuration gives way to another.
    pub fn close(mut self) {
        for root in &self.roots {
            root.close(&mut self.store);
        }
    }

    /// Opens a stream, for tests that need the callbacks one by one or several streams at once.
    pub fn open(&mut self, now: Now) -> Stream {
        self.requests = self.requests.saturating_add(1);
        let request_id = format!("00000000-0000-4000-8000-{:012x}", self.requests);
        let peer = self.peer.clone();
        Stream::new(&self.roots, self.store.clone(), request_id, peer, now)
            .carried_by(&self.chain_name)
            .limited_by(&self.limiter)
    }

    /// Opens a stream behind another proxy's filters: what they said of the request holds.
    pub fn open_behind(&mut self, now: Now, before: Stream) -> Stream {
        self.open(now).behind(before)
    }
}
