//! One request in the in-memory proxy, callback by callback, with Envoy's semantics:
//!
//! - filters form a chain; data that the last filter passes on goes to the upstream;
//! - a paused body accumulates, and every body callback gets the total that is buffered;
//! - a body that trailers follow does not signal its end;
//! - after a local response only the log callback runs;
//! - the first local response counts; further ones are a filter bug, counted in
//!   [`Logged::answers`].

mod io;
mod response;

use std::collections::BTreeMap;
use std::rc::Rc;

use tensorgate_filter_core::gate::Gate;
use tensorgate_filter_core::host::{Action, Field, Level, LimitCallOutcome, Verdict};
use tensorgate_filter_core::report::record::Record;
use tensorgate_filter_core::root::GateRoot;
use tensorgate_identity::ConfirmationFault;
use tensorgate_policy::Now;
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::policy::Grant;
use tensorgate_wire::Answer;

use super::limiter::Limiter;
use super::{Peer, RequestOutcome};
use crate::store::Store;

/// Path of inference streams: their heads are forwarded before their messages.
pub const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// What a filter reported to its proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logged {
    /// Log lines.
    pub lines: Vec<(Level, String)>,
    /// Counted outcomes: one per request.
    pub counted: Vec<Verdict>,
    /// Counted causes of rejections as overloaded.
    pub overloads: Vec<OverloadCause>,
    /// Counted shadow denials.
    pub shadowed: Vec<String>,
    /// Outcomes of calls to the rate-limit service.
    pub asked: Vec<LimitCallOutcome>,
    /// Counted faults of tokens that are bound to what their sender does not have.
    pub unconfirmed: Vec<ConfirmationFault>,
    /// Access log properties with their last values.
    pub properties: Vec<(String, String)>,
    /// Sequence number of the access log entry.
    pub entry: Option<String>,
    /// Local responses; at most one.
    pub answers: usize,
    /// Body bytes that the filter read from the proxy.
    pub body_bytes_read: usize,
}

/// A request in progress.
pub struct Stream {
    hops: Vec<Hop>,
    root: Option<Rc<GateRoot>>,
    io: Io,
}

/// A filter and its part of the request.
struct Hop {
    gate: Gate,
    /// Whether it received the headers.
    reached: bool,
    /// Whether it passed the headers on.
    passed: bool,
    /// Body bytes buffered for it.
    held: Vec<u8>,
    /// Whether the data delivered so far ends the request.
    last: bool,
    /// Whether it received the trailers.
    trailed: bool,
    /// Undelivered data, because the filter still holds the headers.
    stopped: Option<Stopped>,
}

/// Data that a proxy keeps while a filter stops all callbacks.
#[derive(Default)]
struct Stopped {
    body: Option<(Vec<u8>, bool)>,
    trailed: bool,
}

/// The proxy's side of the request.
struct Io {
    store: Store,
    request_id: String,
    peer: Peer,
    /// Whether the proxy appends its certificate information to the client's field.
    appends: bool,
    now: Now,
    headers: Vec<Field>,
    trailers: Vec<Field>,
    /// The chunk of the upstream's response that is delivered.
    answer_body: Vec<u8>,
    /// Trailers of the upstream's response.
    answer_trailers: Vec<Field>,
    /// Body bytes buffered for the filter that is called.
    held: Vec<u8>,
    /// Properties; read-only ones cannot be set again.
    properties: BTreeMap<String, String>,
    /// Body bytes sent to the upstream.
    sent: Vec<u8>,
    /// Whether the headers were sent to the upstream.
    dispatched: bool,
    /// Whether the end of the request was sent to the upstream.
    complete: bool,
    answer: Option<Answer>,
    /// Sequence numbers taken by filters.
    entries: u64,
    /// Whether a filter resumed the request from another callback.
    resumed: bool,
    /// Whether nothing is delivered to a filter that holds headers.
    stops_all: bool,
    /// The pieces in which filters may read bodies without a copy, if they may.
    lent_bytes: Option<usize>,
    /// Body bytes received from the client.
    received_bytes: usize,
    limiter: Limiter,
    /// Unanswered calls to the rate-limit service, by token.
    asked: Vec<(u32, Vec<u8>)>,
    last_token: u32,
    logged: Logged,
}

impl Stream {
    pub(super) fn new(
        roots: &[Rc<GateRoot>],
        store: Store,
        request_id: String,
        peer: Peer,
        now: Now,
    ) -> Self {
        let properties = peer.properties().collect();
        let tls = roots.first().and_then(|root| root.policy().listen().tls());
        let appends = tls.is_some_and(|tls| !tls.forwarders().is_empty());
        let io = Io {
            store,
            request_id,
            peer,
            appends,
            now,
            headers: Vec::new(),
            trailers: Vec::new(),
            answer_body: Vec::new(),
            answer_trailers: Vec::new(),
            held: Vec::new(),
            properties,
            sent: Vec::new(),
            dispatched: false,
            complete: false,
            answer: None,
            entries: 0,
            resumed: false,
            stops_all: false,
            lent_bytes: None,
            received_bytes: 0,
            limiter: Limiter::default(),
            asked: Vec::new(),
            last_token: 0,
            logged: Logged::default(),
        };
        let hop = |root: &Rc<GateRoot>| Hop {
            gate: Gate::new(Rc::clone(root)),
            reached: false,
            passed: false,
            held: Vec::new(),
            last: false,
            trailed: false,
            stopped: None,
        };
        Self {
            hops: roots.iter().map(hop).collect(),
            root: roots.first().cloned(),
            io,
        }
    }

    /// Lends complete bodies to filters in pieces of so many bytes.
    pub(super) const fn lending(mut self, bytes: Option<usize>) -> Self {
        self.io.lent_bytes = bytes;
        self
    }

    /// Sets whether nothing is delivered to a filter that holds headers.
    pub(super) const fn stopping_all(mut self, stops_all: bool) -> Self {
        self.io.stops_all = stops_all;
        self
    }

    /// Appends this stream's filters to another stream's; results of those filters are kept.
    pub(super) fn behind(mut self, before: Self) -> Self {
        self.io.properties = before.io.properties;
        self
    }

    /// Sets the name of the listener's filter chain.
    pub(super) fn carried_by(mut self, chain_name: &str) -> Self {
        let path = "xds.filter_chain_name".to_owned();
        self.io.properties.insert(path, chain_name.to_owned());
        self
    }

    /// Sets the rate-limit service.
    pub(super) fn limited_by(mut self, limiter: &Limiter) -> Self {
        self.io.limiter = limiter.clone();
        self
    }

    /// Sets the version of HTTP, as Envoy names it; none by default.
    pub fn set_http_version(&mut self, version: &str) {
        let path = "request.protocol".to_owned();
        self.io.properties.insert(path, version.to_owned());
    }

    /// Sets both clocks.
    pub fn set_now(&mut self, now: Now) {
        self.io.now = now;
    }

    /// Delivers the headers.
    pub fn send_headers(&mut self, fields: &[Field], end_of_stream: bool) {
        self.io.headers = self.io.admit(fields);
        self.headers_to(0, end_of_stream);
        self.answer_limits();
    }

    /// Delivers a body chunk, possibly empty, unless the request was answered.
    pub fn send_body(&mut self, piece: &[u8], end_of_stream: bool) {
        if self.io.answer.is_none() {
            self.force_body(piece, end_of_stream);
        }
    }

    /// Delivers a body chunk even after a response, as no correct proxy does.
    pub fn force_body(&mut self, piece: &[u8], end_of_stream: bool) {
        self.io.received_bytes = self.io.received_bytes.saturating_add(piece.len());
        self.body_to(0, piece, end_of_stream);
        self.answer_limits();
    }

    /// Delivers the trailers, unless the request was answered.
    pub fn send_trailers(&mut self, fields: &[Field]) {
        if self.io.answer.is_none() {
            self.force_trailers(fields);
        }
    }

    /// Delivers the trailers even after a response, as no correct proxy does.
    pub fn force_trailers(&mut self, fields: &[Field]) {
        self.io.trailers = fields.to_vec();
        self.trailers_to(0);
        self.answer_limits();
    }

    /// Delivers the headers to a filter and, if passed on, to the next ones.
    fn headers_to(&mut self, place: usize, last: bool) {
        let Some(hop) = self.hops.get_mut(place) else {
            self.io.dispatched = true;
            self.io.complete |= last;
            return;
        };
        (hop.reached, hop.last) = (true, last);
        if hop.gate.on_request_headers(&mut self.io, last) == Action::Continue {
            hop.passed = true;
            self.headers_to(place.saturating_add(1), last);
        } else if self.io.stops_all {
            hop.stopped = Some(Stopped::default());
        }
    }

    /// Delivers a body chunk to a filter; all its buffered data is passed on together.
    fn body_to(&mut self, place: usize, piece: &[u8], last: bool) {
        let Some(hop) = self.hops.get_mut(place) else {
            self.io.sent.extend_from_slice(piece);
            self.io.complete |= last;
            return;
        };
        if let Some(stopped) = &mut hop.stopped {
            let (body, ended) = stopped.body.get_or_insert_default();
            body.extend_from_slice(piece);
            *ended = last;
            return;
        }
        hop.held.extend_from_slice(piece);
        hop.last = last;
        let bytes = hop.held.len();
        self.io.held = core::mem::take(&mut hop.held);
        let action = hop.gate.on_request_body(&mut self.io, bytes, last);
        // A filter may have changed the buffered body.
        hop.held = core::mem::take(&mut self.io.held);
        if action == Action::Continue {
            self.go_on(place, last, true);
        }
    }

    fn trailers_to(&mut self, place: usize) {
        let Some(hop) = self.hops.get_mut(place) else {
            self.io.complete = true;
            return;
        };
        if let Some(stopped) = &mut hop.stopped {
            stopped.trailed = true;
            return;
        }
        hop.trailed = true;
        self.io.held = core::mem::take(&mut hop.held);
        let action = hop.gate.on_request_trailers(&mut self.io);
        hop.held = core::mem::take(&mut self.io.held);
        if action == Action::Continue {
            self.go_on(place, false, false);
            self.trailers_to(place.saturating_add(1));
        }
    }

    /// Passes on a filter's buffered headers and body. A chunk is passed on even if the filter has
    /// emptied it (`is_chunk`). An answered request's filter is obeyed too,
    /// so that tests notice a filter that lets such a request through.
    fn go_on(&mut self, place: usize, last: bool, is_chunk: bool) {
        let next = place.saturating_add(1);
        let Some(hop) = self.hops.get_mut(place) else {
            return;
        };
        let held = core::mem::take(&mut hop.held);
        if !core::mem::replace(&mut hop.passed, true) {
            self.headers_to(next, false);
        }
        if last || is_chunk || !held.is_empty() {
            self.body_to(next, &held, last);
        }
    }

    /// Whether a filter waits for a call to another server.
    pub fn waits(&self) -> bool {
        self.hops.iter().any(|hop| hop.gate.waits())
    }

    /// Whether that wait is over, with or without a result.
    pub fn is_due(&self) -> bool {
        let now_ns = self.io.now.monotonic_ns;
        self.hops.iter().any(|hop| hop.gate.is_due(now_ns))
    }

    /// Ends the wait of a filter, due or not.
    pub fn wake(&mut self) {
        let waiting = self.hops.iter().position(|hop| hop.gate.waits());
        let Some((place, hop)) = waiting.and_then(|at| Some((at, self.hops.get_mut(at)?))) else {
            return;
        };
        self.io.held = core::mem::take(&mut hop.held);
        hop.gate.wake(&mut self.io);
        hop.held = core::mem::take(&mut self.io.held);
        self.resumed(place);
        self.answer_limits();
    }

    /// Number of calls to the rate-limit service that wait for an answer.
    pub fn pending_limit_calls(&self) -> usize {
        self.io.asked.len()
    }

    /// Answers one of these calls, counted from the oldest: with this answer, or the service's own.
    pub fn answer_limit_call(&mut self, which: usize, answer: Option<Result<Vec<u8>, u32>>) {
        if which >= self.io.asked.len() {
            return;
        }
        let (token, question) = self.io.asked.remove(which);
        let own = || {
            let root = self.root.as_ref()?;
            Some(
                self.io
                    .limiter
                    .answer(root.policy(), &question, self.io.now),
            )
        };
        if let Some(answer) = answer.or_else(own) {
            self.tell(token, answer);
        }
        self.answer_limits();
    }

    /// Delivers immediate answers of the service.
    pub(super) fn answer_limits(&mut self) {
        let mut kept = Vec::new();
        while !self.io.asked.is_empty() {
            let (token, question) = self.io.asked.remove(0);
            let root = self.root.clone();
            let says = root.and_then(|root| {
                let limiter = &self.io.limiter;
                limiter.says(root.policy(), &question, self.io.now)
            });
            match says {
                Some(answer) => self.tell(token, answer),
                None => kept.push((token, question)),
            }
        }
        self.io.asked = kept;
    }

    /// Delivers an answer to its filter, unless the request was answered meanwhile.
    fn tell(&mut self, token: u32, answer: Result<Vec<u8>, u32>) {
        if self.io.answer.is_some() {
            return;
        }
        let asks = self
            .hops
            .iter()
            .position(|hop| hop.gate.is_waiting_for(token));
        let Some((place, hop)) = asks.and_then(|at| Some((at, self.hops.get_mut(at)?))) else {
            return;
        };
        self.io.held = core::mem::take(&mut hop.held);
        hop.gate.on_rate_limit_response(&mut self.io, token, answer);
        hop.held = core::mem::take(&mut self.io.held);
        self.resumed(place);
    }

    /// Continues a request that a filter has resumed.
    fn resumed(&mut self, place: usize) {
        let Some(hop) = self.hops.get_mut(place) else {
            return;
        };
        if !core::mem::take(&mut self.io.resumed) {
            return;
        }
        let (last, trailed) = (hop.last, hop.trailed);
        let next = place.saturating_add(1);
        if let Some(Stopped { body, trailed }) = hop.stopped.take() {
            hop.passed = true;
            self.headers_to(next, last);
            if let Some((body, last)) = body {
                self.body_to(place, &body, last);
            }
            if trailed {
                self.trailers_to(place);
            }
            return;
        }
        if last && !trailed && hop.held.is_empty() && !hop.passed {
            hop.passed = true;
            return self.headers_to(next, true);
        }
        self.go_on(place, last, false);
        if trailed {
            self.trailers_to(next);
        }
    }

    /// Whether any part of the request was sent to the upstream.
    pub const fn dispatched(&self) -> bool {
        self.io.dispatched
    }

    /// Whether headers are forwarded before the body is evaluated.
    pub fn forwards_headers(&self) -> bool {
        self.hops.iter().any(|hop| hop.gate.forwards_headers())
    }

    /// The longest body that is held until it was checked. A longer one is rejected, or forwarded
    /// in pieces: a host checks it, or the filters do meanwhile. Where a host charges requests
    /// before it reads their bodies, nothing is held.
    pub fn max_held_bytes(&self) -> usize {
        let Some(root) = &self.root else {
            return 0;
        };
        let listen = root.policy().listen();
        if !root.has_host() {
            return listen.limits().hold_bytes;
        }
        let mut of_requests = root.policy().grants().iter().flat_map(Grant::per_request);
        if of_requests.any(|it| it.is_of_host()) {
            return 0;
        }
        listen.judged_bytes()
    }

    /// Body bytes that the proxy buffers for its filters.
    pub fn held_bytes(&self) -> usize {
        self.hops.iter().map(|hop| hop.held.len()).sum()
    }

    /// Whether a filter has rejected the request.
    pub const fn is_denied(&self) -> bool {
        self.io.answer.is_some()
    }

    /// Whether the request is a stream of inferences.
    pub fn is_stream(&self) -> bool {
        let path = (b":path".to_vec(), STREAM.as_bytes().to_vec());
        self.io.headers.contains(&path)
    }

    /// Whether the end of the request was sent to the upstream.
    pub const fn is_complete(&self) -> bool {
        self.io.complete
    }

    /// Body bytes sent to the upstream.
    pub fn sent(&self) -> &[u8] {
        &self.io.sent
    }

    /// The current header fields: the upstream's after dispatch, and the access log's.
    pub fn headers(&self) -> &[Field] {
        &self.io.headers
    }

    /// Trailer fields that the upstream receives.
    pub fn trailers(&self) -> &[Field] {
        &self.io.trailers
    }

    /// Runs the access log callback while the stream continues.
    pub fn log(&mut self) {
        for hop in &mut self.hops {
            hop.gate.on_log(&mut self.io);
        }
    }

    /// Ends the stream, complete or not, as when a client disconnects. There is no outcome if the
    /// request was neither answered nor forwarded completely. The record is that of the last filter
    /// that saw the request.
    pub fn close(mut self) -> (Option<RequestOutcome>, Record, Logged) {
        self.log();
        for hop in &mut self.hops {
            hop.gate.on_done(&mut self.io);
        }
        let outcome = match self.io.answer.take() {
            Some(answer) => Some(RequestOutcome::Denied(answer)),
            None if self.io.complete => Some(RequestOutcome::Forwarded {
                headers: self.io.headers.clone(),
                body: core::mem::take(&mut self.io.sent),
            }),
            None => None,
        };
        // A filter may reject a streaming body after later filters have forwarded the head.
        let last = self.hops.iter().rev().find(|hop| hop.reached);
        let refuser = (self.hops.iter()).find(|hop| hop.gate.record().reason.is_some());
        let record = refuser.or(last).map(|hop| hop.gate.record().clone());
        (outcome, record.unwrap_or_default(), self.io.logged)
    }
}
