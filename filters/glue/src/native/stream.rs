//! One request in the in-memory proxy, callback by callback, with Envoy's semantics:
//!
//! - filters stand in a row: what one passes on, the next is given, and what the last passes on goes to the upstream;
//! - a paused body accumulates, and every body callback is told how much is held in all;
//! - a body that trailers follow does not say that it ended;
//! - after a local answer nothing more is delivered but the log callback;
//! - the first local answer counts; further ones, which would be the filter's fault, are counted in [`Logged::answers`].

use std::collections::BTreeMap;
use std::rc::Rc;

use tensorgate_policy::Now;
use tensorgate_wire::Answer;
use tensorgate_wire::headers::CERTIFICATE;

use super::store::Store;
use super::{Outcome, Peer};
use crate::gate::Gate;
use crate::host::{Action, Field, HostFault, Level, Proxy, Shared, SharedStore};
use crate::record::{Record, Verdict, property};
use crate::root::GateRoot;
use crate::shared_identity;

/// proxy-wasm's `BAD_ARGUMENT`.
const BAD_ARGUMENT: u32 = 2;

/// What a filter told its proxy beside the outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logged {
    /// Log lines.
    pub lines: Vec<(Level, String)>,
    /// Counted outcomes: one a request.
    pub counted: Vec<Verdict>,
    /// Counted denials in shadow.
    pub shadowed: Vec<String>,
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
            held: Vec::new(),
            properties,
            sent: Vec::new(),
            dispatched: false,
            complete: false,
            answer: None,
            entries: 0,
            resumed: false,
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

    /// Moves both clocks.
    pub fn set_now(&mut self, now: Now) {
        self.io.now = now;
    }

    /// Delivers the headers.
    pub fn send_headers(&mut self, fields: &[Field], end_of_stream: bool) {
        self.io.headers = self.io.admit(fields);
        self.headers_to(0, end_of_stream);
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
        self.io.held.clone_from(&hop.held);
        let bytes = hop.held.len();
        if hop.gate.on_request_body(&mut self.io, bytes, last) == Action::Continue {
            self.go_on(place, last);
        }
    }

    fn trailers_to(&mut self, place: usize) {
        let Some(hop) = self.hops.get_mut(place) else {
            self.io.complete = true;
            return;
        };
        hop.trailed = true;
        self.io.held.clone_from(&hop.held);
        if hop.gate.on_request_trailers(&mut self.io) == Action::Continue {
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
        self.io.held.clone_from(&hop.held);
        hop.gate.wake(&mut self.io);
        if !core::mem::take(&mut self.io.resumed) {
            return;
        }
        let (last, trailed) = (hop.last, hop.trailed);
        let next = place.saturating_add(1);
        if last && !trailed && hop.held.is_empty() {
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

    /// The upstream answers.
    pub fn answered_by_upstream(&mut self) {
        let details = (
            "response.code_details".to_owned(),
            "via_upstream".to_owned(),
        );
        self.io.properties.extend([details]);
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
        let outcome = match self.io.answer {
            Some(answer) => Some(Outcome::Denied(answer)),
            None if self.io.complete => Some(Outcome::Forwarded {
                headers: self.io.headers,
                body: self.io.sent,
            }),
            None => None,
        };
        // A filter may refuse a body that is passing after others behind it have let the head go on.
        let last = self.hops.iter().rev().find(|hop| hop.reached);
        let refuser = (self.hops.iter()).find(|hop| hop.gate.record().reason.is_some());
        let record = refuser.or(last).map(|hop| hop.gate.record().clone());
        (outcome, record.unwrap_or_default(), self.io.logged)
    }
}

impl Io {
    /// A client's fields as the proxy shows them to filters.
    fn admit(&self, fields: &[Field]) -> Vec<Field> {
        let mut admitted: Vec<Field> = fields
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
            .filter(|(name, _)| name != b"x-request-id" && name != CERTIFICATE)
            .collect();
        if let Some(shown) = &self.peer.certificate {
            // Where others in front are believed, what they wrote comes before what this proxy has verified.
            let before = fields
                .iter()
                .filter(|(name, _)| self.appends && name.eq_ignore_ascii_case(CERTIFICATE));
            let own = shown.header().into_bytes();
            let values: Vec<_> = before
                .map(|(_, value)| value.clone())
                .chain([own])
                .collect();
            admitted.push((CERTIFICATE.to_vec(), values.join(&b","[..])));
        }
        admitted.push((
            b"x-request-id".to_vec(),
            self.request_id.clone().into_bytes(),
        ));
        admitted
    }
}

impl SharedStore for Io {
    fn get(&mut self, key: &str) -> Result<Option<Shared>, HostFault> {
        self.store.get(key)
    }

    fn swap(&mut self, key: &str, value: &[u8], token: u32) -> Result<bool, HostFault> {
        self.store.swap(key, value, token)
    }

    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), HostFault> {
        self.store.put(key, value)
    }
}

impl Proxy for Io {
    fn request_headers(&mut self) -> Result<Vec<Field>, HostFault> {
        Ok(self.headers.clone())
    }

    fn replace_request_headers(&mut self, fields: &[(&str, &str)]) -> Result<(), HostFault> {
        self.headers = fields
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        Ok(())
    }

    fn set_request_header(&mut self, name: &str, value: &str) -> Result<(), HostFault> {
        let is_it = |(known, _): &Field| known == name.as_bytes();
        let field = (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        let place = self.headers.iter().position(is_it);
        self.headers.retain(|known| !is_it(known));
        self.headers
            .insert(place.unwrap_or(self.headers.len()), field);
        Ok(())
    }

    fn remove_request_header(&mut self, name: &str) -> Result<(), HostFault> {
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name.as_bytes()));
        Ok(())
    }

    fn clear_request_trailers(&mut self) -> Result<(), HostFault> {
        self.trailers.clear();
        Ok(())
    }

    fn request_body(&mut self, max_bytes: usize) -> Result<Vec<u8>, HostFault> {
        let body: Vec<u8> = self.held.iter().take(max_bytes).copied().collect();
        self.logged.body_bytes_read = self.logged.body_bytes_read.saturating_add(body.len());
        Ok(body)
    }

    fn respond(&mut self, answer: &Answer) -> Result<(), HostFault> {
        self.logged.answers = self.logged.answers.saturating_add(1);
        self.answer.get_or_insert_with(|| answer.clone());
        Ok(())
    }

    fn resume(&mut self) -> Result<(), HostFault> {
        self.resumed = true;
        Ok(())
    }

    fn tick_soon(&mut self) {}

    fn now(&mut self) -> Result<Now, HostFault> {
        Ok(self.now)
    }

    fn source_address(&mut self) -> Option<String> {
        Some(self.peer.address.clone())
    }

    fn log(&mut self, level: Level, line: &str) {
        self.logged.lines.push((level, line.to_owned()));
    }

    fn count(&mut self, verdict: Verdict) {
        self.logged.counted.push(verdict);
    }

    fn count_shadow(&mut self, reason: &str) {
        self.logged.shadowed.push(reason.to_owned());
    }

    fn property(&mut self, path: &[&str]) -> Result<Option<Vec<u8>>, HostFault> {
        let value = self.properties.get(&path.join("."));
        Ok(value.map(|value| value.clone().into_bytes()))
    }

    fn set_property(&mut self, name: &str, value: &str) -> Result<(), HostFault> {
        if name == shared_identity::PROPERTY && self.properties.contains_key(name) {
            return Err(HostFault {
                call: "set_property",
                status: BAD_ARGUMENT,
            });
        }
        self.properties.insert(name.to_owned(), value.to_owned());
        if name == shared_identity::PROPERTY || name == property::FILTER {
            return Ok(());
        }
        if name == property::ENTRY {
            self.logged.entry = Some(value.to_owned());
            return Ok(());
        }
        self.logged.properties.retain(|(known, _)| known != name);
        self.logged
            .properties
            .push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    fn next_entry(&mut self) -> Option<String> {
        self.entries = self.entries.saturating_add(1);
        Some(format!("{:016x}.{}", 0, self.entries))
    }
}
