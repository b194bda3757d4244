//! One request in the in-memory proxy, callback by callback, with Envoy's semantics:
//!
//! - filters stand in a row: what one passes on, the next is given, and what the last passes on goes to the upstream;
//! - a paused body accumulates, and every body callback is told how much is held in all;
//! - a body that trailers follow does not say that it ended;
//! - after a local answer nothing more is delivered but the log callback;
//! - what stands behind reads a stream's messages and their marks, and answers for the first that was refused;
//! - the first local answer counts; further ones, which would be the filter's fault, are counted in [`Logged::answers`].

mod answered;
mod behind;
mod io;

use std::collections::BTreeMap;
use std::rc::Rc;

use tensorgate_policy::Now;
use tensorgate_wire::Answer;

use super::limiter::Limiter;
use super::store::Store;
use super::{Outcome, Peer};
use crate::gate::Gate;
use crate::host::{Action, Asked, Field, Level};
use crate::record::{Record, Verdict};
use crate::root::GateRoot;
use behind::STREAM;

/// What a filter told its proxy beside the outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logged {
    /// Log lines.
    pub lines: Vec<(Level, String)>,
    /// Counted outcomes: one a request.
    pub counted: Vec<Verdict>,
    /// Counted denials in shadow.
    pub shadowed: Vec<String>,
    /// What questions to the rate limit service came to.
    pub asked: Vec<Asked>,
    /// Access-log properties, later values in place of earlier ones.
    pub properties: Vec<(String, String)>,
    /// The number that the access log's entry bears.
    pub entry: Option<String>,
    /// Local answers given; one at most.
    pub answers: usize,
    /// Bytes that crossed from the proxy to the filter as body.
    pub body_bytes_read: usize,
}

/// A request in play.
pub struct Stream {
    hops: Vec<Hop>,
    root: Option<Rc<GateRoot>>,
    io: Io,
}

/// A filter and what it holds of the request.
struct Hop {
    gate: Gate,
    /// Whether it was given the headers.
    reached: bool,
    /// Whether it passed them on.
    passed: bool,
    /// Body bytes held for it.
    held: Vec<u8>,
    /// Whether the request, as far as it was given, ends there.
    last: bool,
    /// Whether it was given the trailers.
    trailed: bool,
}

/// The proxy's side of it.
struct Io {
    store: Store,
    request_id: String,
    peer: Peer,
    /// Whether it adds its word on a certificate to what came, and does not put it in place of that.
    appends: bool,
    now: Now,
    headers: Vec<Field>,
    trailers: Vec<Field>,
    /// Trailers of the upstream's answer.
    answer_trailers: Vec<Field>,
    /// Body bytes held for the filter that is called.
    held: Vec<u8>,
    /// Properties; what was declared to be set once, is.
    properties: BTreeMap<String, String>,
    /// Body bytes that went to the upstream.
    sent: Vec<u8>,
    /// Whether the headers went to the upstream.
    dispatched: bool,
    /// Whether the request's last part went to the upstream.
    complete: bool,
    answer: Option<Answer>,
    /// Numbers that filters took for it.
    entries: u64,
    /// A filter had it go on, out of a callback that is not its own.
    resumed: bool,
    limiter: Limiter,
    /// Questions to the rate limit service that are not answered, by their tokens.
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
            answer_trailers: Vec::new(),
            held: Vec::new(),
            properties,
            sent: Vec::new(),
            dispatched: false,
            complete: false,
            answer: None,
            entries: 0,
            resumed: false,
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
        };
        Self {
            hops: roots.iter().map(hop).collect(),
            root: roots.first().cloned(),
            io,
        }
    }

    /// Puts this stream's filters behind another's: what was said of the request there holds here.
    pub(super) fn behind(mut self, before: Self) -> Self {
        self.io.properties = before.io.properties;
        self
    }

    /// Puts it on a listener whose filter chain has this name.
    pub(super) fn carried_by(mut self, chain_name: &str) -> Self {
        let path = "xds.filter_chain_name".to_owned();
        self.io.properties.insert(path, chain_name.to_owned());
        self
    }

    /// Has a service count what gateways share.
    pub(super) fn limited_by(mut self, limiter: &Limiter) -> Self {
        self.io.limiter = limiter.clone();
        self
    }

    /// Moves both clocks.
    pub fn set_now(&mut self, now: Now) {
        self.io.now = now;
    }

    /// Delivers the headers.
    pub fn send_headers(&mut self, fields: &[Field], end_of_stream: bool) {
        self.io.headers = self.io.admit(fields);
        self.headers_to(0, end_of_stream);
        self.answer_limits();
    }

    /// Delivers a piece of the body, unless the request was answered; an empty one is a piece too.
    pub fn send_body(&mut self, piece: &[u8], end_of_stream: bool) {
        if self.io.answer.is_none() {
            self.force_body(piece, end_of_stream);
        }
    }

    /// Delivers a piece of the body even to a request that was answered, as no sound proxy does.
    pub fn force_body(&mut self, piece: &[u8], end_of_stream: bool) {
        self.body_to(0, piece, end_of_stream);
        self.answer_limits();
    }

    /// Delivers the trailers, unless the request was answered.
    pub fn send_trailers(&mut self, fields: &[Field]) {
        if self.io.answer.is_none() {
            self.force_trailers(fields);
        }
    }

    /// Delivers the trailers even to a request that was answered, as no sound proxy does.
    pub fn force_trailers(&mut self, fields: &[Field]) {
        self.io.trailers = fields.to_vec();
        self.trailers_to(0);
        self.answer_limits();
    }

    /// Gives the headers to a filter, and on to those behind it as far as they go.
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
        }
    }

    /// Gives a piece of the body to a filter; once it goes on, all it held goes on.
    fn body_to(&mut self, place: usize, piece: &[u8], last: bool) {
        let Some(hop) = self.hops.get_mut(place) else {
            self.io.sent.extend_from_slice(piece);
            self.io.complete |= last;
            return;
        };
        hop.held.extend_from_slice(piece);
        hop.last = last;
        let bytes = hop.held.len();
        self.io.held = core::mem::take(&mut hop.held);
        let action = hop.gate.on_request_body(&mut self.io, bytes, last);
        // A filter may have changed what is held.
        hop.held = core::mem::take(&mut self.io.held);
        if action == Action::Continue {
            self.go_on(place, last);
        }
    }

    fn trailers_to(&mut self, place: usize) {
        let Some(hop) = self.hops.get_mut(place) else {
            self.io.complete = true;
            return;
        };
        hop.trailed = true;
        self.io.held = core::mem::take(&mut hop.held);
        let action = hop.gate.on_request_trailers(&mut self.io);
        hop.held = core::mem::take(&mut self.io.held);
        if action == Action::Continue {
            self.go_on(place, false);
            self.trailers_to(place.saturating_add(1));
        }
    }

    /// Passes on what a filter held: headers, then body. An answered request's filter is obeyed all the same: one that lets it through
    /// is seen to.
    fn go_on(&mut self, place: usize, last: bool) {
        let next = place.saturating_add(1);
        let Some(hop) = self.hops.get_mut(place) else {
            return;
        };
        let held = core::mem::take(&mut hop.held);
        if !core::mem::replace(&mut hop.passed, true) {
            self.headers_to(next, false);
        }
        if last || !held.is_empty() {
            self.body_to(next, &held, last);
        }
    }

    /// Whether a filter waits for something from outside.
    pub fn waits(&self) -> bool {
        self.hops.iter().any(|hop| hop.gate.waits())
    }

    /// Whether what a filter waits for is there, or will not come in time.
    pub fn is_due(&self) -> bool {
        let now_ns = self.io.now.monotonic_ns;
        self.hops.iter().any(|hop| hop.gate.is_due(now_ns))
    }

    /// Ends the wait of the filter that waits, whether it is due or not.
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

    /// Questions to the rate limit service that wait for an answer.
    pub fn limits_asked(&self) -> usize {
        self.io.asked.len()
    }

    /// Answers one of them, counted from the oldest: with this, or as the service has it.
    pub fn tell_limits(&mut self, which: usize, answer: Option<Result<Vec<u8>, u32>>) {
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

    /// The same even to a request that was answered, as a proxy does whose stream is not torn down yet.
    pub fn force_limits_answer(&mut self, which: usize) {
        let answered = self.io.answer.take();
        self.tell_limits(which, None);
        self.io.answer = answered.or(self.io.answer.take());
    }

    /// Answers what the service answers at once.
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

    /// Gives an answer to whoever asked, unless the request was answered meanwhile: its filters are gone.
    fn tell(&mut self, token: u32, answer: Result<Vec<u8>, u32>) {
        if self.io.answer.is_some() {
            return;
        }
        let asks = self.hops.iter().position(|hop| hop.gate.asked_for(token));
        let Some((place, hop)) = asks.and_then(|at| Some((at, self.hops.get_mut(at)?))) else {
            return;
        };
        self.io.held = core::mem::take(&mut hop.held);
        hop.gate.on_limits_answer(&mut self.io, token, answer);
        hop.held = core::mem::take(&mut self.io.held);
        self.resumed(place);
    }

    /// Has a filter's request go on, if it has said so.
    fn resumed(&mut self, place: usize) {
        let Some(hop) = self.hops.get_mut(place) else {
            return;
        };
        if !core::mem::take(&mut self.io.resumed) {
            return;
        }
        let (last, trailed) = (hop.last, hop.trailed);
        let next = place.saturating_add(1);
        if last && !trailed && hop.held.is_empty() && !hop.passed {
            hop.passed = true;
            return self.headers_to(next, true);
        }
        self.go_on(place, last);
        if trailed {
            self.trailers_to(next);
        }
    }

    /// Whether anything of the request has gone to the upstream.
    pub const fn dispatched(&self) -> bool {
        self.io.dispatched
    }

    /// Whether it is a stream of inferences.
    pub fn is_stream(&self) -> bool {
        let path = (b":path".to_vec(), STREAM.as_bytes().to_vec());
        self.io.headers.contains(&path)
    }

    /// Whether the request's last part has gone to the upstream.
    pub const fn is_complete(&self) -> bool {
        self.io.complete
    }

    /// Body bytes that have gone to the upstream.
    pub fn sent(&self) -> &[u8] {
        &self.io.sent
    }

    /// Header fields as the proxy has them now: the upstream's once they are dispatched, and the access log's.
    pub fn headers(&self) -> &[Field] {
        &self.io.headers
    }

    /// Trailer fields that the upstream sees.
    pub fn trailers(&self) -> &[Field] {
        &self.io.trailers
    }

    /// Writes the access log while the stream goes on, as a proxy may be told to.
    pub fn log(&mut self) {
        for hop in &mut self.hops {
            hop.gate.on_log(&mut self.io);
        }
    }

    /// Ends the stream, whole or not: a client that goes away early ends it so. No outcome if the request was neither answered
    /// nor sent on whole. The record is that of the last filter that saw the request.
    pub fn close(mut self) -> (Option<Outcome>, Record, Logged) {
        self.log();
        for hop in &mut self.hops {
            hop.gate.on_done(&mut self.io);
        }
        let outcome = match self.io.answer.take() {
            Some(answer) => Some(Outcome::Denied(answer)),
            None if self.io.complete => Some(Outcome::Forwarded {
                headers: self.io.headers.clone(),
                body: core::mem::take(&mut self.io.sent),
            }),
            None => None,
        };
        // A filter may refuse a body that is passing after others behind it have let the head go on.
        let last = self.hops.iter().rev().find(|hop| hop.reached);
        let refuser = (self.hops.iter()).find(|hop| hop.gate.record().reason.is_some());
        let record = refuser.or(last).map(|hop| hop.gate.record().clone());
        let mut record = record.unwrap_or_default();
        let outcome = match outcome {
            Some(Outcome::Forwarded { headers, body }) => {
                Some(self.read_as_stream(headers, body, &mut record))
            }
            outcome => outcome,
        };
        (outcome, record, self.io.logged)
    }
}
