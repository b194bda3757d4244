//! One request in the in-memory proxy, callback by callback, with Envoy's semantics:
//!
//! - filters stand in a row: what one passes on, the next is given, and what the last passes on goes to the upstream;
//! - a paused body accumulates, and every body callback is told how much is held in all;
//! - a body that trailers follow does not say that it ended;
//! - after a local answer nothing more is delivered but the log callback;
//! - what stands behind reads a stream's messages and their marks, and answers for the first that was refused;
//! - the first local answer counts; further ones, which would be the filter's fault, are counted in [`Logged::answers`].

use std::collections::BTreeMap;
use std::rc::Rc;

use tensorgate_policy::Now;
use tensorgate_policy::Protocol;
use tensorgate_wire::Answer;
use tensorgate_wire::context::{HEADER, Marker, Refusal};
use tensorgate_wire::messages::{Messages, Taken};

use super::store::Store;
use super::{Outcome, Peer};
use crate::gate::Gate;
use crate::host::{Action, Field, HostFault, Level, Proxy, Shared, SharedStore};
use crate::record::{Record, Verdict, property};
use crate::root::GateRoot;
use crate::shared_identity;

/// proxy-wasm's `BAD_ARGUMENT`.
const BAD_ARGUMENT: u32 = 2;

/// Where streams of inferences go.
const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// What the proxy has verified of a client's certificate. It takes a client's own away.
const CERTIFICATE: &[u8] = b"x-forwarded-client-cert";

/// What a filter told its proxy beside the outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logged {
    /// Log lines.
    pub lines: Vec<(Level, String)>,
    /// Counted outcomes: one a request.
    pub counted: Vec<Verdict>,
    /// Counted denials in shadow.
    pub shadowed: Vec<&'static str>,
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
}

/// The proxy's side of it.
struct Io {
    store: Store,
    request_id: String,
    peer: Peer,
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
        let io = Io {
            store,
            request_id,
            peer,
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
            logged: Logged::default(),
        };
        let hop = |root: &Rc<GateRoot>| Hop {
            gate: Gate::new(Rc::clone(root)),
            reached: false,
            passed: false,
            held: Vec::new(),
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
        hop.reached = true;
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

    /// Whether anything of the request has gone to the upstream.
    pub const fn dispatched(&self) -> bool {
        self.io.dispatched
    }

    /// Whether it is a stream of inferences.
    pub fn is_stream(&self) -> bool {
        let path = (b":path".to_vec(), STREAM.as_bytes().to_vec());
        self.io.headers.contains(&path)
    }

    /// Body bytes that have gone to the upstream.
    pub fn sent(&self) -> &[u8] {
        &self.io.sent
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

    /// A stream as whoever stands behind reads it: its messages, without their marks, or the first that was refused. Any other request as it is.
    fn read_as_stream(&self, headers: Vec<Field>, body: Vec<u8>, record: &mut Record) -> Outcome {
        let value = |name: &str| {
            let mut fields = headers.iter();
            let field = fields.find(|(known, _)| known == name.as_bytes());
            field.and_then(|(_, value)| str::from_utf8(value).ok())
        };
        let key = self.hops.first().and_then(|hop| hop.gate.context_key());
        let (Some(STREAM), Some(context), Some(key)) = (value(":path"), value(HEADER), key) else {
            return Outcome::Forwarded { headers, body };
        };
        let mut messages = Messages::marked(Marker::new(key, context), usize::MAX);
        let (mut plain, mut rest) = (Vec::new(), body.as_slice());
        let refused = loop {
            match messages.take(rest) {
                Ok(Taken::Message { frame, used, .. }) => {
                    plain.extend_from_slice(frame);
                    rest = rest.get(used..).unwrap_or_default();
                }
                Ok(Taken::Refused { refusal, .. }) => break Some(refusal),
                Ok(Taken::Wants(_)) if rest.is_empty() => break None,
                Ok(Taken::Wants(_)) => {
                    break messages
                        .end(rest.len())
                        .err()
                        .map(|it| Refusal::of(it, true).into());
                }
                Err(denial) => break Some(Refusal::of(denial, true).into()),
            }
        };
        let Some(refused) = refused else {
            return Outcome::Forwarded {
                headers,
                body: plain,
            };
        };
        let Refusal {
            denial,
            model,
            rule,
            ..
        } = *refused;
        let answer = Answer::to_denial(&denial, Protocol::OipGrpc, &self.io.request_id);
        record.reason = Some(denial.reason);
        record.detail = denial.cause;
        (record.model, record.rule) = (model, rule);
        Outcome::Denied(answer)
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
        let certificate = self.peer.certificate.as_ref();
        admitted
            .extend(certificate.map(|shown| (CERTIFICATE.to_vec(), shown.header().into_bytes())));
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

    fn prepend_request_body(&mut self, data: &[u8]) -> Result<(), HostFault> {
        self.held.splice(..0, data.iter().copied());
        Ok(())
    }

    fn replace_request_body(&mut self, data: &[u8]) -> Result<(), HostFault> {
        self.held = data.to_vec();
        Ok(())
    }

    fn respond(&mut self, answer: &Answer) -> Result<(), HostFault> {
        self.logged.answers = self.logged.answers.saturating_add(1);
        self.answer.get_or_insert_with(|| answer.clone());
        Ok(())
    }

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

    fn count_shadow(&mut self, reason: &'static str) {
        self.logged.shadowed.push(reason);
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
