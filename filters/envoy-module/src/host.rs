//! The port of one request during a hook. What may end the stream is carried out after the gate has
//! returned, because Envoy may call further hooks, and destroy the stream, before it returns.

use tensorgate_filter_core::host::{
    Fields, HasStore, HostFault, Level, LimitCallOutcome, Proxy, SharedStore, Verdict,
};
use tensorgate_filter_core::report::property::VIA_UPSTREAM;
use tensorgate_identity::{
    ConfirmationFault, KnownSignatures, RingVerifier, Verifier, VerifyFault,
};
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::policy::KeyMaterial;
use tensorgate_policy::{Now, SmolStr, format_smolstr};
use tensorgate_wire::Answer;
use tensorgate_wire::context::Key;

use crate::abi::{self, Attribute, Body, Call, Headers, LogLevel};
use crate::clock;
use crate::state::StreamState;
use crate::store::Store;

/// The smallest body that is read in the pieces in which Envoy has it. In a debug build it is
/// smaller, so that the small bodies of tests are read in both ways.
const MIN_LENT_BYTES: usize = if cfg!(debug_assertions) { 64 } else { 64 << 10 };

/// Valid signatures of tokens, for all workers.
static SIGNATURES: KnownSignatures = KnownSignatures::new();

/// Name of a property in Envoy's filter state: as of a wasm module, so that the same access log
/// shows both.
pub fn state_name(property: &str) -> SmolStr {
    // Each is short enough to need no allocation.
    format_smolstr!("wasm.{property}")
}

/// What the gate has asked for.
#[derive(Debug, Default)]
pub struct Effects {
    /// The response to the client.
    pub answer: Option<Answer>,
    /// What is forwarded instead of the body that Envoy holds.
    pub body: Option<Vec<u8>>,
    /// Whether the request goes on.
    pub resume: bool,
}

/// The port.
pub struct Host<'h> {
    call: &'h Call<'h>,
    stream: &'h StreamState,
    effects: Effects,
}

impl<'h> Host<'h> {
    pub fn new(call: &'h Call<'h>, stream: &'h StreamState) -> Self {
        Self {
            call,
            stream,
            effects: Effects::default(),
        }
    }

    pub fn into_effects(self) -> Effects {
        self.effects
    }

    /// The buffers with the part of the request's body that is not forwarded, in order. What an
    /// earlier filter has held is in both.
    fn request_body_buffers(&self) -> &'static [Body] {
        if self.stream.holds.get() && !self.call.is_received_buffered() {
            &[Body::BufferedRequest, Body::ReceivedRequest]
        } else {
            &[Body::ReceivedRequest]
        }
    }

    /// Bytes of these buffers.
    fn bytes(&self, buffers: &[Body]) -> usize {
        let sizes = buffers.iter().map(|buffer| self.call.body_bytes(*buffer));
        sizes.fold(0, usize::saturating_add)
    }

    /// Bytes of the request's body that Envoy has.
    pub fn request_body_bytes(&self) -> usize {
        self.bytes(self.request_body_buffers())
    }

    /// New bytes of the response's body.
    pub fn response_body_bytes(&self) -> usize {
        self.call.body_bytes(Body::ReceivedResponse)
    }

    /// At most `max_bytes` of these buffers from offset `start`.
    fn read(&self, buffers: &[Body], start: usize, max_bytes: usize) -> Vec<u8> {
        let left = self.bytes(buffers).saturating_sub(start);
        let mut read = Vec::with_capacity(left.min(max_bytes));
        let mut skip = start;
        for buffer in buffers {
            self.call.read(*buffer, &mut skip, max_bytes, &mut read);
        }
        read
    }

    /// Replaces all fields of a map. Those that stay are not touched.
    fn replace(&self, map: Headers, fields: &[(&str, &str)]) -> Result<(), HostFault> {
        let current = self.call.fields(map)?;
        let stays = |name: &[u8]| fields.iter().any(|(other, _)| other.as_bytes() == name);
        for (name, _) in current.iter().filter(|(name, _)| !stays(name)) {
            self.call.remove(map, name)?;
        }
        for (position, (name, value)) in fields.iter().enumerate() {
            let named = |(other, _): &&(&str, &str)| other == name;
            if fields.iter().take(position).any(|field| named(&field)) {
                continue;
            }
            let now = current.iter().filter(|(own, _)| *own == name.as_bytes());
            let wanted = fields.iter().filter(named);
            if now
                .map(|(_, value)| value)
                .eq(wanted.clone().map(|(_, value)| value.as_bytes()))
            {
                continue;
            }
            self.call.set(map, name, value)?;
            for (_, value) in wanted.skip(1) {
                self.call.add(map, name, value)?;
            }
        }
        Ok(())
    }

    fn count_one(&self, counter: Option<usize>) {
        if let Some(counter) = counter {
            self.call.increment(counter);
        }
    }
}

impl HasStore for Host<'_> {
    fn store(&mut self) -> impl SharedStore {
        Store
    }
}

impl Verifier for Host<'_> {
    fn verify(
        &mut self,
        key: &KeyMaterial,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, VerifyFault> {
        SIGNATURES.verify(&mut RingVerifier, key, signed, signature)
    }

    fn verify_anew(
        &mut self,
        key: &KeyMaterial,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, VerifyFault> {
        RingVerifier.verify(key, signed, signature)
    }
}

impl Proxy for Host<'_> {
    fn request_headers(&mut self) -> Result<Fields, HostFault> {
        self.call.fields(Headers::Request)
    }

    fn replace_request_headers(&mut self, fields: &[(&str, &str)]) -> Result<(), HostFault> {
        self.replace(Headers::Request, fields)
    }

    fn set_request_header(&mut self, name: &str, value: &str) -> Result<(), HostFault> {
        self.call.set(Headers::Request, name, value)
    }

    fn remove_request_header(&mut self, name: &str) -> Result<(), HostFault> {
        self.call.remove(Headers::Request, name.as_bytes())
    }

    fn set_request_trailers(&mut self, fields: &[(&str, &str)]) -> Result<(), HostFault> {
        self.replace(Headers::RequestTrailers, fields)
    }

    fn take_response_trailer(&mut self, name: &str) -> Result<Option<String>, HostFault> {
        let value = self.call.field(Headers::ResponseTrailers, name);
        if value.is_some() {
            self.call
                .remove(Headers::ResponseTrailers, name.as_bytes())?;
        }
        Ok(value.and_then(|value| String::from_utf8(value).ok()))
    }

    fn request_body(&mut self, start: usize, max_bytes: usize) -> Result<Vec<u8>, HostFault> {
        Ok(self.read(self.request_body_buffers(), start, max_bytes))
    }

    fn response_body(&mut self, start: usize, max_bytes: usize) -> Result<Vec<u8>, HostFault> {
        Ok(self.read(&[Body::ReceivedResponse], start, max_bytes))
    }

    fn visit_request_body(&mut self, bytes: usize, visit: &mut dyn FnMut(&[u8])) -> bool {
        // Smaller bodies are copied faster than they are read in pieces.
        if bytes < MIN_LENT_BYTES {
            return false;
        }
        let mut left = bytes;
        for buffer in self.request_body_buffers() {
            self.call.visit(*buffer, |piece| {
                let piece = piece.get(..left).unwrap_or(piece);
                left = left.saturating_sub(piece.len());
                visit(piece);
            });
        }
        true
    }

    fn replace_request_body(&mut self, data: &[u8]) -> Result<(), HostFault> {
        for body in self.request_body_buffers() {
            self.call.drain(*body);
        }
        self.effects.body = None;
        if data.is_empty() {
            return Ok(());
        }
        // Outside of the body's own hook there is no received piece. Envoy may answer the request
        // when it appends to what it holds.
        if self.call.append(Body::ReceivedRequest, data).is_err() {
            self.effects.body = Some(data.to_vec());
        }
        Ok(())
    }

    fn respond(&mut self, answer: &Answer) -> Result<(), HostFault> {
        self.effects.answer = Some(answer.clone());
        Ok(())
    }

    fn resume(&mut self) -> Result<(), HostFault> {
        self.effects.resume = true;
        Ok(())
    }

    // The gate's own flag is read after each hook.
    fn tick_soon(&mut self) {}

    fn now(&mut self) -> Result<Now, HostFault> {
        Ok(clock::now())
    }

    fn source_address(&mut self) -> Option<String> {
        String::from_utf8(self.call.text(Attribute::SourceAddress)?).ok()
    }

    fn log(&mut self, level: Level, line: &str) {
        abi::log(LogLevel::from(level), line);
    }

    fn count(&mut self, verdict: Verdict) {
        self.count_one(self.stream.module.counters.verdict(verdict));
    }

    fn count_overload(&mut self, cause: OverloadCause) {
        self.count_one(self.stream.module.counters.overload(cause));
    }

    fn call_rate_limit_service(&mut self, _: &[u8], _: u64) -> Result<u32, HostFault> {
        // A configuration that needs it is not loaded.
        Err(abi::refused("grpc_call"))
    }

    fn count_limit_call(&mut self, outcome: LimitCallOutcome) {
        self.count_one(self.stream.module.counters.limit_call(outcome));
    }

    fn count_unconfirmed(&mut self, fault: ConfirmationFault) {
        self.count_one(self.stream.module.counters.unconfirmed(fault));
    }

    fn count_shadow(&mut self, reason: &str) {
        self.count_one(self.stream.module.counters.shadow(reason));
    }

    fn property(&mut self, path: &[&str]) -> Result<Option<Vec<u8>>, HostFault> {
        let (stream, newer) = (self.stream, self.stream.module.is_after_1_38);
        Ok(match path {
            [name] => {
                let own = stream.properties.borrow();
                let own = own.iter().find(|(known, _)| known == name);
                match own {
                    Some((_, value)) => Some(value.clone().into_bytes()),
                    None => self.call.state(&state_name(name)),
                }
            }
            ["request", "protocol"] => self.call.text(Attribute::Protocol),
            ["response", "code_details"] if newer => self.call.text(Attribute::CodeDetails),
            // Envoy 1.38 does not show them.
            ["response", "code_details"] => stream.is_of_upstream().then(|| VIA_UPSTREAM.to_vec()),
            ["xds", "filter_chain_name"] if newer => self.call.text(Attribute::FilterChainName),
            ["connection", "uri_san_peer_certificate"] => self.call.text(Attribute::UriSanPeer),
            ["connection", "dns_san_peer_certificate"] => self.call.text(Attribute::DnsSanPeer),
            ["connection", "sha256_peer_certificate_digest"] => {
                self.call.text(Attribute::Sha256Peer)
            }
            ["metadata", "filter_metadata", filter, key] => self.call.metadata(filter, key),
            _ => None,
        })
    }

    fn set_property(&mut self, name: &str, value: &str) -> Result<(), HostFault> {
        if self.stream.module.is_after_1_38 {
            return self.call.set_state(&state_name(name), value);
        }
        // Envoy 1.38 keeps the first value that is written. So it is written at the end, and other
        // filters of the chain do not see it.
        let mut properties = self.stream.properties.borrow_mut();
        match properties.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => value.clone_into(known),
            None => properties.push((name.into(), value.to_owned())),
        }
        Ok(())
    }

    fn new_request_id(&mut self, key: Option<&Key>) -> String {
        self.stream.worker.numbers.new_request_id(key)
    }

    fn next_sequence_number(&mut self) -> Option<String> {
        Some(self.stream.worker.numbers.next_sequence_number())
    }
}
