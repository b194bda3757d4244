//! The in-memory proxy as a filter sees it: the effects of host calls on one request.

use tensorgate_filter_core::IDENTITY_PROPERTY;
use tensorgate_filter_core::host::{
    Field, Fields, HasStore, HostFault, Level, LimitCallOutcome, Proxy, SharedStore, Verdict,
};
use tensorgate_filter_core::report::property;
use tensorgate_identity::{ConfirmationFault, Verifier, VerifyFault};
use tensorgate_policy::Now;
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::policy::KeyMaterial;
use tensorgate_wire::Answer;
use tensorgate_wire::context::Key;
use tensorgate_wire::headers::CERTIFICATE;

use super::Io;

/// proxy-wasm's `BAD_ARGUMENT`.
const BAD_ARGUMENT: u32 = 2;
/// proxy-wasm's `INTERNAL_FAILURE`.
const INTERNAL_FAILURE: u32 = 10;

impl Io {
    /// The client's fields as the proxy shows them to filters.
    pub(super) fn admit(&self, fields: &[Field]) -> Vec<Field> {
        let mut admitted: Vec<Field> = fields
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
            .filter(|(name, _)| name != b"x-request-id" && name != CERTIFICATE)
            .collect();
        if let Some(shown) = &self.peer.certificate {
            // If proxies in front are trusted, their value comes before this proxy's own.
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

#[cfg(feature = "signatures")]
fn verify(key: &KeyMaterial, signed: &[u8], signature: &[u8]) -> Result<bool, VerifyFault> {
    tensorgate_identity::PureVerifier.verify(key, signed, signature)
}

#[cfg(not(feature = "signatures"))]
fn verify(_: &KeyMaterial, _: &[u8], _: &[u8]) -> Result<bool, VerifyFault> {
    Err(VerifyFault("no signature verifier in this build"))
}

impl HasStore for Io {
    fn store(&mut self) -> impl SharedStore {
        self.store.clone()
    }
}

impl Verifier for Io {
    fn verify(
        &mut self,
        key: &KeyMaterial,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, VerifyFault> {
        self.store.note_check(key.algorithm());
        verify(key, signed, signature)
    }
}

impl Proxy for Io {
    fn request_headers(&mut self) -> Result<Fields, HostFault> {
        Ok(self
            .headers
            .iter()
            .map(|(name, value)| (name, value))
            .collect())
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

    fn set_request_trailers(&mut self, fields: &[(&str, &str)]) -> Result<(), HostFault> {
        let fields = fields
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        self.trailers = fields.collect();
        Ok(())
    }

    fn take_response_trailer(&mut self, name: &str) -> Result<Option<String>, HostFault> {
        let is_it = |(known, _): &mut Field| known == name.as_bytes();
        let mut taken = self.answer_trailers.extract_if(.., is_it);
        let value = taken
            .next()
            .and_then(|(_, value)| String::from_utf8(value).ok());
        taken.for_each(drop);
        Ok(value.filter(|value| !value.is_empty()))
    }

    fn request_body(&mut self, start: usize, max_bytes: usize) -> Result<Vec<u8>, HostFault> {
        let body = self.held.iter().skip(start);
        let body: Vec<u8> = body.take(max_bytes).copied().collect();
        self.logged.body_bytes_read = self.logged.body_bytes_read.saturating_add(body.len());
        Ok(body)
    }

    fn visit_request_body(&mut self, bytes: usize, visit: &mut dyn FnMut(&[u8])) -> bool {
        let Some(lent_bytes) = self.lent_bytes else {
            return false;
        };
        let (body, _) = self.held.split_at(bytes);
        body.chunks(lent_bytes).for_each(visit);
        true
    }

    fn response_body(&mut self, start: usize, max_bytes: usize) -> Result<Vec<u8>, HostFault> {
        let body = self.answer_body.iter().skip(start);
        Ok(body.take(max_bytes).copied().collect())
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

    fn resume(&mut self) -> Result<(), HostFault> {
        self.resumed = true;
        Ok(())
    }

    fn tick_soon(&mut self) {}

    fn call_rate_limit_service(&mut self, question: &[u8], _: u64) -> Result<u32, HostFault> {
        if !self.limiter.is_reachable() {
            return Err(HostFault {
                call: "grpc_call",
                status: INTERNAL_FAILURE,
            });
        }
        self.last_token = self.last_token.saturating_add(1);
        self.asked.push((self.last_token, question.to_vec()));
        Ok(self.last_token)
    }

    fn count_limit_call(&mut self, asked: LimitCallOutcome) {
        self.logged.asked.push(asked);
    }

    fn count_unconfirmed(&mut self, fault: ConfirmationFault) {
        self.logged.unconfirmed.push(fault);
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

    fn count_overload(&mut self, cause: OverloadCause) {
        self.logged.overloads.push(cause);
    }

    fn count_shadow(&mut self, reason: &str) {
        self.logged.shadowed.push(reason.to_owned());
    }

    fn property(&mut self, path: &[&str]) -> Result<Option<Vec<u8>>, HostFault> {
        if *path == ["request", "total_size"] {
            let head = self.headers.iter();
            let head: usize = head
                .map(|(name, value)| name.len().saturating_add(value.len()))
                .sum();
            let total = u64::try_from(head.saturating_add(self.received_bytes));
            return Ok(total.ok().map(|total| total.to_le_bytes().to_vec()));
        }
        let value = self.properties.get(&path.join("."));
        Ok(value.map(|value| value.clone().into_bytes()))
    }

    fn set_property(&mut self, name: &str, value: &str) -> Result<(), HostFault> {
        if name == IDENTITY_PROPERTY && self.properties.contains_key(name) {
            return Err(HostFault {
                call: "set_property",
                status: BAD_ARGUMENT,
            });
        }
        self.properties.insert(name.to_owned(), value.to_owned());
        if name == IDENTITY_PROPERTY || name == property::FILTER {
            return Ok(());
        }
        if name == property::SEQUENCE {
            self.logged.entry = Some(value.to_owned());
            return Ok(());
        }
        self.logged.properties.retain(|(known, _)| known != name);
        self.logged
            .properties
            .push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    fn new_request_id(&mut self, _key: Option<&Key>) -> String {
        self.request_id.clone()
    }

    fn next_sequence_number(&mut self) -> Option<String> {
        self.entries = self.entries.saturating_add(1);
        Some(format!("{:016x}.{}", 0, self.entries))
    }
}
