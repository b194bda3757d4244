//! A stream of inferences. Its head is verified once. Each message is then verified as a request of
//! its own under that head.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use tensorgate_policy::Decision;
use tensorgate_policy::decision::BodyPlan;
use tensorgate_policy::policy::RemainingQuota;
use tensorgate_wire::context::Key;
use tensorgate_wire::messages::{Messages, NextMessage};

use super::verdicts::AnnouncedVerdicts;
use super::{AcceptedHead, Caller, Counters, DenialOrigin, DeniedRequest, ModelRequest, Verifier};

/// The accepted head of a stream.
#[derive(Debug)]
pub struct StreamHead {
    caller: Caller,
    decision: Decision,
    plan: BodyPlan,
    /// The claims of the caller's token, which go with each message.
    claims: HeaderMap,
    /// The key that verified the context. It also signs the envelopes of messages.
    key: Arc<Key>,
}

impl StreamHead {
    pub(super) const fn new(
        caller: Caller,
        decision: Decision,
        plan: BodyPlan,
        claims: HeaderMap,
        key: Arc<Key>,
    ) -> Self {
        Self {
            caller,
            decision,
            plan,
            claims,
            key,
        }
    }

    /// The key that signs the envelopes of messages.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The caller.
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// How each message is read.
    pub const fn plan(&self) -> BodyPlan {
        self.plan
    }

    /// The caller of one message. The stream's ID and the message's number form a unique request
    /// ID.
    pub fn caller_of_message(&self, number: u64) -> Caller {
        Caller {
            request_id: format!("{}-{number}", self.caller.request_id),
            ..self.caller.clone()
        }
    }

    /// A message as a request with an accepted head. `checked` and `quota` come from the gate.
    pub fn message_head(
        &self,
        number: u64,
        checked: bool,
        levels: Vec<RemainingQuota>,
    ) -> AcceptedHead {
        AcceptedHead {
            caller: self.caller_of_message(number),
            decision: self.decision.of_message(),
            plan: self.plan,
            content_type: None,
            checked,
            announced: AnnouncedVerdicts::default(),
            remaining_quota: levels,
            claims: self.claims.clone(),
            key: Arc::clone(&self.key),
        }
    }

    /// Verifies every message of a complete stream without envelopes, up to the first denial.
    pub(super) fn verify_messages(
        &self,
        verifier: &Verifier,
        body: &Bytes,
        counters: &dyn Counters,
    ) -> Result<Vec<ModelRequest>, Box<DeniedRequest>> {
        let refused = |denial| {
            Box::new(DeniedRequest {
                denial,
                protocol: self.decision.protocol(),
                caller: self.caller.clone(),
                origin: DenialOrigin::Disagreement,
            })
        };
        let mut messages = Messages::from_client(self.plan.max_bytes);
        let (mut requests, mut at, mut number) = (Vec::new(), 0_usize, 0_u64);
        loop {
            let rest = body.get(at..).unwrap_or_default();
            match messages.take(rest).map_err(refused)? {
                NextMessage::Message { used, .. } => {
                    let frame = body.slice(at..at.saturating_add(used));
                    at = at.saturating_add(used);
                    number = number.saturating_add(1);
                    let admitted = self.message_head(number, true, Vec::new());
                    requests.push(verifier.verify_body(admitted, frame, counters)?);
                }
                _ => {
                    messages.end(rest.len()).map_err(refused)?;
                    return Ok(requests);
                }
            }
        }
    }
}
